"""What the scheduler tells the coordinator: to be done, or to be told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from handoff_lab.messages.attempts import AttemptId, Failure, HowToEnd


@dataclass(slots=True, unsafe_hash=True)
class Start:
    """Submit this attempt. Its inputs may be still to be made, by attempts that were submitted before."""

    id: AttemptId
    node: str
    sources: tuple[tuple[AttemptId, str], ...]  # where the inputs are, in the order of the function's inputs
    priority: float = 0.0
    granted: bool = True  # whether its claim is granted already


@dataclass(frozen=True, slots=True)
class Stop:
    """End this attempt; a ``Cancelled`` or another terminal event must follow."""

    id: AttemptId
    how: HowToEnd = "interrupt"


@dataclass(frozen=True, slots=True)
class Wake:
    """Call ``Scheduler.wake`` at this time of the scheduler's clock, in seconds."""

    at: float


@dataclass(frozen=True, slots=True)
class Free:
    """These results are of no use to anyone."""

    keys: tuple[AttemptId, ...]


@dataclass(frozen=True, slots=True)
class Forget:
    """Nothing of this run, which is over, is of use to anyone."""

    run: str


@dataclass(frozen=True, slots=True)
class Report:
    """Something for telemetry and the run's own record: see ``telemetry.events`` for the catalogue."""

    name: tuple[str, ...]
    measurements: Mapping[str, float]
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ReportQueued:
    """These functions have all their inputs and wait for room: stands for one report ``queued`` each."""

    run: str
    functions: Sequence[int]
    nodes: Sequence[str]


@dataclass(frozen=True, slots=True)
class ReportFinished:
    """These functions began and ended well on one node, in columns in the order of their ends.

    Stands for the reports ``start`` and ``stop`` of each and, where it costs anything, ``allocation`` and ``release``.
    """

    run: str
    node: str
    functions: Sequence[int]
    attempts: Sequence[int]
    started: Sequence[float]
    ended: Sequence[float]
    nbytes: Sequence[int]
    slots: Sequence[int]
    peak_memory: Sequence[int | None]
    logs: Sequence[str]
    costs: Sequence[Mapping[str, float]]  # empty for those that cost nothing
    claimed: Mapping[str, float]  # on the node by others, all the while
    capabilities: Mapping[str, float]  # of the node


@dataclass(frozen=True, slots=True)
class ReportTransferred:
    """These functions' results were copied to a node, in columns: stands for one report each."""

    run: str
    target: str
    functions: Sequence[int]
    sources: Sequence[str]
    nbytes: Sequence[int]
    started: Sequence[float]
    ended: Sequence[float]


@dataclass(frozen=True, slots=True)
class Ended:
    """A run is over. ``function`` is the index of the function that made it fail, if one did."""

    run: str
    status: Literal["done", "failed", "cancelled"]
    function: int | None = None
    attempts: int = 0
    node: str | None = None
    failure: Failure | None = None
    deaths: int = 0  # of slots and nodes, under the function
    timeout_s: float | None = None  # the run's own time was up


Command: TypeAlias = (
    Start | Stop | Wake | Free | Forget | Report | ReportQueued | ReportFinished | ReportTransferred | Ended
)  # fmt: skip
