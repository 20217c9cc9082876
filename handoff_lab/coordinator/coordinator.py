"""Joins the scheduler and a backend on one thread: events in, commands out. It decides nothing itself."""

from __future__ import annotations

import logging
import queue
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from handoff_lab._errors import BackendError
from handoff_lab.backends.base import Backend, Code, Feature
from handoff_lab.coordinator.delivery import Delivery
from handoff_lab.coordinator.garbage import collection_paused
from handoff_lab.coordinator.request import Prepared
from handoff_lab.coordinator.state import RunState
from handoff_lab.coordinator.thread import LoopThread
from handoff_lab.coordinator.verbs import SeenNode
from handoff_lab.messages import (
    Attempt,
    AttemptId,
    BackendEvent,
    Cancelled,
    Command,
    Ended,
    Failed,
    Failure,
    FailureKind,
    Finished,
    FinishedMany,
    Free,
    NodeChanged,
    NodeJoined,
    NodeLoad,
    NodeLost,
    Report,
    ReportFinished,
    ReportQueued,
    ReportTransferred,
    ResultLost,
    Start,
    Started,
    Stop,
    Transferred,
    TransferredMany,
    Wake,
    Wrote,
)
from handoff_lab.resources import Resources, ResourceTracker
from handoff_lab.scheduler import Past, RunOptions, Scheduler
from handoff_lab.store.payload import Payload
from handoff_lab.telemetry.batches import FunctionBatch, finished_batch, queued_batch, transferred_batch
from handoff_lab.telemetry.events import Event

log = logging.getLogger(__name__)

_SLICE = 256  # attempts that are made and handed to the backend together


@dataclass(frozen=True, slots=True)
class EarlierRun:
    """A run that another coordinator began, and how far it came."""

    state: RunState
    options: RunOptions
    codes: Mapping[str, Code]
    values: Mapping[AttemptId, Payload]
    past: Past


class Coordinator:
    """Holds the runs of a cluster. Its methods may be called from any thread; the work is done on its own."""

    def __init__(self, backend: Backend, name: str, tracker: ResourceTracker | None = None) -> None:
        self.backend = backend
        backend.columns = True
        self.scheduler = Scheduler(tracker)
        self.last_seen: dict[str, float] = {}  # wall-clock time at which a node last said anything, by name
        self.loads: dict[str, NodeLoad] = {}  # what nodes really use, by name
        self._thread = LoopThread(f"{name} coordinator", self._shut)
        self._delivery = Delivery(name)
        self._runs: dict[str, RunState] = {}
        self._ids: dict[str, list[Hashable]] = {}  # of each run's functions, by number
        self._codes: dict[str, tuple[str, ...]] = {}  # keys of the code of each run
        self._code_uses: Counter[str] = Counter()  # runs that use it, by key
        self._inbox: deque[BackendEvent] = deque()
        self._starting: set[str] = set()  # nodes that were asked for and are not there yet
        self._lost: dict[str, str] = {}  # why nodes went, by name
        self._changes: Counter[str] = Counter()  # changes of capabilities that nodes were asked for
        self._changed: Counter[str] = Counter()  # and those that they made
        self._pumping = False
        self.call, self.wait_until = self._thread.call, self._thread.wait_until

    def open(self, nodes: Iterable[str]) -> None:
        """Start the thread and the backend, which begins to start ``nodes``."""
        self._starting.update(nodes)
        self._thread.start()
        try:
            self.call(lambda: self.backend.open(self._thread.loop, self._take))
        except BaseException:
            self.close()
            raise

    def close(self, wait: bool = True) -> None:
        """Cancel what runs, end the backend's nodes and the thread. Closing twice does no harm."""
        self._thread.close(wait)
        self._delivery.close(wait)

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._thread.closing

    # -- nodes ---------------------------------------------------------------

    @property
    def features(self) -> frozenset[Feature]:
        """What the nodes can do."""
        return self.backend.features

    @property
    def join_file(self) -> Path:
        """The file with which nodes join."""
        path = getattr(self.backend, "join_file", None)
        if path is None:
            raise BackendError(f"nodes can't join a cluster of backend {type(self.backend).__name__}")
        return Path(path)

    def seen_nodes(self) -> dict[str, SeenNode]:
        """The nodes that are there, by name, in the order of names."""

        def look() -> dict[str, SeenNode]:
            used, draining, nodes = self.scheduler.used, self.scheduler.is_draining, self.scheduler.nodes
            return {
                name: SeenNode(info, used(name), draining(name), self.last_seen[name], self.loads.get(name))
                for name, info in sorted(self.backend.nodes().items())
                if name in nodes
            }

        return self.call(look)

    def available(self, node: str, cost: Resources) -> bool:
        """Whether a node could take ``cost`` now."""
        return self.call(lambda: self.scheduler.available(node, cost))

    def add_node(self, name: str | None, capabilities: Mapping[str, float]) -> str:
        """Start a node, and wait until it is there; its name."""

        def add() -> str:
            taken = self.backend.nodes().keys() | self._starting
            chosen = name or next(f"node-{i}" for i in range(1, len(taken) + 2) if f"node-{i}" not in taken)
            if chosen in taken:
                raise BackendError(f"there is a node {chosen!r} already; choose another name")
            self._starting.add(chosen)
            self._lost.pop(chosen, None)
            try:
                self.backend.add_node(chosen, capabilities, {})
            except BaseException:
                self._starting.discard(chosen)  # refused: the name is free
                raise
            return chosen

        chosen = self.call(add)
        self.wait_for_nodes([chosen])
        return chosen

    def wait_for_nodes(self, names: Iterable[str]) -> None:
        """Wait until these nodes are there; raises why one could not be started."""
        wanted = set(names)
        self.wait_until(lambda: not wanted & self._starting)
        lost = self.call(lambda: {name: self._lost[name] for name in sorted(wanted) if name in self._lost})
        if lost:
            reasons = "; ".join(f"{name!r}: {reason}" for name, reason in lost.items())
            raise BackendError(f"nodes could not be started: {reasons}")

    def remove_node(self, name: str, drain: bool) -> None:
        """Let a node go, after what runs there if ``drain``, and wait until it is gone."""
        if drain:
            self._drain(name)

        def remove() -> None:
            if name in self.backend.nodes():
                self.backend.remove_node(name)

        self.call(remove)
        self.wait_until(lambda: name not in self.scheduler.nodes)

    def invite(self, ttl_s: float) -> str:
        """The text with which one more node joins."""
        invite: Callable[[float], str] = self._verb("invite", "can't be joined")
        return self.call(lambda: invite(ttl_s))

    def revoke(self, name: str) -> None:
        """Cut a node off for good, and wait until what it had was given up."""
        revoke: Callable[[str], None] = self._verb("revoke", "have no keys")
        self.call(lambda: revoke(name))
        self.wait_until(lambda: name not in self.scheduler.nodes)

    def _drain(self, name: str) -> None:
        """Start nothing more on a node, wait until nothing runs there, and fetch what lies there alone.

        An interrupt takes it back.
        """
        self.call(lambda: self._carry_out(self.scheduler.drain(name, time.monotonic())))
        try:
            self.wait_until(lambda: name not in self.scheduler.nodes or self.scheduler.in_flight(name) == 0)
            self._bring_results(name)
        except BaseException:
            self.call(lambda: self._carry_out(self.scheduler.undrain(name, time.monotonic())))
            raise

    def _bring_results(self, name: str) -> None:
        """Take the results here that lie on a node alone; one that does not come is lost with it."""
        for key in self.call(lambda: self.scheduler.results_on(name)):
            fetched: Future[Payload | Failure] = self._thread.promise()
            self.call(partial(self.backend.get, key, name, fetched.set_result))
            self.call(partial(self._keep, key, fetched.result()))

    def _keep(self, key: AttemptId, value: Payload | Failure) -> None:
        if not isinstance(value, Failure) and self.scheduler.keep(key):
            self.backend.put(key, value)

    def set_capabilities(self, name: str, capabilities: Mapping[str, float]) -> None:
        """Change what a node has, and wait until it says so."""

        def change() -> int:
            self._changes[name] += 1
            self.backend.set_capabilities(name, capabilities)
            return self._changes[name]

        number = self.call(change)
        self.wait_until(lambda: self._changed[name] >= number or name not in self.scheduler.nodes)

    def node_log(self, name: str) -> str:
        """What a node's agent wrote."""
        look: Callable[[str], str] = self._verb("node_log", "have no agents that write a log")
        return self.call(lambda: look(name))

    def run_cell(self, node: str, source: str, on_message: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Run a cell in a node's kernel; messages are handed over on the caller's thread."""
        messages: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        reply = self._thread.promise()
        reply.add_done_callback(lambda _: messages.put(None))
        run = self._kernel_verb("run_cell")
        self.call(lambda: run(node, source, messages.put, reply.set_result))
        while (message := messages.get()) is not None:
            on_message(message)
        content: dict[str, Any] = reply.result()
        return content

    def interrupt_cell(self, node: str) -> None:
        """Interrupt what ``run_cell`` runs."""
        interrupt = self._kernel_verb("interrupt_cell")
        self.call(lambda: interrupt(node))

    def _kernel_verb(self, name: str) -> Callable[..., Any]:
        if Feature.KERNEL not in self.backend.features:
            raise BackendError(f"nodes of {type(self.backend).__name__} have no kernels to run cells in")
        verb: Callable[..., Any] = getattr(self.backend, name)
        return verb

    def _verb(self, name: str, lack: str) -> Callable[..., Any]:
        """What only some backends can do."""
        verb: Callable[..., Any] | None = getattr(self.backend, name, None)
        if verb is None:
            raise BackendError(f"nodes of {type(self.backend).__name__} {lack}")
        return verb

    # -- runs ----------------------------------------------------------------

    def begin(self, prepared: Prepared) -> None:
        """Begin a run; raises what is wrong with it before anything starts."""
        self.submit(prepared.state, prepared.request.options, prepared.codes.codes, prepared.values)

    def submit(
        self,
        state: RunState,
        options: RunOptions,
        codes: Mapping[str, Code],
        inputs: Mapping[AttemptId, Payload],
    ) -> None:
        """Begin a run; raises what is wrong with it before anything starts."""

        def submit() -> None:
            self._runs[state.id] = state
            try:
                commands = self.scheduler.submit(state.program, options, time.monotonic())
            except BaseException:
                del self._runs[state.id]
                raise
            self._take_over(state, codes, inputs)
            self._carry_out(commands)

        def submit_undisturbed() -> None:
            with collection_paused():
                submit()

        self.call(submit_undisturbed)

    def _take_over(self, state: RunState, codes: Mapping[str, Code], inputs: Mapping[AttemptId, Payload]) -> None:
        self._ids[state.id] = [function.id for function in state.program.functions]
        state.failures = self.scheduler.progress(state.id).failures
        self._codes[state.id] = tuple(codes)
        self._code_uses.update(codes.keys())
        self.backend.load(codes)
        for key, value in inputs.items():
            self.backend.put(key, value)

    def resume(self, runs: Sequence[EarlierRun], keep: Callable[[set[AttemptId]], None]) -> None:
        """Take up runs of a coordinator that was killed.

        Parameters
        ----------
        keep
            Called, before anything starts, with the attempts that go on where they are.
        """

        def resume() -> None:
            commands: list[Command] = []
            running: dict[AttemptId, Started] = {}
            for run in runs:
                self._runs[run.state.id] = run.state
                commands += self.scheduler.resume(run.state.program, run.options, run.past, time.monotonic())
                self._take_over(run.state, run.codes, run.values)
                running |= {event.id: event for _, event in run.past.running.values()}
            adopted = running.keys() & {command.id for command in commands if isinstance(command, Start)}
            keep(adopted)
            self._carry_out(commands)
            self._take([running[id] for id in adopted if running[id].started])

        self.call(resume)

    @property
    def runs(self) -> list[RunState]:
        """The runs that were not forgotten, oldest first."""
        return self.call(lambda: list(self._runs.values()))

    def hear(self, listener: Callable[[], None]) -> None:
        """Call on the thread that delivers events, after those so far."""
        self._delivery.call(listener)

    def cancel(self, run: str, function: int | None = None) -> None:
        """Cancel a run, or one function of it."""
        self.call(lambda: self._carry_out(self.scheduler.cancel(run, time.monotonic(), function)))

    def fetch(self, run: str, function: int) -> Future[Payload | Failure]:
        """A result, wherever it lies."""
        future: Future[Payload | Failure] = self._thread.promise()

        def fetch() -> None:
            holder = self.scheduler.holder(run, function)
            if holder is None:
                future.set_result(Failure(FailureKind.INPUT, "it was not made, or its node was lost with it"))
            else:
                self.backend.get(*holder, future.set_result)

        self.call(fetch)
        return future

    def results_of(self, run: str) -> dict[Hashable, tuple[AttemptId, str]]:
        """Where the finished functions of a run have their results, by function id."""

        def look() -> dict[Hashable, tuple[AttemptId, str]]:
            state = self._runs[run]
            regular = (id for id, function in state.dag.functions.items() if function.type == "regular")
            held = {
                id: self.scheduler.holder(run, state.program.index[id]) for id in regular if id in state.program.index
            }
            return {id: holder for id, holder in held.items() if holder is not None}

        return self.call(look)

    def forget(self, run: str) -> None:
        """Free everything that a run left behind, once it is over. Called from finalizers: never waits."""

        def forget() -> None:
            state = self._runs.get(run)
            if state is None:
                return
            if not self.scheduler.is_over(run):
                state.when_over(lambda: self._thread.loop.call_soon_threadsafe(forget))
                return
            del self._runs[run], self._ids[run]
            self._delivery.withdraw(state)
            self._carry_out(self.scheduler.forget(run))
            self._unload(self._codes.pop(run))

        if not self.closed:
            self._thread.loop.call_soon_threadsafe(forget)

    # -- on the coordinator's thread -----------------------------------------

    def _unload(self, keys: Iterable[str]) -> None:
        """Drop a run's claim on its code; what no other run uses is forgotten."""
        self._code_uses.subtract(keys)
        unused = [key for key in keys if self._code_uses[key] <= 0]
        for key in unused:
            del self._code_uses[key]
        self.backend.unload(unused)

    def _shut(self) -> None:
        now = time.monotonic()
        try:
            for run, state in self._runs.items():
                if state.end is None and not self.scheduler.is_over(run):
                    commands = self.scheduler.cancel(run, now)
                    self._carry_out(commands)
                    self._take([Cancelled(command.id) for command in commands if isinstance(command, Stop)])
                    if not self.scheduler.is_over(run):
                        self._delivery.end(state, Ended(run, "cancelled"))
        finally:
            self._inbox.clear()
            self.backend.close()
            self._delivery.close(wait=False)

    def _take(self, events: Sequence[BackendEvent]) -> None:
        """Take events from the backend; those it emits while commands are carried out wait their turn."""
        self._inbox.extend(events)
        self._pump()

    def _pump(self) -> None:
        if self._pumping:
            return
        self._pumping = True
        try:
            while self._inbox:
                events = list(self._inbox)
                self._inbox.clear()
                with collection_paused():
                    for event in events:
                        self._note(event)
                    self._obey(self._decide(events))
        finally:
            self._pumping = False
        self._thread.look()

    def _decide(self, events: Sequence[BackendEvent]) -> Sequence[Command]:
        """What follows from ``events``; runs about which the scheduler fails end, so that no one waits for ever."""
        try:
            return self.scheduler.handle(events, time.monotonic())
        except Exception as error:
            commands = self._abandon(_runs_of(events), error)
        lost = [event for event in events if isinstance(event, NodeLost) and event.name in self.scheduler.nodes]
        return [*commands, *self._decide(lost)] if commands or len(lost) < len(events) else commands

    def _abandon(self, runs: Collection[str] | None, error: Exception) -> list[Command]:
        """End these runs, or all."""
        log.error("the scheduler failed; this is a bug of handoff_lab", exc_info=error)
        failure = Failure(FailureKind.NODE, f"the scheduler failed: {error!r}", retryable=False)
        commands: list[Command] = []
        for run, state in self._runs.items():
            if (runs is None or run in runs) and not self.scheduler.is_over(run):
                self._delivery.end(state, Ended(run, "failed", failure=failure))
                commands += self.scheduler.abandon(run)
        return commands

    def _note(self, event: BackendEvent) -> None:
        """Keep what the scheduler has no use for."""
        match event:
            case NodeLoad():
                self.last_seen[event.name] = time.time()
                self.loads[event.name] = event
            case NodeChanged():
                self._changed[event.name] += 1
            case NodeJoined():
                self.last_seen[event.info.name] = time.time()
                self._starting.discard(event.info.name)
                self._lost.pop(event.info.name, None)
            case NodeLost():
                self.last_seen.pop(event.name, None)
                self.loads.pop(event.name, None)
                self._starting.discard(event.name)
                self._lost[event.name] = event.reason

    def _carry_out(self, commands: Iterable[Command]) -> None:
        self._pumping, before = True, self._pumping
        try:
            self._obey(commands)
        finally:
            self._pumping = before
        self._pump()

    def _obey(self, commands: Iterable[Command]) -> None:
        moment = time.time()
        told: list[tuple[Sequence[RunState], Event | FunctionBatch]] = []
        starts: list[Start] = []
        for command in commands:
            match command:
                case Start():
                    starts.append(command)
                case Report():
                    event = Event(command.name, moment, command.measurements, command.metadata)
                    told.append((self._concerned(command), event))
                case ReportQueued() | ReportFinished() | ReportTransferred():
                    told.append(((self._runs[command.run],), self._batch(command, moment)))
                case Stop():
                    self.backend.cancel(command.id, command.how)
                case Wake():
                    delay = max(0.0, command.at - time.monotonic())
                    self._thread.loop.call_later(delay, self._wake)
                case Free():
                    self.backend.free(command.keys)
                case Ended():
                    self._delivery.events(told)
                    told = []
                    self._delivery.end(self._runs[command.run], command)
        for at in range(0, len(starts), _SLICE):  # so that nodes have something to do while the rest is made ready
            self._submit(starts[at : at + _SLICE])
        if told:  # last: whoever hears of it competes for this process's time
            self._delivery.events(told)

    def _batch(self, command: ReportQueued | ReportFinished | ReportTransferred, moment: float) -> FunctionBatch:
        ids = self._ids[command.run]
        match command:
            case ReportQueued():
                return queued_batch(command, ids, moment)
            case ReportFinished():
                return finished_batch(command, ids)
            case ReportTransferred():
                return transferred_batch(command, ids)

    def _concerned(self, report: Report) -> Sequence[RunState]:
        run = report.metadata.get("run")
        if run is not None:
            return (self._runs[run],)
        return [state for id, state in self._runs.items() if not self.scheduler.is_over(id)]

    def _submit(self, starts: Sequence[Start]) -> None:
        """Make attempts of what is to start, and hand them to the backend together."""
        attempts: list[Attempt] = []
        elsewhere: dict[str, bool] = {}  # whether a node is another process
        for start in starts:
            state = self._runs[start.id.run]
            node = start.node
            if node not in elsewhere:
                elsewhere[node] = Feature.PROCESSES in self.backend.features_of(node)
            hidden = start.id.function in state.program.serializers
            target_node = self.scheduler.target_node(start.id) if hidden else ""
            attempt = state.calls.attempt(start, target_node, elsewhere[node])
            if isinstance(attempt, Failure):
                self._inbox.append(Failed(start.id, attempt))
            else:
                attempts.append(attempt)
        self.backend.submit(attempts)

    def _wake(self) -> None:
        try:
            commands = self.scheduler.wake(time.monotonic())
        except Exception as error:
            commands = self._abandon(None, error)
        self._carry_out(commands)


def _runs_of(events: Iterable[BackendEvent]) -> set[str] | None:
    """The runs of which something was told; None: maybe all."""
    runs = set()
    for event in events:
        match event:
            case NodeJoined() | NodeChanged() | NodeLost() | ResultLost():
                return None
            case Started() | Finished() | Failed() | Cancelled() | Wrote():
                runs.add(event.id.run)
            case FinishedMany() | TransferredMany():
                runs.add(event.run)
            case Transferred():
                runs.add(event.key.run)
    return runs
