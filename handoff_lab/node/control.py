"""A node's connection to its coordinator, once it has joined: commands come in, events go out in batches."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import zmq

from handoff_lab.messages import BackendEvent
from handoff_lab.node.outbox import Outbox
from handoff_lab.transport.loop import Loop
from handoff_lab.transport.sockets import Socket, Watch, put
from handoff_lab.transport.stream import Stream, is_numbered
from handoff_lab.transport.wire import TO_NODE, WireError, pack, unpack

log = logging.getLogger(__name__)

GOODBYE_S = 0.2  # for the last message of a node that ends by itself
_BROKEN = zmq.EVENT_DISCONNECTED | zmq.EVENT_CONNECT_RETRIED
_EVENTS = _BROKEN | zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_SUCCEEDED

Obey: TypeAlias = Callable[[str, list[Any]], None]


class Control:
    """Hands each command to ``obey``; calls ``lost`` when the coordinator has given us up.

    That it did when the connection broke, unless ``endures`` says that it waits for us to call again, as libzmq does.
    """

    def __init__(
        self,
        loop: Loop,
        socket: Socket,
        obey: Obey,
        is_urgent: Callable[[], bool],
        lost: Callable[[], None],
        endures: Callable[[], bool],
    ) -> None:
        self._loop = loop
        self._socket = socket
        self._obey = obey
        self._lost = lost
        self._endures = endures
        self._leaves = False
        self._stream = Stream(loop, partial(put, socket))
        self._outbox = Outbox(loop, self._stream.send, is_urgent)
        self._watch = Watch(loop, socket, _EVENTS, lambda event, value: loop.call_soon(lambda: self._happened(event)))
        loop.add_reader(socket, self._take_all)
        loop.call_soon(self._take_all)  # what came before the loop looked

    def tell(self, event: BackendEvent) -> None:
        """Send an event, soon."""
        self._outbox.add(event)

    def send(self, kind: str, *fields: Any) -> None:
        """Send a message of another kind, after the events so far."""
        self._outbox.flush()
        self._stream.send(pack(kind, *fields))

    def leave(self, reason: str) -> None:
        """Say why this node ends, and end the loop."""
        self._leaves = True
        self.send("leaving", reason)
        self._loop.stop()

    def close(self) -> None:
        """Hang up; who leaves waits until the coordinator, which heard of it, does so."""
        self._watch.farewell(int(self._leaves), GOODBYE_S)
        self._outbox.close()
        self._stream.close()
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _happened(self, event: int) -> None:
        if self._socket.closed:  # libzmq may say it in more than one way
            return
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._stream.resume()
        elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH or not self._endures():
            self._lost()

    def _take_all(self) -> None:
        while not self._socket.closed:
            try:
                data = self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            if is_numbered(data):  # else it is the answer to what we asked twice, when we joined
                for command, *_ in self._stream.take([data]):
                    self._take(command)

    def _take(self, data: memoryview) -> None:
        try:
            self._obey(*unpack(data, TO_NODE))
        except WireError:
            log.exception("a command of the coordinator was not understood")
