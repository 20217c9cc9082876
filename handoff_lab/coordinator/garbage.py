"""Keeps the garbage collector out of the way while a large run is made ready."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager

_MANY = 20_000  # objects
_SHARE = 0.02  # of the time, that full collections may take
_due = time.monotonic() + 10.0  # when the next one may be


@contextmanager
def collection_paused() -> Iterator[None]:
    """No collections within: what is made there stays, and looking through it all takes a third of the time.

    The collector is the whole process's; where another thread has paused it, that one ends the pause for both.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        if gc.get_count()[0] > _MANY and not gc.get_freeze_count():  # what is frozen, somebody wants to stay so
            _grow_old()
        gc.enable()


def _grow_old() -> None:
    """Let everything count as old; else the next three collections, in mid-run, would each look through what is new.

    That begins Python's own count to the next full collection anew, so now and then there is one here.
    """
    global _due  # noqa: PLW0603 (the collector is the whole process's, too)
    gc.freeze()
    gc.unfreeze()  # into the oldest generation: both only relink lists
    began = time.monotonic()
    if began > _due:
        gc.collect()
        ended = time.monotonic()
        _due = ended + (ended - began) / _SHARE
