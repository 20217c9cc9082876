"""Joins the scheduler and a backend on one thread: events in, commands out. It decides nothing itself."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from handoff_lab._errors import BackendError
from handoff_lab.backends.base import Backend, Code, Feature
from handoff_lab.coordinator.delivery import Delivery
from handoff_lab.coordinator.state import RunState
from handoff_lab.messages import (
    Attempt,
    AttemptId,
    BackendEvent,
    Command,
    Ended,
    Failed,
    Failure,
    FailureKind,
    Finished,
    Free,
    NodeJoined,
    NodeLost,
    Report,
    Start,
    Stop,
    Wake,
)
from handoff_lab.resources import ResourceTracker
from handoff_lab.scheduler import RunOptions, Scheduler
from handoff_lab.store.payload import Payload
from handoff_lab.telemetry.events import Event
from handoff_lab.transport.loop import Loop

log = logging.getLogger(__name__)
T = TypeVar("T")


class Coordinator:
    """Holds the runs of a cluster. Its methods may be called from any thread; the work is done on its own."""

    def __init__(self, backend: Backend, name: str, tracker: ResourceTracker | None = None) -> None:
        self.backend = backend
        self.scheduler = Scheduler(tracker)
        self.inline: dict[AttemptId, tuple[bytes, ...]] = {}  # small results, kept here too
        self._loop = Loop()
        self._delivery = Delivery(name)
        self._runs: dict[str, RunState] = {}
        self._inbox: deque[BackendEvent] = deque()
        self._outbox: list[Attempt] = []
        self._lost: dict[str, str] = {}  # why nodes went, by name
        self._waiters: list[tuple[Callable[[], bool], Future[None]]] = []
        self._promises: set[Future[Any]] | None = set()
        self._promises_lock = threading.Lock()
        self._pumping = False
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=f"{name} coordinator", daemon=True)

    def open(self) -> None:
        """Start the thread and the backend."""
        self._thread.start()
        try:
            self.call(lambda: self.backend.open(self._loop, self._take))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Cancel what runs, end the backend's nodes and the thread. Does nothing the second time."""
        if self._closed:
            return
        self._closed = True
        self._loop.call_soon_threadsafe(self._shut)
        if threading.current_thread() is not self._thread:
            self._thread.join()
            self._delivery.close()

    def call(self, function: Callable[[], T]) -> T:
        """What ``function`` returns or raises, called on the coordinator's thread."""
        if threading.current_thread() is self._thread:
            return function()
        future: Future[T] = self._promise()

        def call() -> None:
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)

        self._loop.call_soon_threadsafe(call)
        return future.result()

    def _promise(self) -> Future[Any]:
        """A future that fails when the cluster is closed before it is kept."""
        future: Future[Any] = Future()
        with self._promises_lock:
            if self._promises is None:
                raise _closed_error()
            self._promises.add(future)
        future.add_done_callback(self._kept)
        return future

    def _kept(self, future: Future[Any]) -> None:
        with self._promises_lock:
            if self._promises is not None:
                self._promises.discard(future)

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until ``condition``, looked at on the coordinator's thread after each event, is true."""
        future = self._promise()
        self.call(lambda: self._waiters.append((condition, future)))
        self.call(self._tell_waiters)
        future.result()

    # -- nodes ---------------------------------------------------------------

    def wait_for_nodes(self, names: Iterable[str]) -> dict[str, str]:
        """Wait until these nodes are there or failed to come; why each of the latter did."""
        wanted = set(names)
        self.wait_until(lambda: wanted <= self.scheduler.nodes | self._lost.keys())
        return {name: self._lost[name] for name in wanted & self._lost.keys()}

    def drain(self, name: str) -> None:
        """Start nothing more on a node, and wait until nothing runs there."""
        self.call(lambda: self._carry_out(self.scheduler.drain(name, time.monotonic())))
        self.wait_until(lambda: self.scheduler.in_flight(name) == 0)

    def remove_node(self, name: str) -> None:
        """Let a node go, and wait until it is gone."""
        self.call(lambda: self.backend.remove_node(name))
        self.wait_until(lambda: name not in self.scheduler.nodes)

    def run_cell(self, node: str, source: str, on_message: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Run a cell in a node's kernel; messages are handed over on the caller's thread."""
        messages: queue.SimpleQueue[tuple[str, dict[str, Any]]] = queue.SimpleQueue()
        run = self._kernel_verb("run_cell")
        self.call(
            lambda: run(node, source, lambda m: messages.put(("message", m)), lambda r: messages.put(("reply", r)))
        )
        while True:
            kind, content = messages.get()
            if kind == "reply":
                return content
            on_message(content)

    def interrupt_cell(self, node: str) -> None:
        """Interrupt what ``run_cell`` runs."""
        interrupt = self._kernel_verb("interrupt_cell")
        self.call(lambda: interrupt(node))

    def _kernel_verb(self, name: str) -> Callable[..., Any]:
        if Feature.KERNEL not in self.backend.features:
            raise BackendError(f"nodes of {type(self.backend).__name__} have no kernels to run cells in")
        verb: Callable[..., Any] = getattr(self.backend, name)
        return verb

    # -- runs ----------------------------------------------------------------

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
            self.backend.load(codes)
            for key, value in inputs.items():
                self.backend.put(key, value)
            self._carry_out(commands)

        self.call(submit)

    def cancel(self, run: str, function: int | None = None) -> None:
        """Cancel a run, or one function of it."""
        self.call(lambda: self._carry_out(self.scheduler.cancel(run, time.monotonic(), function)))

    def fetch(self, run: str, function: int) -> Future[Payload | Failure]:
        """A result, wherever it lies."""
        future: Future[Payload | Failure] = self._promise()

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
        """Free everything that a run left behind; a run that still goes on is cancelled first."""

        def forget() -> None:
            state = self._runs.get(run)
            if state is None:
                return
            if self.scheduler.is_over(run):
                del self._runs[run]
                self._carry_out(self.scheduler.forget(run))
            else:
                state.when_over(lambda: self._loop.call_soon_threadsafe(forget))
                self._carry_out(self.scheduler.cancel(run, time.monotonic()))

        if not self._closed:
            self._loop.call_soon_threadsafe(forget)

    # -- on the coordinator's thread -----------------------------------------

    def _work(self) -> None:
        self._loop.run()
        self._loop.close()
        with self._promises_lock:
            broken, self._promises = self._promises or set(), None
        for future in broken:
            future.set_exception(_closed_error())

    def _shut(self) -> None:
        now = time.monotonic()
        for run, state in self._runs.items():
            if not self.scheduler.is_over(run):
                self._carry_out(self.scheduler.cancel(run, now))
                if not self.scheduler.is_over(run):
                    self._delivery.end(state, Ended(run, "cancelled"))
        self._inbox.clear()
        try:
            self.backend.close()
        finally:
            self._loop.stop()

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
                for event in events:
                    self._note(event)
                self._obey(self.scheduler.handle(events, time.monotonic()))
        finally:
            self._pumping = False
        self._tell_waiters()

    def _note(self, event: BackendEvent) -> None:
        """Keep what the scheduler has no use for."""
        match event:
            case Finished(inline=inline) if inline is not None:
                self.inline[event.id] = inline
            case Failed() if event.id.run in self._runs:
                self._runs[event.id.run].failures[event.id.function] = event.failure
            case NodeJoined():
                self._lost.pop(event.info.name, None)
            case NodeLost():
                self._lost[event.name] = event.reason

    def _tell_waiters(self) -> None:
        for waiter in [w for w in self._waiters if w[0]()]:
            self._waiters.remove(waiter)
            waiter[1].set_result(None)

    def _carry_out(self, commands: Iterable[Command]) -> None:
        self._pumping, before = True, self._pumping
        try:
            self._obey(commands)
        finally:
            self._pumping = before
        self._pump()

    def _obey(self, commands: Iterable[Command]) -> None:
        moment = time.time()
        told: list[tuple[Sequence[RunState], Event]] = []
        for command in commands:
            match command:
                case Start():
                    self._start(command)
                case Report():
                    event = Event(command.name, moment, command.measurements, command.metadata)
                    told.append((self._concerned(command), event))
                case Stop():
                    self.backend.cancel(command.id, command.how)
                case Wake():
                    delay = max(0.0, command.at - time.monotonic())
                    self._loop.call_later(delay, self._wake)
                case Free():
                    for key in command.keys:
                        self.inline.pop(key, None)
                    self.backend.free(command.keys)
                case Ended():
                    self._delivery.events(told)
                    told = []
                    self._delivery.end(self._runs[command.run], command)
        if told:
            self._delivery.events(told)
        if self._outbox:
            attempts, self._outbox = self._outbox, []
            self.backend.submit(attempts)

    def _concerned(self, report: Report) -> Sequence[RunState]:
        run = report.metadata.get("run")
        if run is not None:
            return (self._runs[run],)
        return [state for state in self._runs.values() if state.end is None]

    def _start(self, start: Start) -> None:
        state = self._runs[start.id.run]
        attempt = state.calls.attempt(start, self.scheduler.target_node(start.id))
        if isinstance(attempt, Failure):
            self._inbox.append(Failed(start.id, attempt))
        else:
            self._outbox.append(attempt)

    def _wake(self) -> None:
        self._carry_out(self.scheduler.wake(time.monotonic()))


def _closed_error() -> BackendError:
    return BackendError("the cluster is closed; make a new one")
