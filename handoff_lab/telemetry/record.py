"""What became of a run: built from its events alone, live or from its log."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import ClassVar, Literal, TypeAlias

from handoff_lab._units import format_seconds
from handoff_lab.telemetry import events as names
from handoff_lab.telemetry.attempts import Attempts
from handoff_lab.telemetry.batches import FinishedBatch, FunctionBatch, QueuedBatch, TransferredBatch
from handoff_lab.telemetry.events import Event, EventName
from handoff_lab.telemetry.functions import AttemptRecord, FunctionRecord, FunctionStatus
from handoff_lab.telemetry.gpus import GpuRecord, gpu_records
from handoff_lab.telemetry.log import read_parts
from handoff_lab.telemetry.table import FunctionTable
from handoff_lab.telemetry.transfers import TransferRecord, Transfers
from handoff_lab.telemetry.unfolding import Claims, Events

__all__ = ["HAS_RESULT", "AttemptRecord", "FunctionRecord", "FunctionStatus", "RunRecord", "TransferRecord"]

RunStatus: TypeAlias = Literal["running", "done", "failed", "cancelled"]
NodeEventKind: TypeAlias = Literal["up", "down", "changed"]

HAS_RESULT = frozenset({FunctionStatus.DONE, FunctionStatus.CACHED})
_BEFORE_RUNNING = frozenset({FunctionStatus.WAITING, FunctionStatus.QUEUED, FunctionStatus.RETRYING})


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
    costs: Mapping[Hashable, Mapping[str, float]] = field(default_factory=dict)
    functions: FunctionTable = field(init=False)
    attempts: Attempts = field(default_factory=Attempts)
    transfers: Transfers = field(init=False, default_factory=Transfers)
    claims: Claims = field(default_factory=Claims)
    loads: list[tuple[float, str, float, float]] = field(default_factory=list)
    gpus: list[GpuRecord] = field(default_factory=list)
    node_events: list[tuple[float, str, NodeEventKind, str]] = field(default_factory=list)
    recomputed: int = 0  # functions that ran again because their result was lost
    _remade: dict[Hashable, int] = field(default_factory=dict, repr=False)  # attempts before that, by function
    events: Events = field(default_factory=Events, repr=False)

    _appliers: ClassVar[dict[EventName, Callable[[RunRecord, Event], None]]]

    def __post_init__(self) -> None:
        self.attempts, self.claims, self.events = Attempts(self.attempts), Claims(self.claims), Events(self.events)
        self.functions = FunctionTable(self.attempts)

    def __reduce__(self) -> tuple[object, ...]:
        return RunRecord.from_events, (self.events.parts,)

    @classmethod
    def from_events(cls, events: Iterable[Event | FunctionBatch]) -> RunRecord:
        """The record that these events make."""
        record = cls()
        for event in events:
            record.apply(event)
        return record

    @classmethod
    def from_log(cls, path: str | PathLike[str]) -> RunRecord:
        """The record of a run that wrote the log at ``path``."""
        return cls.from_events(read_parts(path))

    @property
    def last_time(self) -> float:
        """When the last that is known happened, in wall-clock seconds."""
        return self.ended or (self.events.parts[-1].time if self.events.parts else self.started or 0.0)

    @property
    def duration(self) -> float | None:
        """Seconds from start to end; None before the end."""
        return None if self.started is None or self.ended is None else self.ended - self.started

    @property
    def recomputed_seconds(self) -> float:
        """Seconds that functions ran again because their result was lost."""
        with self.attempts.lock:
            again = [
                self.functions.find_attempt(id, number)
                for id, before in self._remade.items()
                for number in range(before + 1, self.functions[id].attempts + 1)
            ]
        return sum(_duration(attempt) for attempt in again)

    def counts(self) -> dict[str, int]:
        """How many functions have which status; a status that none has is left out."""
        found = self.functions.counts()
        return {status.value: found[status] for status in FunctionStatus if found[status]}

    def summary(self) -> str:
        """How many functions have which status, and what losses cost, in a line."""
        parts = [f"{count} {status}" for status, count in self.counts().items()]
        if self.recomputed:
            parts.append(f"{self.recomputed} recomputed in {format_seconds(self.recomputed_seconds)}")
        return ", ".join(parts)

    def apply(self, news: Event | FunctionBatch) -> None:
        """Take in the next event, or many at once."""
        run = news.metadata.get("run") if isinstance(news, Event) else news.run
        if run is not None:
            if self.id and run != self.id:
                return
            self.id = run
        with self.attempts.lock:
            if isinstance(news, Event):
                self.events.append(news)
                applier = self._appliers.get(news.name)
                if applier is not None:
                    applier(self, news)
            else:
                self._take(news)
                self.events.append(news)  # last: what reads it there need not look again

    def _take(self, batch: FunctionBatch) -> None:
        match batch:
            case QueuedBatch():
                for k in self.functions.take_queued(batch):
                    self._queued(batch.event_of(k))
            case FinishedBatch():
                self.claims.append(batch)
                for k in self.functions.take_finished(batch):
                    start, stop = batch.events_of(k)
                    self._start(start)
                    self._stop(stop)
            case TransferredBatch():
                self.transfers.append(batch)

    # -- the run, its nodes ---------------------------------------------------

    def _run_start(self, event: Event) -> None:
        facts = event.metadata
        self.dag_id = facts.get("dag", "")
        self.strategy = facts.get("strategy")
        for node, amounts in (facts.get("capabilities") or {}).items():
            self.capabilities[node] = dict(amounts)
        costs, allocations = facts.get("costs") or {}, facts.get("allocations") or {}
        self.costs = {**self.costs, **costs} if self.costs else costs  # of many functions: not copied
        self.functions.begin((*self.costs, *allocations), allocations)
        self.started = event.time

    def _run_stop(self, event: Event) -> None:
        self.status = event.metadata["status"]
        self.ended = event.time

    def _claim(self, event: Event) -> None:
        self.claims.append((event.time, event.metadata["node"], dict(event.metadata["claimed"])))

    def _load(self, event: Event) -> None:
        numbers = event.measurements
        self.loads.append((event.time, event.metadata["node"], numbers["cpu_percent"], numbers["memory"]))
        self.gpus += gpu_records(event, self.id)

    def _node(self, event: Event) -> None:
        facts = event.metadata
        kind: NodeEventKind = event.name[-1]  # type: ignore[assignment]  # the three names that lead here
        self.node_events.append((event.time, facts["node"], kind, facts.get("reason") or ""))
        if facts.get("capabilities"):
            self.capabilities[facts["node"]] = dict(facts["capabilities"])

    def _transfer(self, event: Event) -> None:
        facts, numbers = event.metadata, event.measurements
        self.transfers.append(
            TransferredBatch(
                run=self.id,
                ids=(facts["function"],),
                target=facts["target"],
                functions=(0,),
                sources=(facts["source"],),
                nbytes=(int(numbers["nbytes"]),),
                started=(numbers["started"],),
                ended=(numbers["ended"],),
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
        self._again(function, attempt.number - 1)
        function.status = FunctionStatus.RUNNING
        _begin(function, attempt.started)
        function.ended, function.log = None, ""

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
        attempt = self.functions.find_attempt(facts["function"], facts["attempt"])
        runs = attempt is not None and attempt.status is FunctionStatus.RUNNING  # not one that waits to be tried again
        if runs or "started" in event.measurements:
            self._end(event, FunctionStatus.CANCELLED)
        else:  # before it began
            self._function(facts["function"]).status = FunctionStatus.CANCELLED

    def _end(self, event: Event, status: FunctionStatus) -> FunctionRecord:
        attempt = self._attempt(event)
        attempt.status = status
        attempt.ended = event.measurements.get("ended", event.time)
        function = self._function(attempt.function)
        function.status = status
        _begin(function, attempt.started)
        function.ended = attempt.ended
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

    def _wait(self, event: Event) -> None:
        function = self._function(event.metadata["function"])
        self._again(function)
        function.status = FunctionStatus.WAITING

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
        attempt = self.functions.find_attempt(function.id, function.attempts)
        if attempt is not None and attempt.status is FunctionStatus.RUNNING:
            attempt.status, attempt.ended = FunctionStatus.FAILED, event.time
            attempt.error = event.metadata.get("reason")

    def _again(self, function: FunctionRecord, attempts: int | None = None) -> None:
        """The function is to run after so many attempts (None: all that are known); its result, if any, is lost."""
        if function.status in HAS_RESULT:
            self.recomputed += 1
            self._remade.setdefault(function.id, function.attempts if attempts is None else attempts)
            function.status = FunctionStatus.WAITING

    def _wrote(self, event: Event) -> None:
        self._function(event.metadata["function"]).log += event.metadata["text"]

    def _function(self, id: Hashable) -> FunctionRecord:
        return self.functions.obtain(id)

    def _attempt(self, event: Event) -> AttemptRecord:
        """The attempt that ``event`` tells of, brought up to date in what every such event says."""
        facts, numbers = event.metadata, event.measurements
        id, number = facts["function"], facts["attempt"]
        attempt = self.functions.obtain_attempt(id, number)
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
    names.FUNCTION_WAIT: RunRecord._wait,
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


def _duration(attempt: AttemptRecord | None) -> float:
    if attempt is None or attempt.started is None or attempt.ended is None:
        return 0.0
    return attempt.ended - attempt.started


def _begin(function: FunctionRecord, started: float | None) -> None:
    function.started = started
    if started is not None and function.queued is not None:
        function.queued = min(function.queued, started)  # a node may know first that the inputs are there


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)
