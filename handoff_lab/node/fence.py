"""Interrupts that hit the attempt they were meant for, or none.

A page shared by agent and slot: the agent marks an attempt's number, then sends SIGINT; the slot raises only if the
attempt that runs is marked, and looks again right after it begins one. The numbers of what goes to one slot count up,
so that no two on their way share a mark; what was taken back is on its way until the slot has skipped it.

SIGINT without a mark is a nudge: the slot sends what it holds back, and what runs goes on.
"""

from __future__ import annotations

import mmap
import os
import signal
from collections.abc import Callable
from enum import IntEnum
from types import FrameType

_MARKS = 509  # more than are ever on their way to one slot
_CURRENT = _MARKS  # the last words: the number of the attempt that runs
_SETS_UP = _MARKS + 1  # whether set-up is executed for it
_BEFORE = _MARKS + 2  # and bytes of memory that the process had when it began, if that counts for it
_WORDS = _MARKS + 3


class Mark(IntEnum):
    """What the agent wants of an attempt."""

    INTERRUPT = 1
    SKIP = 2  # it was taken back before it began


_INTERRUPT, _SKIP = map(int, Mark)  # plain numbers are quicker


class Fence:
    """The agent's side, over a descriptor that the slot gets too."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("handoff-fence")
        try:
            os.ftruncate(self.fd, _WORDS * 8)
            self._map = mmap.mmap(self.fd, 0)
        except OSError:
            os.close(self.fd)
            raise
        self._words = memoryview(self._map).cast("Q")

    @property
    def current(self) -> int:
        """The number of the attempt that runs, 0 between attempts."""
        return self._words[_CURRENT]

    @property
    def sets_up(self) -> bool:
        """Whether set-up is executed for the attempt that runs."""
        return bool(self._words[_SETS_UP])

    @property
    def before(self) -> int:
        """Bytes of memory that the process had when the latest attempt began whose memory counts."""
        return self._words[_BEFORE]

    def mark(self, number: int, mark: Mark) -> None:
        """Ask something of an attempt."""
        self._words[number % _MARKS] = number * 4 + mark

    def close(self) -> None:
        """Free the page."""
        self._words.release()
        self._map.close()
        os.close(self.fd)


class Fenced:
    """The slot's side: ``begin`` and ``end`` around each attempt, with SIGINT handled in between."""

    def __init__(self, fd: int) -> None:
        self._words = memoryview(mmap.mmap(fd, 0)).cast("Q")
        self._number = 0
        self._on_nudge: Callable[[], None] = lambda: None
        self.broke_import = False  # whether an interrupt hit an import: its modules are half made, and stay so

    def handle_sigint(self, on_nudge: Callable[[], None]) -> None:
        """Take SIGINT over."""
        self._on_nudge = on_nudge
        signal.signal(signal.SIGINT, self._on_sigint)

    def skips(self, number: int) -> bool:
        """Say that this attempt is the next; whether it was taken back. Nothing raises before ``begin``."""
        self._words[_CURRENT] = number
        return self._words[number % _MARKS] == number * 4 + _SKIP

    def weighs(self, nbytes: int) -> None:
        """Say how much memory this process has, before the next attempt is named."""
        self._words[_BEFORE] = nbytes

    def begin(self, number: int) -> None:
        """From here on an interrupt raises, once, ``KeyboardInterrupt``."""
        self._number = number
        if self._is_marked(number):
            self._on_sigint(signal.SIGINT, None)

    def sets_up(self, now: bool) -> None:
        """Say whether set-up is executed."""
        self._words[_SETS_UP] = now

    def end(self) -> None:
        """From here on nothing raises."""
        self._number = 0

    def idle(self) -> None:
        """Say that no attempt runs."""
        self._words[_CURRENT] = 0

    def _on_sigint(self, signum: int, frame: FrameType | None) -> None:
        number = self._number
        if not number:
            return
        if not self._is_marked(number):
            self._number = 0  # what is being sent must not be torn, by another nudge or an interrupt
            self._on_nudge()
            self._number = number
        if self._is_marked(number):
            self._number = 0
            self.broke_import |= _is_importing(frame)
            raise KeyboardInterrupt

    def _is_marked(self, number: int) -> bool:
        return self._words[number % _MARKS] == number * 4 + _INTERRUPT


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
