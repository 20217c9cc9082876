"""What crosses between the scheduler, the backends and the nodes: values, which decide nothing.

The scheduler numbers the functions of a run; these numbers, not the user's ids, travel.
Times in ``started`` and ``ended`` are wall-clock seconds of the node that measured them.
None of these is ever changed; those of which a run makes one per function are not frozen only because that triples the
time it takes to make one. What many brief functions have in common crosses in columns: ``FinishedMany``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from itertools import repeat
from typing import Any, Literal, NamedTuple, TypeAlias

RunsIn: TypeAlias = Literal["process", "kernel"]
HowToEnd: TypeAlias = Literal["interrupt", "kill", "recall"]  # a recall leaves what runs already alone
HERE = ""  # the "node" of values that the coordinator's own process holds: inputs given by the user


class AttemptId(NamedTuple):
    """One try at one function. Also the key of the result that it made; number 0 is a given value."""

    run: str
    function: int
    number: int

    def __str__(self) -> str:
        return f"{self.run}:{self.function}:{self.number}"


def ids_of(runs: Iterable[str], functions: Iterable[int], numbers: Iterable[int]) -> list[AttemptId]:
    """Ids from columns of the same length, in half the time that `AttemptId` takes one by one."""
    return [*map(_AS_ID, zip(runs, functions, numbers, strict=True))]


_AS_ID = partial(tuple.__new__, AttemptId)


@dataclass(slots=True, unsafe_hash=True)
class Source:
    """Where an input of an attempt lies, or will lie: the attempt waits on its node until it is there."""

    key: AttemptId
    node: str
    inline: tuple[bytes, ...] | None = None  # the value's frames, when it is small


@dataclass(frozen=True, slots=True)
class Use:
    """A term of a recipe: the attempt's input number ``input``, passed through code number ``deserialize``."""

    input: int
    deserialize: int | None = None


@dataclass(frozen=True, slots=True)
class Constant:
    """A term of a recipe: a value known beforehand."""

    value: Any


@dataclass(frozen=True, slots=True)
class Evaluate:
    """A term of a recipe: an inline function, evaluated on the spot."""

    code: int
    recipe: Recipe


Term: TypeAlias = Use | Constant | Evaluate


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a function is called: terms in place of arguments. Numbers point into the attempt's inputs and codes."""

    args: tuple[Term | tuple[Term, ...], ...] = ()  # a tuple of terms becomes one list argument
    kwargs: tuple[tuple[str, Term | tuple[Term, ...]], ...] = ()


@dataclass(slots=True)
class Attempt:
    """One try at one function on one node, as a backend receives it.

    ``codes`` are keys of code sent before with ``Backend.load``; the first is the function itself. ``recipe`` is None
    for the usual call: the inputs in order, nothing else. Pickled, it is a ``Recipe``, or a tuple: the positional
    arguments that follow the inputs.
    """

    id: AttemptId
    node: str
    label: str  # the user's id of the function, as text, for logs and errors
    codes: tuple[str, ...]
    inputs: tuple[Source, ...] = ()
    recipe: Recipe | bytes | None = None  # bytes: pickled, for nodes in other processes
    cost: Mapping[str, float] = field(default_factory=dict)
    priority: float = 0.0  # lower starts first among those that wait on a node
    runs_in: RunsIn = "process"
    timeout_s: float | None = None
    retry_on: str | None = None  # key of code: the exception classes worth another attempt; None: every Exception
    setup: tuple[str, ...] = ()  # keys of code: sources executed first in a slot, once each
    granted: bool = True  # False: its node has yet to find room for its cost (see ``NodeInfo.keeps_ledger``)


class FailureKind(StrEnum):
    """Why an attempt failed."""

    EXCEPTION = "exception"  # the function raised
    DIED = "died"  # its slot ended under it: a signal, os._exit, out of memory
    TIMEOUT = "timeout"
    MEMORY = "memory"  # it used far more than it claimed
    CODE = "code"  # its code could not be pickled, unpickled or imported
    RESULT = "result"  # what it returned cannot be pickled
    INPUT = "input"  # an input could not be fetched or unpickled
    NODE = "node"  # its node was lost
    UNSUPPORTED = "unsupported"  # its node cannot do what the function asks for
    CAPACITY = "capacity"  # no node that could hold it came in time


@dataclass(frozen=True, slots=True)
class Failure:
    """The story of a failed attempt. ``exception`` is pickled; only the user's own side unpickles it."""

    kind: FailureKind
    message: str
    type_name: str = ""
    traceback: str = ""
    exception: bytes | None = None
    retryable: bool = True
    inputs: str = ""  # a short summary of the arguments


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """What a node says of itself when it joins."""

    name: str
    capabilities: Mapping[str, float]
    slots: int  # functions that it really runs at the same time
    host: str = ""
    pid: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    connection_file: str = ""
    keeps_ledger: bool = False  # it takes functions before their inputs and room for their costs are there


# -- events: a backend tells the scheduler -----------------------------------


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
class NodeJoined:
    """A node is there and can run functions."""

    info: NodeInfo


@dataclass(frozen=True, slots=True)
class NodeChanged:
    """A node's capabilities changed."""

    name: str
    capabilities: Mapping[str, float]
    slots: int


@dataclass(frozen=True, slots=True)
class NodeLost:
    """A node is gone, with all its attempts and results. ``expected``: it was asked to go."""

    name: str
    reason: str
    expected: bool = False


@dataclass(frozen=True, slots=True)
class NodeLoad:
    """What a node really uses now: percent of one core, bytes of memory."""

    name: str
    cpu_percent: float
    memory: int


@dataclass(frozen=True, slots=True)
class ResultLost:
    """A result that its node had is there no more."""

    key: AttemptId
    node: str


BackendEvent: TypeAlias = (
    Started | Finished | FinishedMany | Failed | Cancelled | Transferred | TransferredMany | Wrote
    | NodeJoined | NodeChanged | NodeLost | NodeLoad | ResultLost
)  # fmt: skip

# -- commands: the scheduler tells the coordinator ----------------------------


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
    Start | Stop | Wake | Free | Report | ReportQueued | ReportFinished | ReportTransferred | Ended
)  # fmt: skip
