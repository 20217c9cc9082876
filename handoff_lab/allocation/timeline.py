"""The planned use of one node over time, with gaps into which functions can be inserted."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

# What a function needs of a node while it runs: (dimension, amount) pairs.
Need = Sequence[tuple[int, float]]

# Gaps further back than this many changes of use are left alone, which keeps huge schedules near linear.
_LOOKBACK = 256


class Timeline:
    """Piecewise constant use of a node: slots in dimension 0, then resources.

    Parameters
    ----------
    limits
        The most that may be in use at once, per dimension.
    """

    __slots__ = ("_limits", "_times", "_used")

    def __init__(self, limits: Sequence[float]) -> None:
        self._limits = limits
        self._times = [0.0]  # where the use changes; the last piece has no end and no use
        self._used = [[0.0] for _ in limits]

    def earliest(self, ready: float, duration: float, need: Need) -> float:
        """The first moment, from ``ready`` on, at which ``need`` is free for ``duration``."""
        times = self._times
        pieces = len(times)
        piece = max(bisect_right(times, ready) - 1, pieces - _LOOKBACK)
        start = max(ready, times[piece])
        rooms = [(self._used[dimension], self._limits[dimension] - amount) for dimension, amount in need]
        while True:
            blocked = False
            for used, room in rooms:
                if used[piece] > room:
                    blocked = True
                    break
            piece += 1
            if blocked:
                start = times[piece]
            elif piece == pieces or times[piece] >= start + duration:
                return start

    def add(self, start: float, end: float, need: Need) -> None:
        """Use ``need`` from ``start`` to ``end``."""
        if end <= start:
            return
        first = self._split(start)
        after = self._split(end)
        for dimension, amount in need:
            used = self._used[dimension]
            for piece in range(first, after):
                used[piece] += amount
        self._merge(after)
        self._merge(first)

    def _split(self, time: float) -> int:
        """The piece that begins at ``time``, made if need be."""
        piece = bisect_left(self._times, time)
        if piece == len(self._times) or self._times[piece] != time:
            self._times.insert(piece, time)
            for used in self._used:
                used.insert(piece, used[piece - 1])
        return piece

    def _merge(self, piece: int) -> None:
        """Join ``piece`` to the one before it when nothing changes between them."""
        if piece and all(used[piece - 1] == used[piece] for used in self._used):
            del self._times[piece]
            for used in self._used:
                del used[piece]
