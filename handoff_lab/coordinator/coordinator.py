"""Joins the scheduler and a backend on one thread. Here is what other threads may ask of them, and wait for."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handoff_lab._errors import BackendError
from handoff_lab.backends.base import Backend, Code, Feature
from handoff_lab.coordinator.delivery import Delivery
from handoff_lab.coordinator.engine import Engine
from handoff_lab.coordinator.garbage import collection_paused
from handoff_lab.coordinator.nodes import NodeBook
from handoff_lab.coordinator.runs import EarlierRun, RunBook
from handoff_lab.coordinator.thread import LoopThread
from handoff_lab.messages import AttemptId, Failure, FailureKind
from handoff_lab.scheduler import RunOptions, Scheduler
from handoff_lab.store.payload import Payload

if TYPE_CHECKING:
    from collections.abc import Hashable

    from handoff_lab.coordinator.request import Prepared
    from handoff_lab.coordinator.state import RunState
    from handoff_lab.coordinator.verbs import SeenNode
    from handoff_lab.resources import Resources, ResourceTracker


class Coordinator:
    """Holds the runs of a cluster. Its methods may be called from any thread; the work is done on its own."""

    def __init__(self, backend: Backend, name: str, tracker: ResourceTracker | None = None) -> None:
        self.backend = backend
        backend.columns = True
        self.scheduler = Scheduler(tracker, advice=lambda: str(getattr(backend, "advice", "")))
        self._thread = LoopThread(f"{name} coordinator", self._shut)
        self._delivery = Delivery(name)
        self._node_book = NodeBook(backend, self.scheduler)
        self._run_book = RunBook(backend, self.scheduler)
        self._runs = self._run_book.states
        self._engine = Engine(backend, self.scheduler, self._thread, self._delivery, self._runs, self._node_book.note)
        self.loads = self._node_book.loads
        self.call, self.wait_until = self._thread.call, self._thread.wait_until

    def open(self, nodes: Iterable[str]) -> None:
        """Start the thread and the backend, which begins to start ``nodes``."""
        self._node_book.expect(nodes)
        self._thread.start()
        try:
            self.call(lambda: self.backend.open(self._thread.loop, self._engine.take))
        except BaseException:
            self.close()
            raise

    def close(self, wait: bool = True) -> None:
        """Cancel what runs, end the backend's nodes and the thread. Closing twice does no harm."""
        self._thread.close(wait)
        self._delivery.close(wait)

    def _shut(self) -> None:
        try:
            self._engine.cancel_all()
        finally:
            self.backend.close()
            self._delivery.close(wait=False)

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
            raise BackendError(f"a cluster of {self._kind} can't be joined by nodes")
        return Path(path)

    def seen_nodes(self) -> dict[str, SeenNode]:
        """The nodes that are there, by name, in the order of names."""
        return self.call(self._node_book.seen)

    def available(self, node: str, cost: Resources) -> bool:
        """Whether a node could take ``cost`` now."""
        return self.call(lambda: self.scheduler.available(node, cost))

    def add_node(self, name: str | None, capabilities: Mapping[str, float]) -> str:
        """Start a node, and wait until it is there; its name."""
        chosen = self.call(lambda: self._node_book.start(name, capabilities))
        self.wait_for_nodes([chosen])
        return chosen

    def wait_for_nodes(self, names: Iterable[str]) -> None:
        """Wait until these nodes are there; raises why one could not be started."""
        wanted = set(names)
        self.wait_until(lambda: self._node_book.are_settled(wanted))
        self.call(lambda: self._node_book.require(wanted))

    def remove_node(self, name: str, drain: bool) -> None:
        """Let a node go, after what runs there if ``drain``, and wait until it is gone."""
        if drain:
            self._drain(name)

        def remove() -> None:
            if name in self.backend.nodes():
                self.backend.remove_node(name)

        self.call(remove)
        self._wait_for_end(name)

    def invite(self, ttl_s: float) -> str:
        """The text with which one more node joins."""
        invite: Callable[[float], str] = self._verb("invite", "can't be joined")
        return self.call(lambda: invite(ttl_s))

    def revoke(self, name: str) -> None:
        """Cut a node off for good, and wait until what it had was given up."""
        revoke: Callable[[str], None] = self._verb("revoke", "have no keys")
        self.call(lambda: revoke(name))
        self._wait_for_end(name)

    def _wait_for_end(self, name: str) -> None:
        self.wait_until(lambda: name not in self.scheduler.nodes)

    def _drain(self, name: str) -> None:
        """Wait until a node has done what runs there, or can run nowhere else; then fetch what lies there alone.

        An interrupt takes it back.
        """
        self.call(lambda: self._engine.carry_out(self.scheduler.retire(name, time.monotonic())))
        try:
            self.wait_until(lambda: name not in self.scheduler.nodes or self.scheduler.is_idle(name))
            self.call(lambda: self._engine.carry_out(self.scheduler.drain(name, time.monotonic())))
            self._bring_results(name)
        except BaseException:
            self.call(lambda: self._engine.carry_out(self.scheduler.undrain(name, time.monotonic())))
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
        number = self.call(lambda: self._node_book.change(name, capabilities))
        self.wait_until(lambda: self._node_book.has_changed(name, number))

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
            raise BackendError(f"{self._kind} have no kernel to run cells in")
        verb: Callable[..., Any] = getattr(self.backend, name)
        return verb

    def _verb(self, name: str, lack: str) -> Callable[..., Any]:
        """What only some backends can do."""
        verb: Callable[..., Any] | None = getattr(self.backend, name, None)
        if verb is None:
            raise BackendError(f"{self._kind} {lack}")
        return verb

    @property
    def _kind(self) -> str:
        """What the nodes are, to users."""
        return str(getattr(self.backend, "kind", f"nodes of {type(self.backend).__name__}"))

    # -- runs ----------------------------------------------------------------

    def begin(self, prepared: Prepared) -> None:
        """Begin a run; raises what is wrong with it before anything starts."""
        self.submit(prepared.state, prepared.request.options, prepared.codes.codes, prepared.values)

    def submit(
        self,
        state: RunState,
        options: RunOptions,
        codes: Mapping[str, Code],
        values: Mapping[AttemptId, Payload],
    ) -> None:
        """Begin a run; raises what is wrong with it before anything starts."""

        def submit() -> None:
            with collection_paused():
                self._engine.carry_out(self._run_book.begin(state, options, codes, values))

        self.call(submit)

    def resume(self, runs: Sequence[EarlierRun], keep: Callable[[set[AttemptId]], None]) -> None:
        """Take up runs of a coordinator that was killed.

        Parameters
        ----------
        keep
            Called, before anything starts, with the attempts that go on where they are.
        """

        def resume() -> None:
            commands, running = self._run_book.resume(runs)
            keep({event.id for event in running})
            self._engine.carry_out(commands)
            self._engine.take(event for event in running if event.started)

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
        self.call(lambda: self._engine.carry_out(self.scheduler.cancel(run, time.monotonic(), function)))

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
        return self.call(lambda: self._run_book.results_of(run))

    def forget(self, run: str) -> None:
        """Free everything that a run left behind, once it is over. Called from finalizers: never waits."""

        def forget() -> None:
            state = self._runs.get(run)
            if state is None:
                return
            if self.scheduler.is_over(run):
                self._delivery.withdraw(state)
                self._engine.carry_out(self._run_book.forget(run))
            else:
                state.when_over(lambda: self._thread.loop.call_soon_threadsafe(forget))

        if not self.closed:
            self._thread.loop.call_soon_threadsafe(forget)
