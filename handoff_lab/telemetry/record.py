"""What became of a run: built from its events alone, live or from its log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from os import PathLike
from typing import Any, ClassVar, Literal, TypeAlias

from handoff_lab.telemetry import events as names
from handoff_lab.telemetry.events import Event, EventName
from handoff_lab.telemetry.log import read_log

RunStatus: TypeAlias = Literal["running", "done", "failed", "cancelled"]
NodeEventKind: TypeAlias = Literal["up", "down", "changed"]


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


HAS_RESULT = frozenset({FunctionStatus.DONE, FunctionStatus.CACHED})
_BEFORE_RUNNING = frozenset({FunctionStatus.WAITING, FunctionStatus.QUEUED, FunctionStatus.RETRYING})


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


@dataclass(frozen=True, slots=True)
class TransferRecord:
    """A result that went from one node to another."""

    function: Hashable
    source: str
    target: str
    nbytes: int
    started: float
    ended: float


@dataclass(slots=True)
class RunRecord:
    """The whole story of one run, kept up to date with ``apply``.

    ``functions`` is in the order of the DAG. Events of another run leave it as it is.

    Examples
    --------
    >>> record = RunRecord()
    >>> record.apply(Event(("handoff", "run", "start"), 5.0, {}, {"run": "r1", "dag": "d", "costs": {"a": {"cpu": 1}}}))
    >>> record.status, record.counts()
    ('running', {'waiting': 1})
    """

    id: str = ""
    dag_id: str = ""
    status: RunStatus = "running"
    strategy: str | None = None
    started: float | None = None
    ended: float | None = None
    capabilities: dict[str, dict[str, float]] = field(default_factory=dict)
    costs: dict[Hashable, dict[str, float]] = field(default_factory=dict)
    functions: dict[Hashable, FunctionRecord] = field(default_factory=dict)
    attempts: list[AttemptRecord] = field(default_factory=list)
    transfers: list[TransferRecord] = field(default_factory=list)
    claims: list[tuple[float, str, dict[str, float]]] = field(default_factory=list)
    loads: list[tuple[float, str, float, float]] = field(default_factory=list)
    node_events: list[tuple[float, str, NodeEventKind, str]] = field(default_factory=list)
    recomputed: int = 0  # functions that ran again because their result was lost
    events: list[Event] = field(default_factory=list, repr=False)
    _by_number: dict[tuple[Hashable, int], AttemptRecord] = field(default_factory=dict, repr=False, compare=False)

    _appliers: ClassVar[dict[EventName, Callable[[RunRecord, Event], None]]]

    @classmethod
    def from_events(cls, events: Iterable[Event]) -> RunRecord:
        """The record that these events make."""
        record = cls()
        for event in events:
            record.apply(event)
        return record

    @classmethod
    def from_log(cls, path: str | PathLike[str]) -> RunRecord:
        """The record of a run that wrote the log at ``path``."""
        return cls.from_events(read_log(path))

    @property
    def last_time(self) -> float:
        """When the last that is known happened, in wall-clock seconds."""
        return self.ended or (self.events[-1].time if self.events else self.started or 0.0)

    @property
    def duration(self) -> float | None:
        """Seconds from start to end; None before the end."""
        return None if self.started is None or self.ended is None else self.ended - self.started

    def counts(self) -> dict[str, int]:
        """How many functions have which status; a status that none has is left out."""
        found = Counter(function.status for function in list(self.functions.values()))
        return {status.value: found[status] for status in FunctionStatus if found[status]}

    def apply(self, event: Event) -> None:
        """Take in the next event."""
        run = event.metadata.get("run")
        if run is not None:
            if self.id and run != self.id:
                return
            self.id = run
        self.events.append(event)
        applier = self._appliers.get(event.name)
        if applier is not None:
            applier(self, event)

    # -- the run, its nodes ---------------------------------------------------

    def _run_start(self, event: Event) -> None:
        facts = event.metadata
        self.dag_id = facts.get("dag", "")
        self.strategy = facts.get("strategy")
        self.started = event.time
        self.capabilities |= _amounts(facts.get("capabilities"))
        self.costs |= _amounts(facts.get("costs"))
        allocations = facts.get("allocations") or {}
        for id in (*self.costs, *allocations):
            self._function(id).node = allocations.get(id)

    def _run_stop(self, event: Event) -> None:
        self.status = event.metadata["status"]
        self.ended = event.time

    def _claim(self, event: Event) -> None:
        self.claims.append((event.time, event.metadata["node"], dict(event.metadata["claimed"])))

    def _load(self, event: Event) -> None:
        numbers = event.measurements
        self.loads.append((event.time, event.metadata["node"], numbers["cpu_percent"], numbers["memory"]))

    def _node(self, event: Event) -> None:
        facts = event.metadata
        kind: NodeEventKind = event.name[-1]  # type: ignore[assignment]  # the three names that lead here
        self.node_events.append((event.time, facts["node"], kind, facts.get("reason") or ""))
        if facts.get("capabilities"):
            self.capabilities[facts["node"]] = dict(facts["capabilities"])

    def _transfer(self, event: Event) -> None:
        facts, numbers = event.metadata, event.measurements
        self.transfers.append(
            TransferRecord(
                facts["function"],
                facts["source"],
                facts["target"],
                int(numbers["nbytes"]),
                numbers["started"],
                numbers["ended"],
            )
        )

    # -- functions --------------------------------------------------------------

    def _queued(self, event: Event) -> None:
        function = self._function(event.metadata["function"])
        self._again(function)
        function.status = FunctionStatus.QUEUED
        function.node = event.metadata.get("node", function.node)
        function.queued = event.time

    def _start(self, event: Event) -> None:
        attempt = self._attempt(event)
        if attempt.status is not FunctionStatus.RUNNING:
            return  # the news of its end came first
        function = self._function(attempt.function)
        self._again(function)
        function.status = FunctionStatus.RUNNING
        function.started, function.ended, function.log = attempt.started, None, ""

    def _stop(self, event: Event) -> None:
        function = self._end(event, FunctionStatus.DONE)
        function.nbytes = _whole(event.measurements.get("nbytes"))
        function.error = function.error_type = function.traceback = None

    def _exception(self, event: Event) -> None:
        facts = event.metadata
        function = self._end(event, FunctionStatus.FAILED)
        function.error = facts.get("error") or facts.get("kind")
        function.error_type = facts.get("type")
        function.traceback = facts.get("traceback")
        self._attempt(event).error = function.error

    def _cancel(self, event: Event) -> None:
        facts = event.metadata
        if (facts["function"], facts["attempt"]) in self._by_number or "started" in event.measurements:
            self._end(event, FunctionStatus.CANCELLED)
        else:  # before it began
            self._function(facts["function"]).status = FunctionStatus.CANCELLED

    def _end(self, event: Event, status: FunctionStatus) -> FunctionRecord:
        attempt = self._attempt(event)
        attempt.status = status
        attempt.ended = event.measurements.get("ended", event.time)
        function = self._function(attempt.function)
        function.status = status
        function.started, function.ended = attempt.started, attempt.ended
        function.peak_memory = _whole(event.measurements.get("peak_memory"))
        function.log = event.metadata.get("log") or function.log
        return function

    def _retry(self, event: Event) -> None:
        self._function(event.metadata["function"]).status = FunctionStatus.RETRYING

    def _cached(self, event: Event) -> None:
        function = self._function(event.metadata["function"])
        function.status = FunctionStatus.CACHED
        function.node = event.metadata.get("node", function.node)

    def _skip(self, event: Event) -> None:
        function = self._function(event.metadata["function"])
        function.status = FunctionStatus.SKIPPED
        function.because = event.metadata.get("because")

    def _move(self, event: Event) -> None:
        function = self._function(event.metadata["function"])
        function.node, function.slot = event.metadata["target"], None
        function.started = function.ended = None  # those were of an attempt elsewhere
        self._again(function)
        if function.status not in _BEFORE_RUNNING:
            self._lose(function, event)
            function.status = FunctionStatus.WAITING

    def _lose(self, function: FunctionRecord, event: Event) -> None:
        """The attempt that ran on the lost node, if it still did, is over."""
        attempt = self._by_number.get((function.id, function.attempts))
        if attempt is not None and attempt.status is FunctionStatus.RUNNING:
            attempt.status, attempt.ended = FunctionStatus.FAILED, event.time
            attempt.error = event.metadata.get("reason")

    def _again(self, function: FunctionRecord) -> None:
        if function.status in HAS_RESULT:
            self.recomputed += 1
            function.status = FunctionStatus.WAITING

    def _wrote(self, event: Event) -> None:
        self._function(event.metadata["function"]).log += event.metadata["text"]

    def _function(self, id: Hashable) -> FunctionRecord:
        found = self.functions.get(id)
        if found is None:
            found = self.functions[id] = FunctionRecord(id)
        return found

    def _attempt(self, event: Event) -> AttemptRecord:
        """The attempt that ``event`` tells of, brought up to date in what every such event says."""
        facts, numbers = event.metadata, event.measurements
        id, number = facts["function"], facts["attempt"]
        attempt = self._by_number.get((id, number))
        if attempt is None:
            attempt = self._by_number[id, number] = AttemptRecord(id, number)
            self.attempts.append(attempt)
        attempt.node = facts.get("node", attempt.node)
        attempt.slot = facts.get("slot", attempt.slot)
        attempt.started = numbers.get("started", attempt.started)
        function = self._function(id)
        function.node, function.slot = attempt.node, attempt.slot
        function.attempts = max(function.attempts, number)
        return attempt


RunRecord._appliers = {
    names.RUN_START: RunRecord._run_start,
    names.RUN_STOP: RunRecord._run_stop,
    names.FUNCTION_QUEUED: RunRecord._queued,
    names.FUNCTION_START: RunRecord._start,
    names.FUNCTION_STOP: RunRecord._stop,
    names.FUNCTION_EXCEPTION: RunRecord._exception,
    names.FUNCTION_RETRY: RunRecord._retry,
    names.FUNCTION_CACHED: RunRecord._cached,
    names.FUNCTION_CANCEL: RunRecord._cancel,
    names.FUNCTION_SKIP: RunRecord._skip,
    names.FUNCTION_MOVE: RunRecord._move,
    names.FUNCTION_LOG: RunRecord._wrote,
    names.RESOURCE_ALLOCATION: RunRecord._claim,
    names.RESOURCE_RELEASE: RunRecord._claim,
    names.RESOURCE_UTILIZATION: RunRecord._load,
    names.NODE_UP: RunRecord._node,
    names.NODE_CHANGED: RunRecord._node,
    names.NODE_DOWN: RunRecord._node,
    names.TRANSFER_STOP: RunRecord._transfer,
}


def _amounts(given: Mapping[Any, Mapping[str, float]] | None) -> dict[Any, dict[str, float]]:
    return {key: dict(amounts) for key, amounts in (given or {}).items()}


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)
