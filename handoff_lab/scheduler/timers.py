"""What is due later: delayed attempts, the ends of waits, the runs' own timeouts, and asking a tracker again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum, auto
from heapq import heappop, heappush
from itertools import count
from typing import NamedTuple

from handoff_lab.messages import Command, Wake


class Due(Enum):
    """What a timer is for."""

    ASK_TRACKER = auto()
    END_RUN = auto()
    TRY_AGAIN = auto()  # a function that was delayed
    GIVE_UP_WAITING = auto()  # functions that have no node


class Timer(NamedTuple):
    """Names its run by id, so that a run that is over is not kept for its timer."""

    at: float
    order: int
    what: Due
    run: str = ""
    function: int = -1


class Timers:
    """A heap of timers; asks to be woken for the earliest."""

    def __init__(self, emit: Callable[[Command], None]) -> None:
        self._emit = emit
        self._heap: list[Timer] = []
        self._orders = count()
        self._asked: float | None = None  # the wake that was asked for
        self.now = 0.0  # told by the scheduler's caller

    def set(self, delay: float, what: Due, run: str = "", function: int = -1) -> None:
        heappush(self._heap, Timer(self.now + delay, next(self._orders), what, run, function))

    def due(self) -> Iterator[Timer]:
        """Timers whose time has come, the earliest first."""
        self._asked = None
        while self._heap and self._heap[0].at <= self.now:
            yield heappop(self._heap)

    def ask(self) -> None:
        """Ask to be woken for the earliest, if that was not done yet."""
        if self._heap and (self._asked is None or self._heap[0].at < self._asked):
            self._asked = self._heap[0].at
            self._emit(Wake(self._asked))
