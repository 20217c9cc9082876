"""What functions use of the memory that they claim, and when one of them uses too much to go on.

Counted is the memory that is a slot's process's own, beyond what it had when the function began, which it says itself
(see ``fence``): inputs in shared memory are not, nor is what processes that a function starts use.
"""

from __future__ import annotations

import os
import pickle

from handoff_lab._units import format_bytes
from handoff_lab.messages import Attempt, Failure, FailureKind

FACTOR = 1.5  # of its claim: a function that uses more is ended
SPARE_BYTES = 64 * 10**6  # that any function may use beyond its claim, whatever the factor says: modules take memory
_BEYOND_MEASURE = 2**62
_PAGE = os.sysconf("SC_PAGE_SIZE")


def claimed_by(attempt: Attempt) -> int:
    """Bytes of memory that an attempt claims; 0 if it doesn't say, and may use what it likes."""
    return round(attempt.cost.get("memory", 0) * 10**6) if attempt.cost else 0


def limit_of(claimed: int) -> int:
    """Bytes that a function with this claim may use.

    >>> limit_of(10**9), limit_of(10**7)
    (1500000000, 74000000)
    """
    return max(round(FACTOR * claimed), claimed + SPARE_BYTES)


def excess_of(attempt: Attempt, used: int, failure: Failure | None) -> Failure:
    """The failure of what used too much; ``failure`` is what an interrupt made of it, if it answered to that.

    It is not tried again: it would use as much.
    """
    claimed = format_bytes(claimed_by(attempt))
    message = f"it claimed {claimed} of memory and used {format_bytes(used)} when it was ended; raise its memory cost"
    error = pickle.dumps(MemoryError(message), protocol=5)
    traceback = failure.traceback if failure is not None else ""
    return Failure(FailureKind.MEMORY, message, "MemoryError", traceback, error, retryable=False)


class Footprint:
    """The memory of another process."""

    def __init__(self, pid: int) -> None:
        try:
            self._statm = os.open(f"/proc/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # it has ended already
            self._statm = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def own(self) -> int:
        """Bytes that it has for itself; 0 once it has ended."""
        try:
            return _own(os.pread(self._statm, 200, 0))
        except (OSError, ValueError):
            return 0

    def close(self) -> None:
        """Look no more."""
        os.close(self._statm)


def own_memory() -> int:
    """Bytes that this process has for itself; beyond measure if that can't be found out."""
    try:
        with open("/proc/self/statm", "rb", buffering=0) as file:
            return _own(file.read())
    except OSError:
        return _BEYOND_MEASURE


def _own(statm: bytes) -> int:
    _, resident, shared, *_ = statm.split()
    return (int(resident) - int(shared)) * _PAGE
