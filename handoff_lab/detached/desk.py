"""Where clients of a detached coordinator come: takes their calls, tells them of runs, and minds the lease."""

from __future__ import annotations

import json
import logging
import pickle
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import zmq

from handoff_lab._errors import BackendError
from handoff_lab._version import __version__
from handoff_lab.coordinator import Coordinator
from handoff_lab.coordinator.codes import PickledCode
from handoff_lab.coordinator.state import RunState
from handoff_lab.detached.following import Follower, Scribe
from handoff_lab.detached.journal import Journal, Order
from handoff_lab.detached.outline import from_outline
from handoff_lab.detached.place import Settings
from handoff_lab.detached.protocol import (
    FROM_CLIENT,
    HEARTBEAT,
    VERSION,
    pack_error,
    seen_row,
    unpack_parts,
)
from handoff_lab.messages import Failure
from handoff_lab.resources import Resources
from handoff_lab.store.payload import Payload
from handoff_lab.transport.loop import Loop, Timer
from handoff_lab.transport.sockets import Watch
from handoff_lab.transport.wire import WireError, pack, unpack

log = logging.getLogger(__name__)

GOODBYE_S = 0.2  # for the last replies
CALL_S = 5.0  # for the client that started this coordinator because it wants to attach


@dataclass(slots=True)
class _Client:
    descriptor: int
    followers: set[Follower] = field(default_factory=set)  # of runs that go on


@dataclass(frozen=True, slots=True)
class _Call:
    """A call of a client, and how it is answered; any thread may answer."""

    client: bytes
    number: int
    frames: Sequence[bytes]
    tell: Callable[..., None]  # kind, fields, then frames as a keyword


class Desk:
    """Serves the clients of a coordinator on ``loop``, which it stops when one closes the cluster or all stay away."""

    def __init__(self, loop: Loop, path: Path, coordinator: Coordinator, journal: Journal, settings: Settings) -> None:
        self._loop = loop
        self._coordinator = coordinator
        self._journal = journal
        self._settings = settings
        self._clients: dict[bytes, _Client] = {}
        self._lease: Timer | None = None
        self._socket = loop.context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self._socket.sndtimeo = 0
        self._socket.sndhwm = self._socket.rcvhwm = 0
        self._socket.router_mandatory = True
        HEARTBEAT.apply(self._socket)
        self._watch = Watch(loop, self._socket, zmq.EVENT_DISCONNECTED, self._disconnected)
        self._socket.bind(f"ipc://{path}")
        loop.add_reader(self._socket, self._receive_all)
        self._begin_lease()

    def close(self) -> None:
        """Let clients hear the last replies, and listen no more."""
        self._watch.farewell(len(self._clients), GOODBYE_S)
        self._loop.remove_reader(self._socket)
        self._socket.close()

    # -- clients -----------------------------------------------------------------

    def _begin_lease(self) -> None:
        """End when no client has come by then; what a coordinator before this one waited counts."""
        now = time.monotonic()
        since = self._journal.alone_since
        if since is None or since > now:  # that was before the machine was started again
            since = self._journal.alone_since = now
        lease_s = self._settings.lease_s
        left_s = max(since + lease_s - now, min(lease_s, CALL_S))
        self._lease = self._loop.call_later(left_s, self._loop.stop)

    def _disconnected(self, event: int, descriptor: int) -> None:
        for identity, client in list(self._clients.items()):
            if client.descriptor == descriptor:
                del self._clients[identity]
                for follower in client.followers:
                    self._coordinator.hear(follower.end)
        if not self._clients and self._lease is None:
            self._begin_lease()

    def _receive_all(self) -> None:
        while not self._socket.closed:
            try:
                identity, *frames = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            if frames:
                self._receive(identity.bytes, int(frames[0].get(zmq.SRCFD)), [frame.bytes for frame in frames])

    def _receive(self, identity: bytes, descriptor: int, frames: Sequence[bytes]) -> None:
        try:
            kind, fields = unpack(frames[0], FROM_CLIENT)
        except WireError as error:
            log.warning("a client sent what is no message: %s", error)
            return
        if kind == "hello":
            self._welcome(identity, descriptor, *fields)
        elif identity in self._clients:
            self._call(identity, frames[1:], *fields)

    def _welcome(self, identity: bytes, descriptor: int, version: int, package: str) -> None:
        if version != VERSION:
            reason = f"the detached coordinator is of handoff_lab {__version__}, this is {package}; use one version"
            self._send(identity, [pack("refused", reason)])
            return
        self._watch.drain()  # so that a descriptor used anew is not taken for the old connection
        self._clients[identity] = _Client(descriptor)
        if self._lease is not None:
            self._lease.cancel()
            self._lease = self._journal.alone_since = None
        self._send(identity, [pack("welcome")])

    def _send(self, identity: bytes, frames: Sequence[Any]) -> None:
        try:
            self._socket.send_multipart([identity, *frames])
        except zmq.ZMQError as error:
            log.debug("a client did not get its answer: %s", error)  # it is gone; the watch will tell

    # -- calls -------------------------------------------------------------------

    def _call(self, identity: bytes, frames: Sequence[bytes], number: int, verb: str, arguments: list[Any]) -> None:
        def tell(kind: str, *fields: Any, frames: Sequence[Any] = ()) -> None:
            message = [pack(kind, *fields), *frames]
            self._loop.call_soon_threadsafe(lambda: self._send(identity, message))

        call = _Call(identity, number, frames, tell)
        threading.Thread(target=self._answer, args=(call, verb, arguments), name=f"call {verb}", daemon=True).start()

    def _answer(self, call: _Call, verb: str, arguments: list[Any]) -> None:
        """Each call has a thread: some wait for nodes."""
        try:
            result = _VERBS[verb](self, call, *arguments)
            if result is not _LATER:
                call.tell("reply", call.number, [result])
        except BaseException as error:
            call.tell("error", call.number, frames=[pack_error(error)])

    def _do_nodes(self, call: _Call) -> Any:
        return [seen_row(seen) for seen in self._coordinator.seen_nodes().values()]

    def _do_available(self, call: _Call, node: str, cost: dict[str, float]) -> bool:
        return bool(self._coordinator.available(node, Resources(cost)))  # a user's tracker may return anything

    def _do_wait_for_nodes(self, call: _Call, names: list[str]) -> None:
        self._coordinator.wait_for_nodes(names)

    def _do_add_node(self, call: _Call, name: str | None, capabilities: dict[str, float]) -> str:
        return self._coordinator.add_node(name, capabilities)

    def _do_remove_node(self, call: _Call, name: str, drain: bool) -> None:
        self._coordinator.remove_node(name, drain)

    def _do_invite(self, call: _Call, ttl_s: float) -> str:
        return self._coordinator.invite(ttl_s)

    def _do_revoke(self, call: _Call, name: str) -> None:
        self._coordinator.revoke(name)

    def _do_set_capabilities(self, call: _Call, name: str, capabilities: dict[str, float]) -> None:
        self._coordinator.set_capabilities(name, capabilities)

    def _do_node_log(self, call: _Call, name: str) -> str:
        return self._coordinator.node_log(name)

    def _do_join_file(self, call: _Call) -> str:
        return str(self._coordinator.join_file)

    def _do_run_cell(self, call: _Call, node: str, source: str) -> Any:
        def show(message: dict[str, Any]) -> None:
            call.tell("output", call.number, json.dumps(message).encode())

        return json.dumps(self._coordinator.run_cell(node, source, show))

    def _do_interrupt_cell(self, call: _Call, node: str) -> None:
        self._coordinator.interrupt_cell(node)

    def _do_begin(self, call: _Call, run: str) -> Any:
        order = Order(*call.frames)
        state = from_outline(order.outline)
        state.log_directory = self._settings.log_directory
        codes, values = unpack_parts(run, order.parts)
        if run in self._do_runs(call):
            raise BackendError(f"there is a run {run!r} already; begin another")
        try:
            self._journal.enter(run, order)
            Scribe(state, self._journal).begin()
            pickled = {key: PickledCode(None, data) for key, data in codes.items()}
            self._coordinator.submit(state, pickle.loads(order.options), pickled, values)
        except BaseException:
            self._journal.drop(run)
            raise
        return self._do_follow(call, run, 0)

    def _do_runs(self, call: _Call) -> list[str]:
        return [state.id for state in self._coordinator.runs]

    def _do_face(self, call: _Call, run: str) -> Any:
        call.tell("value", call.number, frames=[self._journal.order(run).face])
        return _LATER

    def _do_follow(self, call: _Call, run: str, seen: int) -> Any:
        """The answer comes when all is told that happened so far."""

        def over(follower: Follower) -> None:
            client = self._clients.get(call.client)
            if client is not None:
                self._loop.call_soon_threadsafe(partial(client.followers.discard, follower))

        follower = Follower(self._state(run), call.number, call.tell, over)

        def begin() -> None:
            follower.begin(seen)
            call.tell("reply", call.number, [None])

        def enter() -> None:
            client = self._clients.get(call.client)
            if client is not None:
                client.followers.add(follower)
                self._coordinator.hear(begin)

        self._loop.call_soon_threadsafe(enter)
        return _LATER

    def _state(self, run: str) -> RunState:
        for state in self._coordinator.runs:
            if state.id == run:
                return state
        raise BackendError(f"the cluster has no run {run!r}; it was forgotten")

    def _do_cancel(self, call: _Call, run: str, function: int | None) -> None:
        if function is not None and not 0 <= function < len(self._state(run).program.functions):
            raise ValueError(f"run {run!r} has no function number {function}")
        self._journal.cancel(run, function)  # first: who has the answer can rely on it
        self._coordinator.cancel(run, function)

    def _do_results_of(self, call: _Call, run: str) -> Any:
        held = self._coordinator.results_of(self._state(run).id)
        call.tell("value", call.number, frames=[pickle.dumps(held)])
        return _LATER

    def _do_fetch(self, call: _Call, run: str, function: int) -> Any:
        def reply(found: Any) -> None:
            try:
                value: Payload | Failure = found.result()
            except Exception as error:
                call.tell("error", call.number, frames=[pack_error(error)])
                return
            if isinstance(value, Failure):
                call.tell("reply", call.number, [value])
            else:
                call.tell("value", call.number, frames=value.buffers)  # type: ignore[attr-defined]

        self._coordinator.fetch(self._state(run).id, function).add_done_callback(reply)
        return _LATER

    def _do_forget(self, call: _Call, run: str) -> None:
        self._coordinator.forget(run)
        self._journal.drop(run)

    def _do_close(self, call: _Call) -> Any:
        self._coordinator.close()
        call.tell("reply", call.number, [None])
        self._loop.call_soon_threadsafe(self._loop.stop)
        return _LATER


_LATER = object()  # the answer comes by itself
_VERBS = {name.removeprefix("_do_"): do for name, do in vars(Desk).items() if name.startswith("_do_")}
