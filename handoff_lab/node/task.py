"""An attempt in the hands of those who run it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import cloudpickle  # type: ignore[import-untyped]

from handoff_lab.messages import Attempt
from handoff_lab.store.payload import Frames
from handoff_lab.store.segments import Buffer, Part

if TYPE_CHECKING:
    from handoff_lab.node.worker import Worker
    from handoff_lab.transport.loop import Timer

Stop: TypeAlias = Literal["cancel", "timeout", "memory", "recall"]
Input: TypeAlias = Frames | int  # an int: the number of the task before it, in the same slot, that makes the value
Claim: TypeAlias = tuple[tuple[str, float], ...] | None  # None: it costs nothing, or whoever sent it has claimed that


@dataclass(slots=True, eq=False)
class Task:
    """An attempt whose inputs are there, or are made just before it."""

    attempt: Attempt
    inputs: Sequence[Input]
    recipe: Buffer | None  # pickled
    number: int = 0  # its place in the queue, then in what goes to its slot
    queued: bool = False
    seconds: float = 0.0  # that it is expected to take
    brief: bool = False
    proven: bool = False  # whether it is known from earlier runs that it is brief
    started: float | None = None  # when it was said to have started
    stop: Stop | None = None
    used: int = 0  # bytes of memory when it was stopped for them
    timer: Timer | None = None
    worker: Worker | None = None  # None: queued

    @property
    def claim(self) -> Claim:
        """What must be free on the node before it starts."""
        return claim_of(self.attempt)

    @property
    def nbytes(self) -> int:
        """Bytes that go to the slot."""
        return sum([value.nbytes for value in self.inputs if not isinstance(value, int)]) if self.inputs else 0

    @property
    def is_fused(self) -> bool:
        """Whether an input is made by another task of its batch: only in that batch it can run."""
        return int in map(type, self.inputs)

    def row(self, call: int, frames: list[Part]) -> list[Any]:
        """The row of a ``run`` message: see ``slot``; what goes with it is added to ``frames``."""
        attempt = self.attempt
        nodes = None
        if self.recipe is not None:
            frames.append(self.recipe)
            nodes = [[source.node for source in attempt.inputs], attempt.node]
        counts = []
        for value in self.inputs:
            if isinstance(value, int):
                counts.append(-value)
            else:
                counts.append(len(value.parts))
                frames += value.parts
        return [self.number, attempt.label, call, counts, self.brief, not self.proven, nodes]

    def disarm(self) -> None:
        """Stop the clock that runs for it."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


def task_of(attempt: Attempt, inputs: Sequence[Input]) -> Task:
    """The task of an attempt, whose recipe may be pickled already, as ``transport.rows`` leaves it."""
    recipe = attempt.recipe
    if recipe is not None and type(recipe) is not bytes:
        recipe = cloudpickle.dumps(recipe, protocol=5)
    return Task(attempt, inputs, recipe)


def claim_of(attempt: Attempt) -> Claim:
    """What must be free on the node before an attempt starts."""
    return tuple(attempt.cost.items()) if attempt.cost and not attempt.granted else None
