"""The cluster's end of a detached coordinator: asks it, and keeps the runs of this process up to date."""

from __future__ import annotations

import itertools
import json
import logging
import pickle
import queue
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cloudpickle  # type: ignore[import-untyped]

from handoff_lab._errors import BackendError, HandoffError
from handoff_lab.backends.base import Feature
from handoff_lab.backends.kernels import KernelBackend
from handoff_lab.coordinator.delivery import Delivery
from handoff_lab.coordinator.request import Prepared
from handoff_lab.coordinator.state import RunState
from handoff_lab.coordinator.thread import LoopThread
from handoff_lab.coordinator.verbs import SeenNode
from handoff_lab.detached.feed import Feed
from handoff_lab.detached.line import Line
from handoff_lab.detached.outline import outline
from handoff_lab.detached.place import Place
from handoff_lab.detached.protocol import pack_parts, read_failure, read_seen
from handoff_lab.messages import AttemptId, Ended, Failure, FailureKind
from handoff_lab.resources import Resources
from handoff_lab.store.payload import Frames, Payload
from handoff_lab.transport.wire import pack

log = logging.getLogger(__name__)

_REPEATABLE = {
    "available", "cancel", "face", "fetch", "join_file", "node_log", "nodes", "results_of", "runs", "set_capabilities"
}  # fmt: skip


class _LostError(BackendError):
    """The coordinator was killed while it was asked for something."""

    def __init__(self) -> None:
        super().__init__(
            "the detached coordinator was lost before it answered, and another takes its place: "
            "see cluster.runs and cluster.nodes before you ask again"
        )


@dataclass(slots=True)
class _Pending:
    """A call that was not answered yet."""

    future: Future[Any]
    frames: Sequence[bytes]
    again: bool  # whether the next coordinator can be asked instead
    outputs: queue.SimpleQueue[dict[str, Any] | None] | None = None


class Client:
    """Holds a connection to the coordinator of a place, and finds the next one when it is started again.

    Methods may be called from any thread, as those of a ``Coordinator``.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self._numbers = itertools.count()
        self._pending: dict[int, _Pending] = {}
        self._feeds: dict[int, Feed] = {}  # by the number of the call that they answer
        self._held: Counter[str] = Counter()  # how often runs are held here, whose feeds those are
        self._delivery = Delivery(place.name)
        self._thread = LoopThread(f"{place.name} client", self._shut)
        self._line: Line | None = None

    def open(self) -> None:
        """Connect; raises `BackendError` where nobody answers."""
        self._thread.start()
        welcome = self._thread.promise()

        def open_line() -> None:
            self._line = Line(self._thread.loop, self.place, self._take, self._lost, self._found, welcome)

        try:
            self._thread.call(open_line)
            welcome.result()
        except BaseException:
            self.detach()
            raise

    def detach(self, wait: bool = True) -> None:
        """Hang up; the cluster goes on."""
        self._thread.close(wait)
        self._delivery.close(wait)

    def close(self, wait: bool = True) -> None:
        """End the cluster: cancel what runs, end the nodes and leave nothing behind."""
        if self._line is not None and not self.closed:
            try:
                self._ask("close")
            finally:
                self.detach(wait)

    @property
    def closed(self) -> bool:
        """Whether nothing can be asked any more."""
        return self._thread.closing

    @property
    def kept(self) -> Any:
        """What the client that started the cluster left for others."""
        return cloudpickle.loads(self.place.read("kept"))

    # -- nodes -------------------------------------------------------------------

    @property
    def features(self) -> frozenset[Feature]:
        """What the nodes can do."""
        return KernelBackend.features

    @property
    def join_file(self) -> Path:
        """The file with which nodes join."""
        return Path(self._ask("join_file"))

    def seen_nodes(self) -> dict[str, SeenNode]:
        """The nodes that are there, by name, in the order of names."""
        return {seen.info.name: seen for seen in map(read_seen, self._ask("nodes"))}

    def available(self, node: str, cost: Resources) -> bool:
        """Whether a node could take ``cost`` now."""
        return bool(self._ask("available", node, dict(cost)))

    def wait_for_nodes(self, names: Iterable[str]) -> None:
        """Wait until these nodes are there; raises why one could not be started."""
        self._ask("wait_for_nodes", list(names))

    def add_node(self, name: str | None, capabilities: Mapping[str, float]) -> str:
        """Start a node, and wait until it is there; its name."""
        return str(self._ask("add_node", name, dict(capabilities)))

    def remove_node(self, name: str, drain: bool) -> None:
        """Let a node go, after what runs there if ``drain``, and wait until it is gone."""
        self._ask("remove_node", name, drain)

    def invite(self, ttl_s: float) -> str:
        """The text with which one more node joins."""
        return str(self._ask("invite", ttl_s))

    def revoke(self, name: str) -> None:
        """Cut a node off for good."""
        self._ask("revoke", name)

    def set_capabilities(self, name: str, capabilities: Mapping[str, float]) -> None:
        """Change what a node has, and wait until it says so."""
        self._ask("set_capabilities", name, dict(capabilities))

    def node_log(self, name: str) -> str:
        """What a node's agent wrote."""
        return str(self._ask("node_log", name))

    def run_cell(self, node: str, source: str, on_message: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Run a cell in a node's kernel; messages are handed over on the caller's thread."""
        outputs: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        reply = self._call("run_cell", node, source, outputs=outputs)
        reply.add_done_callback(lambda _: outputs.put(None))
        while (message := outputs.get()) is not None:
            on_message(message)
        content: dict[str, Any] = json.loads(reply.result())
        return content

    def interrupt_cell(self, node: str) -> None:
        """Interrupt what ``run_cell`` runs."""
        self._ask("interrupt_cell", node)

    # -- runs --------------------------------------------------------------------

    def begin(self, prepared: Prepared) -> None:
        """Begin a run; raises what is wrong with it before anything starts."""
        state = prepared.state
        state.logged_elsewhere = True
        self._hold(state.id)
        codes = {key: code.pickled() for key, code in prepared.codes.codes.items() if key not in prepared.codes.broken}
        values = {key: value for key, value in prepared.values.items() if isinstance(value, Frames)}
        frames = [
            outline(state),
            cloudpickle.dumps(prepared.request.options, protocol=5),
            pack_parts(codes, values),
            cloudpickle.dumps((prepared.request, dict(prepared.given)), protocol=5),
        ]
        self._call("begin", state.id, frames=frames, feed=Feed(state)).result()

    def runs(self) -> list[str]:
        """The ids of the runs that the coordinator holds, oldest first."""
        return list(self._ask("runs"))

    def face(self, run: str) -> Any:
        """What the client that began a run left for others: see ``begin``."""
        frames: Frames = self._ask("face", run)
        return cloudpickle.loads(frames.buffers[0])

    def follow(self, state: RunState) -> None:
        """Keep the state of a run, which another client began, up to date from now on."""
        state.logged_elsewhere = True
        self._hold(state.id)
        self._call("follow", state.id, 0, feed=Feed(state)).result()
        read: Future[None] = self._thread.promise()
        self._delivery.call(lambda: read.set_result(None))
        read.result()

    def cancel(self, run: str, function: int | None = None) -> None:
        """Cancel a run, or one function of it."""
        self._ask("cancel", run, function)

    def fetch(self, run: str, function: int) -> Future[Payload | Failure]:
        """A result, wherever it lies."""
        asked = self._call("fetch", run, function)
        fetched: Future[Payload | Failure] = Future()

        def take(_: object) -> None:
            try:
                found = asked.result()
            except BaseException as error:
                fetched.set_exception(error)
            else:
                failure = None if isinstance(found, Frames) else read_failure(found)
                fetched.set_result(found if failure is None else failure)

        asked.add_done_callback(take)
        return fetched

    def results_of(self, run: str) -> dict[Hashable, tuple[AttemptId, str]]:
        """Where the finished functions of a run have their results, by function id."""
        frames: Frames = self._ask("results_of", run)
        held: dict[Hashable, tuple[AttemptId, str]] = pickle.loads(frames.buffers[0])
        return held

    def _hold(self, run: str) -> None:
        def hold() -> None:
            self._held[run] += 1

        self._thread.loop.call_soon_threadsafe(hold)

    def forget(self, run: str) -> None:
        """Hear no more of a run that is held here no more; its results stay until ``drop``, for others to have."""

        def forget() -> None:
            self._held[run] -= 1
            if self._held[run] <= 0:
                del self._held[run]
                self._feeds = {number: feed for number, feed in self._feeds.items() if feed.state.id != run}

        if not self.closed:
            self._thread.loop.call_soon_threadsafe(forget)

    def drop(self, run: str) -> None:
        """Free everything that a run, which is over, left behind."""
        self._ask("forget", run)

    # -- asking ------------------------------------------------------------------

    def _ask(self, verb: str, *arguments: Any) -> Any:
        return self._call(verb, *arguments).result()

    def _call(
        self,
        verb: str,
        *arguments: Any,
        frames: Sequence[bytes] = (),
        outputs: queue.SimpleQueue[dict[str, Any] | None] | None = None,
        feed: Feed | None = None,
    ) -> Future[Any]:
        future = self._thread.promise()
        number = next(self._numbers)

        def send() -> None:
            if self._line is None:
                return  # the thread is ending, and breaks its promises
            message = [pack("call", number, verb, list(arguments)), *frames]
            self._pending[number] = _Pending(future, message, verb in _REPEATABLE, outputs)
            if feed is not None:
                self._feeds[number] = feed
            self._line.send(message)

        self._thread.loop.call_soon_threadsafe(send)
        return future

    # -- on the client's thread --------------------------------------------------

    def _take(self, kind: str, fields: list[Any], frames: list[bytes]) -> None:
        match kind:
            case "reply" | "value" | "error":
                pending = self._pending.pop(fields[0], None)
                if pending is not None and not pending.future.done():
                    _resolve(pending.future, kind, fields, frames)
            case "output":
                pending = self._pending.get(fields[0])
                if pending is not None and pending.outputs is not None:
                    pending.outputs.put(json.loads(fields[1]))
            case "news" | "failures" | "over":
                feed = self._feeds.get(fields[0])
                if feed is not None:
                    self._delivery.call(lambda: feed.take(kind, *fields[1:]))

    def _lost(self) -> None:
        """The coordinator is gone, for now: who asked for a change has to see whether it was made."""
        pending = self._pending
        self._pending = {number: call for number, call in pending.items() if call.again}
        for call in pending.values():
            if not call.again and not call.future.done():
                call.future.set_exception(_LostError())

    def _found(self, closed: bool) -> None:
        """The next coordinator is there, or the cluster was closed."""
        if closed:
            for feed in self._feeds.values():
                if not feed.is_over:
                    self._delivery.end(feed.state, Ended(feed.state.id, "cancelled"))
            self._thread.loop.call_soon(lambda: self.detach(wait=False))
            return
        for call in self._pending.values():
            if self._line is not None:
                self._line.send(call.frames)
        feeds, self._feeds = self._feeds, {}
        for number, feed in feeds.items():
            if feed.is_over:
                self._feeds[number] = feed
            else:
                self._delivery.call(partial(self._follow_again, feed))

    def _follow_again(self, feed: Feed) -> None:
        """On the thread that delivers: what came before is in the feed by now."""
        feed.begin_again()
        self._call("follow", feed.state.id, feed.seen, feed=feed).add_done_callback(partial(self._follows, feed))

    def _follows(self, feed: Feed, follow: Future[Any]) -> None:
        """The next coordinator tells of the run from now on, or does not know it."""
        error = follow.exception()
        if isinstance(error, HandoffError) and not isinstance(error, _LostError) and not self.closed:
            failure = Failure(FailureKind.NODE, f"it was lost with its coordinator: {error}", retryable=False)
            self._delivery.end(feed.state, Ended(feed.state.id, "failed", failure=failure))

    def _shut(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None


def _resolve(future: Future[Any], kind: str, fields: list[Any], frames: list[bytes]) -> None:
    if kind == "reply":
        future.set_result(fields[1][0])
    elif kind == "value":
        future.set_result(Frames(tuple(frames)))
    else:
        future.set_exception(pickle.loads(frames[0]))
