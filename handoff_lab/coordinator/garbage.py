"""Keeps the garbage collector out of the way while a large run is made ready."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collection_paused() -> Iterator[None]:
    """No collections within: what is made there stays, and looking through it all takes a third of the time.

    Afterwards it counts as old at once; else the next three collections would each look through it, in mid-run. The
    collector is the whole process's; where another thread has paused it, that one ends the pause for both.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():  # else there is something that somebody wants to stay frozen
            gc.freeze()
            gc.unfreeze()  # into the oldest generation: both only relink lists
        gc.enable()
