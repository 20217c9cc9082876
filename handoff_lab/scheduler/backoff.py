"""How long a function waits before it is tried again."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

_MOST_GROWTHS = 64  # beyond any bound, and no overflow


@dataclass(frozen=True, slots=True)
class Backoff:
    """How the delays before retries grow: not at all, unless it says so.

    Parameters
    ----------
    growth
        Each delay is so many times the one before it,
    most_s
        up to so many seconds; a first delay above that stays as it is.
    jitter
        The share of itself that a delay is lengthened by at most, so that what failed together is not tried together.

    Examples
    --------
    >>> [Backoff(growth=2.0, most_s=30.0).delay(5.0, retry, seed="") for retry in (1, 2, 3, 4, 5)]
    [5.0, 10.0, 20.0, 30.0, 30.0]
    """

    growth: float = 1.0
    most_s: float = 60.0
    jitter: float = 0.0

    def delay(self, first: float, retry: int, seed: str) -> float:
        """Seconds before retry number ``retry``, from 1; the same for the same seed."""
        grown = min(first * self.growth ** min(retry - 1, _MOST_GROWTHS), max(first, self.most_s))
        return grown * (1.0 + self.jitter * Random(seed).random())


STEADY = Backoff()
