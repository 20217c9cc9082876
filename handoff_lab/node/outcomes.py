"""What a slot says of an attempt, as the events that the node tells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from handoff_lab._units import format_bytes
from handoff_lab.messages import AttemptId, Cancelled, Failed, Failure, FailureKind, Finished, FinishedMany
from handoff_lab.node.deaths import timeout_of
from handoff_lab.node.memory import excess_of
from handoff_lab.node.slot import NOTHING_MORE
from handoff_lab.node.task import Task
from handoff_lab.store.payload import Frames
from handoff_lab.store.segments import Segment
from handoff_lab.transport.wire import INLINE_LIMIT


class Successes:
    """What a slot says of brief functions of one run that made results and have nothing more to say, in columns."""

    def __init__(self, run: str, slot: int) -> None:
        self.run = run
        self.ids: list[AttemptId] = []
        self.values: list[Frames] = []
        self._started: list[float] = []
        self._ended: list[float] = []
        self._nbytes: list[int] = []
        self._inline: list[tuple[bytes, ...] | None] = []
        self._slot = slot

    def add(self, id: AttemptId, started: float, ended: float, parts: Sequence[memoryview | Segment]) -> None:
        """One more."""
        self.ids.append(id)
        self._started.append(started)
        self._ended.append(ended)
        nbytes, inline, value = _kept(parts)
        self.values.append(value)
        self._nbytes.append(nbytes)
        self._inline.append(inline)

    def event(self) -> FinishedMany:
        """All of them, as the event that the node tells."""
        count = len(self.ids)
        _, functions, numbers = zip(*self.ids, strict=True)
        return FinishedMany(
            self.run, functions, numbers, self._started, self._ended, self._nbytes, self._inline,
            [self._slot] * count, [None] * count, [""] * count,
        )  # fmt: skip


class Outcome(NamedTuple):
    """When an attempt ran and where, and what there is to say of it; its result is not here."""

    started: float | None
    ended: float
    slot: int
    peak: int | None
    log: str
    failure: Failure | None


def read_outcome(row: list[Any], slot: int) -> Outcome:
    """The outcome in a row: see ``slot``."""
    _, started, ended, _, *more = row
    peak, log, _, failure = more or NOTHING_MORE
    return Outcome(
        started, ended, slot, peak, log, None if failure is None else Failure(FailureKind(failure[0]), *failure[1:])
    )


def finished(task: Task, outcome: Outcome, parts: Sequence[memoryview | Segment]) -> tuple[Finished, Frames]:
    """The end of a task with a result, and the result as it is kept."""
    started, ended, slot, peak, log, _ = outcome
    nbytes, inline, value = _kept(parts)
    assert started is not None
    return Finished(task.attempt.id, started, ended, nbytes, inline, slot, peak, log), value


def homeless(event: Finished, reason: str) -> Failed:
    """The end of an attempt whose result has no place on its node; later, or elsewhere, it may have one."""
    message = f"there is no place for its result of {format_bytes(event.nbytes)}: {reason}"
    failure = Failure(FailureKind.RESULT, message)
    return Failed(event.id, failure, event.started, event.ended, event.slot, event.peak_memory, event.log)


def _kept(parts: Sequence[memoryview | Segment]) -> tuple[int, tuple[bytes, ...] | None, Frames]:
    """Bytes of a result, its frames if it is small, and the result as it is kept."""
    if len(parts) == 1 and type(only := parts[0]) is memoryview and only.nbytes <= INLINE_LIMIT:  # as it is for most
        inline: tuple[bytes, ...] = (only.tobytes(),)
        return only.nbytes, inline, Frames(inline)
    nbytes = sum([part.nbytes for part in parts])
    if nbytes > INLINE_LIMIT:
        return nbytes, None, Frames(tuple(parts)).settled()
    inline = tuple([bytes(part) for part in parts if not isinstance(part, Segment)])
    return nbytes, inline, Frames(inline)  # copied: what arrived is a view of much more


def ended(task: Task, outcome: Outcome) -> Failed | Cancelled:
    """The end of a task without a result."""
    started, ended, slot, peak, log, failure = outcome
    id = task.attempt.id
    if task.stop == "cancel":
        return Cancelled(id, started, ended, log)
    if task.stop == "timeout":
        failure = timeout_of(task.attempt, failure)
    elif task.stop == "memory":
        failure = excess_of(task.attempt, task.used, failure)
    assert failure is not None
    return Failed(id, failure, started, ended, slot, peak, log)
