"""The data plane: members of a cluster read values from each other directly, the coordinator's process among them.

A reader sends one frame ``[number, run, function, attempt, address]``, with a random number and the address of its
mailbox, if it has one. It gets, when the holder has the value, ``[number, true]`` followed by the value's frames; or
``[number, sizes]`` followed by the pickle, if the holder put a segment with buffers of these sizes into the mailbox; or
``[number, false]`` when the holder knows that the value will not come.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import msgpack  # type: ignore[import-untyped]
import zmq

from handoff_lab.messages import AttemptId
from handoff_lab.store.memory import MemoryStore
from handoff_lab.store.payload import Frames
from handoff_lab.store.segments import Segment
from handoff_lab.transport.keys import KeyPair
from handoff_lab.transport.loop import Loop
from handoff_lab.transport.mailbox import Mailbox
from handoff_lab.transport.rows import read_count, read_id, read_text
from handoff_lab.transport.sockets import DATA_THREAD, Heartbeat, Watch, cut, dial, serve
from handoff_lab.transport.wire import WireError
from handoff_lab.transport.zap import Admission

log = logging.getLogger(__name__)

DOMAIN = "data"
HEARTBEAT = Heartbeat(every_s=1.0, timeout_s=5.0)  # a large frame keeps libzmq's thread from answering for a while
CONNECT_S = 10.0
RETRY_S = 0.05
POST_AGAIN_S = 0.001  # for a mailbox that was full: a few descriptors fit into one
_NUMBER_BITS = 64
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
        self._mailbox: Mailbox | None = None
        self._socket, self.endpoint = serve(loop, keys, DOMAIN, host, HEARTBEAT, DATA_THREAD)
        self._watch = Watch(loop, self._socket, zmq.EVENT_DISCONNECTED, self._disconnected)
        loop.add_reader(self._socket, self._serve_all)

    def open_mailbox(self, path: Path) -> None:
        """Exchange segments with members on this host from now on; ``path`` is in a directory of mode 0700."""
        if self._mailbox is not None:
            return
        try:
            self._mailbox = Mailbox(self._loop, path)
        except OSError as error:
            log.warning("values will be copied between the processes of this host: %s", error)

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
            broken = partial(self._links.pop, holder)
            link = self._links[holder] = _Link(self._loop, self._keys, member, self._mailbox, broken)
        link.ask(key, arrived)

    def close(self) -> None:
        """Serve and read no more; what is being read fails."""
        for name in list(self._members):
            self.remove(name)
        if self._mailbox is not None:
            self._mailbox.close()
            self._mailbox = None
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
        asked = _read_request(name, frames)
        self._store.want(asked.key, lambda value: self._answer(asked, value))

    def _answer(self, asked: _Request, value: Frames | None) -> None:
        if value is None:
            self._send(asked, False)
            return
        *rest, last = value.parts
        try:
            if isinstance(last, Segment) and self._mailbox and self._mailbox.post(asked.address, asked.number, last):
                self._send(asked, last.sizes, *rest)
            else:
                self._send(asked, True, *value.buffers)
        except BlockingIOError:
            if asked.reader in self._members:
                self._loop.call_later(POST_AGAIN_S, lambda: self._answer(asked, value))

    def _send(self, asked: _Request, found: bool | Sequence[int], *parts: Any) -> None:
        head = msgpack.packb((asked.number, found))
        try:
            self._socket.send_multipart([asked.identity, head, *parts], copy=False)
        except zmq.ZMQError as error:
            log.debug("a value could not be sent: %s", error)  # the reader is gone

    def _disconnected(self, event: int, descriptor: int) -> None:
        for descriptors in self._connections.values():
            descriptors.discard(descriptor)


@dataclass(frozen=True, slots=True)
class _Request:
    """One who asked for a value, what for, and where its mailbox is."""

    reader: str
    identity: bytes
    number: int
    key: AttemptId
    address: list[str]


class _Link:
    """A connection for reading from one member, until it breaks; ``broken`` is called then."""

    def __init__(
        self, loop: Loop, keys: KeyPair, member: Member, mailbox: Mailbox | None, broken: Callable[[], object]
    ) -> None:
        self._loop = loop
        self._keys = keys
        self._member = member
        self._mailbox = mailbox
        self._broken = broken
        self._asked: dict[int, tuple[AttemptId, Arrived]] = {}
        self._up = False
        self._deadline = loop.call_later(CONNECT_S, self._unreachable)
        self._retry = loop.call_later(0, lambda: None)
        self._open()

    def ask(self, key: AttemptId, arrived: Arrived) -> None:
        number = secrets.randbits(_NUMBER_BITS)
        self._asked[number] = key, arrived
        if not self._socket.closed:  # else it is sent when the socket is opened again
            self._send(number, key)

    def close(self, reason: str) -> None:
        self._deadline.cancel()
        self._retry.cancel()
        self._shut()
        asked, self._asked = self._asked, {}
        for number, (_, arrived) in asked.items():
            self._forget(number)
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
        address = self._mailbox.expect(number) if self._mailbox is not None else []
        self._socket.send(msgpack.packb((number, *key, address)))

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
                number, found = _read_answer(head)
            except WireError:
                log.warning("a malformed answer from node %r was dropped", self._member.name)
                continue
            _, arrived = self._asked.pop(number, (None, None))
            if arrived is not None:
                value = self._value(number, found, parts)
                self._forget(number)
                arrived(value or f"node {self._member.name!r} does not have it any more")

    def _value(self, number: int, found: bool | list[int], parts: list[zmq.Frame]) -> Frames | None:
        if not found or not parts:
            return None
        buffers = [part.buffer if len(part) > _SMALL else part.bytes for part in parts]
        if found is True:
            return Frames(tuple(buffers))
        segment = self._mailbox.take(number, found) if self._mailbox is not None else None
        return None if segment is None else Frames((*buffers, segment))

    def _forget(self, number: int) -> None:
        if self._mailbox is not None:
            self._mailbox.forget(number)


def _read_request(reader: str, frames: list[zmq.Frame]) -> _Request:
    number, *fields = _parse(frames[1:])
    if not 0 <= number < 2**_NUMBER_BITS or len(fields) != 4 or not isinstance(fields[3], list):
        raise WireError("no request")
    return _Request(reader, frames[0].bytes, number, read_id(fields[:3]), [read_text(part) for part in fields[3]])


def _read_answer(head: zmq.Frame) -> tuple[int, bool | list[int]]:
    number, *fields = _parse([head])
    if len(fields) == 1 and isinstance(fields[0], bool):
        return number, fields[0]
    if len(fields) == 1 and isinstance(fields[0], list):
        return number, [read_count(size) for size in fields[0]]
    raise WireError("no answer")


def _parse(frames: list[zmq.Frame]) -> list[Any]:
    try:
        (frame,) = frames
        head = msgpack.unpackb(frame.buffer, strict_map_key=True)
    except (ValueError, msgpack.UnpackException, RecursionError):
        raise WireError("no msgpack") from None
    if not isinstance(head, list) or not head or not isinstance(head[0], int):
        raise WireError("no list")
    return head
