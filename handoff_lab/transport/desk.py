"""Where members of a cluster ask for what this process holds: who they are, and their connections."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import zmq

from handoff_lab.transport.connection import HEARTBEAT
from handoff_lab.transport.keys import KeyPair
from handoff_lab.transport.loop import Loop
from handoff_lab.transport.questions import is_answer
from handoff_lab.transport.sockets import Watch, cut, serve
from handoff_lab.transport.stream import Stream, is_numbered
from handoff_lab.transport.wire import WireError
from handoff_lab.transport.zap import Admission, name_in

log = logging.getLogger(__name__)

DOMAIN = "data"
AT_ONCE = 16  # requests taken before others have their turn
REQUEST_LIMIT = 64 * 2**20  # bytes of one; libzmq ends a connection that sends more, and takes no memory for it

Asked: TypeAlias = Callable[[str, bytes, memoryview], None]  # by whom, over which connection, what
Answered: TypeAlias = Callable[[str, memoryview, Sequence[zmq.Frame]], None]  # by whom, and what


class Desk:
    """A socket for requests, of one frame each.

    Parameters
    ----------
    thread
        Which of libzmq's threads serves it: see ``sockets``.
    admission
        Knows whose frames are whose.
    members
        Names of those who may ask; ``remove`` one that may no longer.
    asked
        Gets each request; raises ``WireError`` for what is none.
    answered
        Gets answers of those who call to be asked, in the same way.
    """

    def __init__(
        self,
        loop: Loop,
        keys: KeyPair,
        host: str,
        thread: int,
        admission: Admission,
        members: Container[str],
        asked: Asked,
        answered: Answered | None = None,
    ) -> None:
        self._loop = loop
        self._admission = admission
        self._members = members
        self._asked = asked
        self._answered = answered
        self._connections: dict[str, set[int]] = {}  # descriptors from which each member asked
        self._callers: dict[bytes, _Caller] = {}  # by identity
        self._socket, self.endpoint = serve(loop, keys, DOMAIN, host, HEARTBEAT, thread, REQUEST_LIMIT)
        self._watch = Watch(loop, self._socket, zmq.EVENT_DISCONNECTED, self._disconnected)
        loop.add_reader(self._socket, self._take_some)

    def send(self, identity: bytes, *frames: Any) -> None:
        """Answer over a connection."""
        caller = self._callers.get(identity)
        if caller is None:
            self._send(identity, *frames)
        else:
            caller.stream.send(*frames)

    def _send(self, identity: bytes, *frames: Any) -> None:
        try:
            self._socket.send_multipart([identity, *frames], copy=False)
        except zmq.ZMQError as error:
            log.debug("a value could not be sent: %s", error)  # the reader is gone

    def remove(self, name: str) -> None:
        """Cut a member's connections."""
        self._watch.drain()  # so that none of them has ended already
        for descriptor in self._connections.pop(name, ()):
            cut(descriptor)

    def close(self) -> None:
        """Be asked no more."""
        for caller in self._callers.values():
            caller.stream.close()
        self._watch.close()
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _take_some(self) -> None:
        for _ in range(AT_ONCE):
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            try:
                self._take(frames)
            except WireError as error:
                log.warning("a malformed request for a value was dropped: %s", error)

    def _take(self, frames: list[zmq.Frame]) -> None:
        user = str(frames[-1].get("User-Id"))
        name = name_in(user)
        descriptor = int(frames[-1].get(zmq.SRCFD))
        self._watch.drain()  # so that a descriptor used anew is not taken for the old connection
        if name not in self._members or not self._admission.counts(user):
            cut(descriptor)  # its key was revoked before it said anything: it is to know that nothing will come
            return
        self._connections.setdefault(name, set()).add(descriptor)
        if len(frames) < 2:
            raise WireError("no frame")
        identity, body = frames[0].bytes, frames[1].buffer
        if not is_numbered(body):
            self._hear(name, identity, body, frames[2:])
            return
        caller = self._callers.get(identity)
        if caller is None:
            caller = self._callers[identity] = _Caller(descriptor, self._stream_to(identity))
        for head, *parts in caller.stream.take([body, *frames[2:]]):
            self._hear(name, identity, head, parts)

    def _hear(self, name: str, identity: bytes, head: memoryview, parts: Sequence[zmq.Frame]) -> None:
        if self._answered is not None and is_answer(head):
            self._answered(name, head, parts)
        elif parts:
            raise WireError("not one frame")
        else:
            self._asked(name, identity, head)

    def _stream_to(self, identity: bytes) -> Stream:
        return Stream(self._loop, lambda frames: self._send(identity, *frames))

    def _disconnected(self, event: int, descriptor: int) -> None:
        for descriptors in self._connections.values():
            descriptors.discard(descriptor)
        for identity, caller in list(self._callers.items()):
            if caller.descriptor == descriptor:
                caller.stream.close()
                del self._callers[identity]


@dataclass(frozen=True, slots=True)
class _Caller:
    """One whose requests are numbered, as the answers are then."""

    descriptor: int
    stream: Stream
