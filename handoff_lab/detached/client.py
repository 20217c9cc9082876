"""The cluster's end of a detached coordinator: asks it, and keeps the runs of this process up to date."""

from __future__ import annotations

import json
import logging
import pickle
import queue
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from concurrent.futures import Future
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
from handoff_lab.coordinator.verbs import SeenNode
from handoff_lab.detached.calls import Calls, CoordinatorLostError, Outputs
from handoff_lab.detached.feed import Feed
from handoff_lab.detached.outline import outline
from handoff_lab.detached.place import Place
from handoff_lab.detached.protocol import pack_parts, read_failure, read_seen
from handoff_lab.messages import AttemptId, Ended, Failure, FailureKind
from handoff_lab.resources import Resources
from handoff_lab.store.payload import Frames, Payload
from handoff_lab.store.segments import Buffer

log = logging.getLogger(__name__)


class Client:
    """Holds a connection to the coordinator of a place, and finds the next one when it is started again.

    Methods may be called from any thread, as those of a ``Coordinator``.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self._feeds: dict[int, Feed] = {}  # by the number of the call that they answer
        self._moving: list[Feed] = []  # those that are to follow their runs at the next coordinator
        self._held: Counter[str] = Counter()  # how often runs are held here, whose feeds those are
        self._delivery = Delivery(place.name)
        self._calls = Calls(place, self._hear, self._found, self._given_up)
        self._ask = self._calls.ask

    def open(self) -> None:
        """Connect; raises `BackendError` where nobody answers."""
        try:
            self._calls.open()
        except BaseException:
            self.detach()
            raise

    def detach(self, wait: bool = True) -> None:
        """Hang up; the cluster goes on. Those who wait for a run hear of that after what was heard of it."""
        self._calls.close(wait)
        self._delivery.call(self._leave_runs)
        self._delivery.close(wait)

    def _leave_runs(self) -> None:
        for feed in [*self._feeds.values(), *self._moving]:
            feed.state.leave()

    def close(self, wait: bool = True) -> None:
        """End the cluster: cancel what runs, end the nodes and leave nothing behind."""
        if self.closed:
            return
        try:
            self._ask("close")
        except BackendError:
            if self.place.exists:  # else another was quicker
                raise
        finally:
            self.detach(wait)

    @property
    def closed(self) -> bool:
        """Whether nothing can be asked any more."""
        return self._calls.closed

    @property
    def kept(self) -> Any:
        """What the client that started the cluster left for others."""
        return _unpickled(self.place.read("kept") or b"", f"the cluster {self.place.name!r}")

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
        outputs: Outputs = queue.SimpleQueue()
        reply = self._calls.call("run_cell", node, source, outputs=outputs)
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
        self._calls.call("begin", state.id, frames=frames, begun=self._feeding(Feed(state))).result()

    def runs(self) -> list[str]:
        """The ids of the runs that the coordinator holds, oldest first."""
        return list(self._ask("runs"))

    def face(self, run: str) -> Any:
        """What the client that began a run left for others: see ``begin``."""
        frames: Frames = self._ask("face", run)
        return _unpickled(frames.buffers[0], f"run {run}")

    def follow(self, state: RunState) -> None:
        """Keep the state of a run, which another client began, up to date from now on."""
        state.logged_elsewhere = True
        self._hold(state.id)
        self._calls.call("follow", state.id, 0, begun=self._feeding(Feed(state))).result()
        read: Future[None] = self._calls.promise()
        self._delivery.call(lambda: read.set_result(None))
        read.result()

    def cancel(self, run: str, function: int | None = None) -> None:
        """Cancel a run, or one function of it."""
        self._ask("cancel", run, function)

    def fetch(self, run: str, function: int) -> Future[Payload | Failure]:
        """A result, wherever it lies."""
        asked = self._calls.call("fetch", run, function)
        fetched: Future[Payload | Failure] = Future()

        def take(_: object) -> None:
            try:
                found = asked.result()
                fetched.set_result(found if isinstance(found, Frames) else read_failure(found))
            except BaseException as error:
                fetched.set_exception(error)

        asked.add_done_callback(take)
        return fetched

    def results_of(self, run: str) -> dict[Hashable, tuple[AttemptId, str]]:
        """Where the finished functions of a run have their results, by function id."""
        frames: Frames = self._ask("results_of", run)
        held: dict[Hashable, tuple[AttemptId, str]] = pickle.loads(frames.buffers[0])
        return held

    def forget(self, run: str) -> None:
        """Hear no more of a run that is held here no more; its results stay until ``drop``, for others to have."""

        def forget() -> None:
            self._held[run] -= 1
            if self._held[run] <= 0:
                del self._held[run]
                self._feeds = {number: feed for number, feed in self._feeds.items() if feed.state.id != run}

        if not self.closed:
            self._calls.on_thread(forget)

    def drop(self, run: str) -> None:
        """Free everything that a run, which is over, left behind."""
        self._ask("forget", run)

    def _hold(self, run: str) -> None:
        def hold() -> None:
            self._held[run] += 1

        self._calls.on_thread(hold)

    # -- on the thread of the calls ------------------------------------------------

    def _feeding(self, feed: Feed) -> Callable[[int], None]:
        """Let a feed take what is heard under a call's number, unless its run was forgotten by then."""

        def begun(number: int) -> None:
            self._moving = [other for other in self._moving if other is not feed]
            if self._held[feed.state.id]:
                self._feeds[number] = feed

        return begun

    def _hear(self, kind: str, number: int, fields: list[Any]) -> None:
        feed = self._feeds.get(number)
        if feed is not None:
            self._delivery.call(partial(feed.take, kind, *fields))

    def _found(self) -> None:
        """Another coordinator is there."""
        feeds, self._feeds = self._feeds, {}
        for number, feed in feeds.items():
            if feed.is_over:
                self._feeds[number] = feed
            else:
                self._moving.append(feed)
                self._delivery.call(partial(self._follow_again, feed))

    def _follow_again(self, feed: Feed) -> None:
        """On the thread that delivers: what came before is in the feed by now."""
        feed.begin_again()
        follow = self._calls.call("follow", feed.state.id, feed.seen, begun=self._feeding(feed))
        follow.add_done_callback(partial(self._follows, feed))

    def _follows(self, feed: Feed, follow: Future[Any]) -> None:
        """The next coordinator tells of the run from now on, or does not know it."""
        error = follow.exception()
        if isinstance(error, HandoffError) and not isinstance(error, CoordinatorLostError) and not self.closed:
            self._fail(feed, str(error))

    def _given_up(self, why: str) -> None:
        """There will be no other coordinator: the cluster was closed, or it cannot go on."""
        was_closed = not self.place.exists
        if not was_closed:
            log.warning("the detached cluster %r cannot be reached any more: %s", self.place.name, why)
        for feed in [*self._feeds.values(), *self._moving]:
            if feed.is_over:
                continue
            if was_closed:
                self._delivery.end(feed.state, Ended(feed.state.id, "cancelled"))
            else:
                self._fail(feed, why)
        self._calls.on_thread(lambda: self.detach(wait=False))

    def _fail(self, feed: Feed, why: str) -> None:
        failure = Failure(FailureKind.NODE, f"it was lost with its coordinator: {why}", retryable=False)
        self._delivery.end(feed.state, Ended(feed.state.id, "failed", failure=failure))


def _unpickled(data: Buffer, what: str) -> Any:
    try:
        return cloudpickle.loads(data)
    except Exception as error:  # it may be anything that importing a user's module raises
        raise BackendError(
            f"{what} cannot be taken over here: {type(error).__name__}: {error}; "
            "see that the modules that its functions and policies need can be imported"
        ) from error
