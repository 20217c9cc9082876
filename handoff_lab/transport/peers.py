"""The data plane: members of a cluster read values from each other directly, the coordinator's process among them.

A reader sends one frame ``[number, run, function, attempt]`` and gets, when the holder has the value,
``[number, true]`` followed by the value's frames; or ``[number, false]`` when the holder knows that it will not come.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgpack  # type: ignore[import-untyped]
import zmq

from handoff_lab.messages import AttemptId
from handoff_lab.store.memory import MemoryStore
from handoff_lab.store.payload import Frames
from handoff_lab.transport.keys import KeyPair
from handoff_lab.transport.loop import Loop
from handoff_lab.transport.rows import read_id
from handoff_lab.transport.sockets import DATA_THREAD, Heartbeat, Watch, cut, dial, serve
from handoff_lab.transport.wire import WireError
from handoff_lab.transport.zap import Admission

log = logging.getLogger(__name__)

DOMAIN = "data"
HEARTBEAT = Heartbeat(every_s=1.0, timeout_s=5.0)  # a large frame keeps libzmq's thread from answering for a while
CONNECT_S = 10.0
RETRY_S = 0.05
_HERE_ID = " "  # User-Id of the member ``HERE``: an empty one would be none
_SMALL = 64 * 1024  # bytes: copying less costs less than sharing it

Arrived: TypeAlias = Callable[[Frames | str], None]  # the value, or why it could not be read


@dataclass(frozen=True, slots=True)
class Member:
    """One that holds values: what it is called, the key it proves itself with, and where it listens."""

    name: str
    public_key: str
    endpoint: str


class Peers:
    """Serves this process's values to the other members, and reads theirs."""

    def __init__(self, loop: Loop, keys: KeyPair, admission: Admission, store: MemoryStore[Frames], host: str) -> None:
        self._loop = loop
        self._keys = keys
        self._admission = admission
        self._store = store
        self._members: dict[str, Member] = {}
        self._links: dict[str, _Link] = {}
        self._connections: dict[str, set[int]] = {}  # descriptors from which each member asked
        self._socket, self.endpoint = serve(loop, keys, DOMAIN, host, HEARTBEAT, DATA_THREAD)
        self._watch = Watch(loop, self._socket, zmq.EVENT_DISCONNECTED, self._disconnected)
        loop.add_reader(self._socket, self._serve_all)

    def add(self, member: Member) -> None:
        """Make a member known: it may read here, and can be read from."""
        self._members[member.name] = member
        self._admission.admit(DOMAIN, member.public_key, member.name or _HERE_ID)

    def remove(self, name: str) -> None:
        """Forget a member: its connections are cut, and what is being read from it fails."""
        member = self._members.pop(name, None)
        if member is None:
            return
        self._admission.revoke(DOMAIN, member.public_key)
        for descriptor in self._connections.pop(name, ()):
            cut(descriptor)
        link = self._links.pop(name, None)
        if link is not None:
            link.close(f"node {name!r} is gone")

    def read(self, holder: str, key: AttemptId, arrived: Arrived) -> None:
        """Fetch a value from the member that holds it, or will."""
        member = self._members.get(holder)
        if member is None:
            arrived(f"node {holder!r} is gone")
            return
        link = self._links.get(holder)
        if link is None:
            link = self._links[holder] = _Link(self._loop, self._keys, member, lambda: self._links.pop(holder))
        link.ask(key, arrived)

    def close(self) -> None:
        """Serve and read no more; what is being read fails."""
        for name in list(self._members):
            self.remove(name)
        self._watch.close()
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _serve_all(self) -> None:
        while True:
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            try:
                self._serve(frames)
            except WireError as error:
                log.warning("a malformed request for a value was dropped: %s", error)

    def _serve(self, frames: list[zmq.Frame]) -> None:
        name = str(frames[-1].get("User-Id")).removeprefix(_HERE_ID)
        if name not in self._members:
            return  # its key was revoked while this was under way
        self._watch.drain()  # so that a descriptor used anew is not taken for the old connection
        self._connections.setdefault(name, set()).add(int(frames[-1].get(zmq.SRCFD)))
        identity = frames[0].bytes
        number, *row = _parse(frames[1:])
        self._store.want(read_id(row), lambda value: self._answer(identity, number, value))

    def _answer(self, identity: bytes, number: int, value: Frames | None) -> None:
        head = msgpack.packb((number, value is not None))
        try:
            self._socket.send_multipart([identity, head, *(value.parts if value else ())], copy=False)
        except zmq.ZMQError as error:
            log.debug("a value could not be sent: %s", error)  # the reader is gone

    def _disconnected(self, event: int, descriptor: int) -> None:
        for descriptors in self._connections.values():
            descriptors.discard(descriptor)


class _Link:
    """A connection for reading from one member, until it breaks; ``broken`` is called then."""

    def __init__(self, loop: Loop, keys: KeyPair, member: Member, broken: Callable[[], object]) -> None:
        self._loop = loop
        self._keys = keys
        self._member = member
        self._broken = broken
        self._numbers = itertools.count()
        self._asked: dict[int, tuple[AttemptId, Arrived]] = {}
        self._up = False
        self._deadline = loop.call_later(CONNECT_S, self._unreachable)
        self._retry = loop.call_later(0, lambda: None)
        self._open()

    def ask(self, key: AttemptId, arrived: Arrived) -> None:
        number = next(self._numbers)
        self._asked[number] = key, arrived
        if not self._socket.closed:  # else it is sent when the socket is opened again
            self._send(number, key)

    def close(self, reason: str) -> None:
        self._deadline.cancel()
        self._retry.cancel()
        self._shut()
        asked, self._asked = self._asked, {}
        for _, arrived in asked.values():
            arrived(reason)

    def _open(self) -> None:
        member = self._member
        self._socket = dial(self._loop, self._keys, member.public_key, member.endpoint, HEARTBEAT, DATA_THREAD)
        events = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_DISCONNECTED
        self._watch = Watch(self._loop, self._socket, events, self._happened)
        self._loop.add_reader(self._socket, self._take_all)
        self._socket.connect(member.endpoint)
        for number, (key, _) in self._asked.items():
            self._send(number, key)

    def _shut(self) -> None:
        if not self._socket.closed:
            self._watch.close()
            self._loop.remove_reader(self._socket)
            self._socket.close()

    def _send(self, number: int, key: AttemptId) -> None:
        self._socket.send(msgpack.packb((number, *key)))

    def _happened(self, event: int, value: int) -> None:
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._up = True
            self._deadline.cancel()
        elif event == zmq.EVENT_DISCONNECTED and self._up:
            self._break(f"the connection to node {self._member.name!r} broke")
        else:  # the member has not heard of us yet; libzmq does not try again after a refusal
            self._shut()
            self._retry = self._loop.call_later(RETRY_S, self._open)

    def _unreachable(self) -> None:
        self._break(f"node {self._member.name!r} cannot be reached at {self._member.endpoint}")

    def _break(self, reason: str) -> None:
        self._broken()
        self.close(reason)

    def _take_all(self) -> None:
        while not self._socket.closed:
            try:
                head, *parts = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            try:
                number, found = _parse([head])
            except (WireError, ValueError):
                log.warning("a malformed answer from node %r was dropped", self._member.name)
                continue
            _, arrived = self._asked.pop(number, (None, None))
            if arrived is not None:
                arrived(_value(parts) if found and parts else f"node {self._member.name!r} does not have it any more")


def _value(parts: list[zmq.Frame]) -> Frames:
    return Frames(tuple(part.buffer if len(part) > _SMALL else part.bytes for part in parts))


def _parse(frames: list[zmq.Frame]) -> list[Any]:
    try:
        (frame,) = frames
        head = msgpack.unpackb(frame.buffer, strict_map_key=True)
    except (ValueError, msgpack.UnpackException, RecursionError):
        raise WireError("no msgpack") from None
    if not isinstance(head, list) or not head or not isinstance(head[0], int):
        raise WireError("no list")
    return head
