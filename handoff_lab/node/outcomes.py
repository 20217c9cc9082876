"""What a slot says of an attempt, as the events that the node tells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from handoff_lab.messages import Cancelled, Failed, Failure, FailureKind, Finished
from handoff_lab.node.deaths import timeout_of
from handoff_lab.node.slot import NOTHING_MORE
from handoff_lab.node.task import Task
from handoff_lab.store.payload import Frames
from handoff_lab.store.segments import Segment
from handoff_lab.transport.wire import INLINE_LIMIT


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
    nbytes = sum([part.nbytes for part in parts])
    inline: tuple[bytes, ...] | None = None
    if nbytes > INLINE_LIMIT:
        value = Frames(tuple(parts)).settled()
    else:  # copied: what arrived is a view of much more
        inline = tuple([bytes(part) for part in parts if not isinstance(part, Segment)])
        value = Frames(inline)
    assert started is not None
    return Finished(task.attempt.id, started, ended, nbytes, inline, slot, peak, log), value


def ended(task: Task, outcome: Outcome) -> Failed | Cancelled:
    """The end of a task without a result."""
    started, ended, slot, peak, log, failure = outcome
    id = task.attempt.id
    if task.stop == "cancel":
        return Cancelled(id, started, ended, log)
    if task.stop == "timeout":
        failure = timeout_of(task.attempt, failure)
    assert failure is not None
    return Failed(id, failure, started, ended, slot, peak, log)
