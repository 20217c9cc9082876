"""Whether this process is just unpickling what was sent to it.

A module that is imported meanwhile must not start a cluster: its nodes would import it again, and so on without end.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_loading: ContextVar[bool] = ContextVar("handoff_loading", default=False)


@contextmanager
def loading() -> Iterator[None]:
    """Mark the time during which code or values are unpickled."""
    token = _loading.set(True)
    try:
        yield
    finally:
        _loading.reset(token)


def is_loading() -> bool:
    """Whether ``loading`` is going on around the caller."""
    return _loading.get()
