"""What a backend tells the scheduler."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, TypeAlias

from handoff_lab.messages.attempts import AttemptId, Failure, ids_of
from handoff_lab.messages.nodes import NodeChanged, NodeJoined, NodeLoad, NodeLost


@dataclass(slots=True, unsafe_hash=True)
class Started:
    """An attempt began to run in a slot."""

    id: AttemptId
    started: float
    slot: int = 0


@dataclass(slots=True, unsafe_hash=True)
class Finished:
    """An attempt made its result, which lies on its node under the attempt's id."""

    id: AttemptId
    started: float
    ended: float
    nbytes: int = 0
    inline: tuple[bytes, ...] | None = None  # the frames, when the result is small
    slot: int = 0
    peak_memory: int | None = None  # bytes
    log: str = ""


@dataclass(frozen=True, slots=True)
class FinishedMany:
    """Attempts of one run that made their results, in the order in which they ended: the fields of ``Finished``, each
    a column. Nothing was told of their start as a rule; all of them ran on one node.
    """

    run: str
    functions: Sequence[int]
    numbers: Sequence[int]
    started: Sequence[float]
    ended: Sequence[float]
    nbytes: Sequence[int]
    inline: Sequence[tuple[bytes, ...] | None]
    slots: Sequence[int]
    peak_memory: Sequence[int | None]
    logs: Sequence[str]

    def each(self) -> Iterator[Finished]:
        """The attempts, one by one."""
        for id, _, _, *rest in zip(self.ids(), *self.columns(), strict=True):
            yield Finished(id, *rest)

    def ids(self) -> list[AttemptId]:
        """The ids of the attempts."""
        return ids_of(repeat(self.run, len(self.functions)), self.functions, self.numbers)

    def at(self, places: Sequence[int]) -> FinishedMany:
        """Those at these places of the columns."""
        return FinishedMany(self.run, *([column[at] for at in places] for column in self.columns()))

    def columns(self) -> tuple[Sequence[Any], ...]:
        """All of them, in order; without the run."""
        return (
            self.functions, self.numbers, self.started, self.ended, self.nbytes, self.inline, self.slots,
            self.peak_memory, self.logs,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Failed:
    """An attempt failed."""

    id: AttemptId
    failure: Failure
    started: float | None = None
    ended: float | None = None
    slot: int = 0
    peak_memory: int | None = None
    log: str = ""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """An attempt ended because it was told to."""

    id: AttemptId
    started: float | None = None
    ended: float | None = None
    log: str = ""


@dataclass(frozen=True, slots=True)
class Transferred:
    """A value was copied from one node to another."""

    key: AttemptId
    source: str
    target: str
    nbytes: int
    started: float
    ended: float


@dataclass(frozen=True, slots=True)
class TransferredMany:
    """Small values of one run that were copied to one node: the fields of ``Transferred``, each a column."""

    run: str
    target: str
    functions: Sequence[int]
    numbers: Sequence[int]
    sources: Sequence[str]
    nbytes: Sequence[int]
    started: Sequence[float]
    ended: Sequence[float]


@dataclass(frozen=True, slots=True)
class Wrote:
    """A running attempt wrote to stdout, stderr, logging or warnings."""

    id: AttemptId
    text: str


@dataclass(frozen=True, slots=True)
class ResultLost:
    """A result that its node had is there no more."""

    key: AttemptId
    node: str


BackendEvent: TypeAlias = (
    Started | Finished | FinishedMany | Failed | Cancelled | Transferred | TransferredMany | Wrote
    | NodeJoined | NodeChanged | NodeLost | NodeLoad | ResultLost
)  # fmt: skip
