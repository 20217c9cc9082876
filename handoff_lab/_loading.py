"""Whether this process is just unpickling what was sent to it.

A module that is imported meanwhile must not start a cluster: its nodes would import it again, and so on without end.
"""

from __future__ import annotations

from contextvars import ContextVar, Token

_loading: ContextVar[bool] = ContextVar("handoff_loading", default=False)


class loading:  # noqa: N801 (a context manager; made of a generator it would take three times as long)
    """Mark the time during which code or values are unpickled."""

    __slots__ = ("_token",)

    def __enter__(self) -> None:
        self._token: Token[bool] = _loading.set(True)

    def __exit__(self, *_: object) -> None:
        _loading.reset(self._token)


def is_loading() -> bool:
    """Whether ``loading`` is going on around the caller."""
    return _loading.get()
