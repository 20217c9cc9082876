"""How long functions take, learnt from those that ran: what is brief travels in batches."""

from __future__ import annotations

from handoff_lab.node.slot import BRIEF_S

_REMEMBERED = 10_000  # functions
_WEIGHT = 0.3  # of the latest duration, when it is longer than the estimate


class Durations:
    """Estimates by key of code; functions that never ran are taken to be like those that lately ran first.

    Examples
    --------
    >>> durations = Durations()
    >>> durations.brief("f"), durations.known("f")
    (False, False)
    >>> durations.add("f", 0.0001)
    >>> durations.brief("f"), durations.brief("g"), durations.known("g")
    (True, True, False)
    """

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._first = BRIEF_S

    def expected(self, key: str) -> float:
        """Seconds that the function is expected to take."""
        return self._seconds.get(key, self._first)

    def known(self, key: str) -> bool:
        """Whether the function ever ran."""
        return key in self._seconds

    def brief(self, key: str) -> bool:
        """Whether the function is expected to take less than ``BRIEF_S``."""
        return self.expected(key) < BRIEF_S

    def add(self, key: str, seconds: float) -> None:
        """Learn from one more run."""
        old = self._seconds.get(key)
        if old is None:
            self._first = _towards(self._first, seconds)
            if len(self._seconds) >= _REMEMBERED:
                self._seconds.clear()
        self._seconds[key] = seconds if old is None else _towards(old, seconds)


def _towards(estimate: float, seconds: float) -> float:
    # Down at once, for a first run may have imported things; up with care.
    return seconds if seconds < estimate else estimate + _WEIGHT * (seconds - estimate)
