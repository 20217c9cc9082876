"""A connection for reading from one that holds values: opened, opened again while the other does not know us yet, and
broken at last.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import zmq

from handoff_lab.store.segments import Buffer
from handoff_lab.transport.keys import KeyPair
from handoff_lab.transport.loop import Loop
from handoff_lab.transport.sockets import Heartbeat, Watch, dial, put
from handoff_lab.transport.stream import Stream
from handoff_lab.transport.wire import WireError

log = logging.getLogger(__name__)

HEARTBEAT = Heartbeat(every_s=1.0, timeout_s=5.0)  # a large frame keeps libzmq's thread from answering for a while
CONNECT_S = 10.0
NOWHERE = "tcp://0.0.0.0:0"  # where a member listens that nobody can connect to
RETRY_S = 0.05
AT_ONCE = 4  # messages taken before others have their turn: of chunks the next may be there when one is written


@dataclass(frozen=True, slots=True)
class Member:
    """One that holds values: what it is called, the key it proves itself with, and where it listens."""

    name: str
    public_key: str
    endpoint: str


class Connection:
    """To one member.

    Parameters
    ----------
    thread
        Which of libzmq's threads serves it: see ``sockets``.
    opened
        Called when it is open again: what was sent before is lost.
    received
        Gets each message: its first frame, and the others.
    broken
        Called once, with the reason, when nothing can be had any more.
    """

    def __init__(
        self,
        loop: Loop,
        keys: KeyPair,
        member: Member,
        thread: int,
        opened: Callable[[], None],
        received: Callable[[memoryview, Sequence[zmq.Frame]], None],
        broken: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._keys = keys
        self._member = member
        self._thread = thread
        self._opened = opened
        self._received = received
        self._broken = broken
        self._up = False
        self._deadline = loop.call_later(CONNECT_S, self._unreachable)
        self._retry = loop.call_later(0, lambda: None)
        self._open()

    @property
    def is_open(self) -> bool:
        """Whether something can be sent now."""
        return not self._socket.closed

    def send(self, *frames: Buffer) -> None:
        """Send a message, as long as it is open."""
        self._stream.send(*frames)

    def close(self) -> None:
        """Close it; nothing is called any more."""
        self._deadline.cancel()
        self._retry.cancel()
        self._shut()

    def _open(self) -> None:
        member = self._member
        self._socket = dial(self._loop, self._keys, member.public_key, member.endpoint, HEARTBEAT, self._thread)
        events = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_DISCONNECTED
        self._watch = Watch(self._loop, self._socket, events, self._happened)
        self._stream = Stream(self._loop, partial(put, self._socket))
        self._loop.add_reader(self._socket, self._take_some)
        try:
            self._socket.connect(member.endpoint)
        except zmq.ZMQError:  # it is no endpoint: nothing will ever come
            self._shut()
            self._deadline.cancel()
            self._deadline = self._loop.call_later(0, self._unreachable)

    def _open_again(self) -> None:
        self._open()
        self._opened()

    def _shut(self) -> None:
        if not self._socket.closed:
            self._watch.close()
            self._stream.close()
            self._loop.remove_reader(self._socket)
            self._socket.close()

    def _happened(self, event: int, value: int) -> None:
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._up = True
            self._deadline.cancel()
        elif event == zmq.EVENT_DISCONNECTED and self._up:
            self._break(f"the connection to node {self._member.name!r} broke")
        else:  # the member has not heard of us yet; libzmq does not try again after a refusal
            self._shut()
            self._retry = self._loop.call_later(RETRY_S, self._open_again)

    def _unreachable(self) -> None:
        self._break(f"node {self._member.name!r} cannot be reached at {self._member.endpoint}")

    def _break(self, reason: str) -> None:
        self.close()
        self._broken(reason)

    def _take_some(self) -> None:
        for _ in range(AT_ONCE):
            if self._socket.closed:
                return
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            self._take(frames)

    def _take(self, frames: list[zmq.Frame]) -> None:
        try:
            for head, *parts in self._stream.take([frames[0].buffer, *frames[1:]]):
                self._received(head, parts)
        except WireError as error:
            log.warning("a malformed answer of node %r was dropped: %s", self._member.name, error)
