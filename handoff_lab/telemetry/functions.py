"""What is known of one function of a run, and of one attempt at it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from enum import StrEnum


class FunctionStatus(StrEnum):
    """Where a function, or an attempt at it, is."""

    WAITING = "waiting"  # for its inputs
    QUEUED = "queued"  # for room on its node
    RUNNING = "running"
    DONE = "done"
    CACHED = "cached"  # its result was there already
    FAILED = "failed"
    RETRYING = "retrying"
    SKIPPED = "skipped"  # something that it depends on failed
    CANCELLED = "cancelled"


@dataclass(slots=True)
class FunctionRecord:
    """What became of one function. Times are wall-clock seconds, sizes bytes."""

    id: Hashable
    status: FunctionStatus = FunctionStatus.WAITING
    node: str | None = None
    attempts: int = 0
    queued: float | None = None
    started: float | None = None  # of the latest attempt
    ended: float | None = None
    slot: int | None = None
    nbytes: int | None = None
    peak_memory: int | None = None
    error: str | None = None  # of the latest attempt, when it failed
    error_type: str | None = None
    traceback: str | None = None
    log: str = ""  # of the latest attempt
    because: Hashable = None  # whose failure made it impossible

    @property
    def duration(self) -> float | None:
        """Seconds that the latest attempt took."""
        return None if self.started is None or self.ended is None else self.ended - self.started


@dataclass(slots=True)
class AttemptRecord:
    """One try at one function."""

    function: Hashable
    number: int
    node: str | None = None
    slot: int | None = None
    started: float | None = None
    ended: float | None = None
    status: FunctionStatus = FunctionStatus.RUNNING
    error: str | None = None
