"""A client's connection to the coordinator of a place, whichever process that is at the time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import zmq

from handoff_lab._errors import BackendError, HandoffError
from handoff_lab._version import __version__
from handoff_lab.detached.place import Place
from handoff_lab.detached.process import launch
from handoff_lab.detached.protocol import HEARTBEAT, TO_CLIENT, VERSION
from handoff_lab.transport.loop import Loop
from handoff_lab.transport.sockets import Socket, Watch, put
from handoff_lab.transport.wire import WireError, pack, unpack

log = logging.getLogger(__name__)

AGAIN_S = 0.1
TRIES = 5  # to start another coordinator
_LOST = zmq.EVENT_DISCONNECTED | zmq.EVENT_CONNECT_RETRIED


class Line:
    """Sends and takes messages; says so when the coordinator is lost, and when the next one is there.

    Parameters
    ----------
    take
        Gets the kind and fields of each message, and its other frames.
    lost, found, given_up
        Called when the coordinator is gone, when there is another, and with the reason when there will be none.
    welcome
        Is kept when the first answers.
    """

    def __init__(
        self,
        loop: Loop,
        place: Place,
        take: Callable[[str, list[object], list[bytes]], None],
        lost: Callable[[], None],
        found: Callable[[], None],
        given_up: Callable[[str], None],
        welcome: Future[None],
    ) -> None:
        self._loop = loop
        self._place = place
        self._take = take
        self._lost = lost
        self._found = found
        self._given_up = given_up
        self._welcome = welcome
        self._socket: Socket | None = None
        self._watch: Watch
        self._up = False
        self._closed = False
        self._dial()

    def send(self, frames: Sequence[bytes]) -> None:
        """Send a message, if there is a coordinator now."""
        if self._up and self._socket is not None:
            put(self._socket, frames)

    def close(self) -> None:
        """Hang up."""
        self._closed = True
        self._drop()

    def _dial(self) -> None:
        if self._closed:
            return
        address = self._place.address
        if address is None:
            self._seek()
            return
        socket = self._socket = self._loop.context.socket(zmq.DEALER)
        socket.linger = 0
        socket.sndtimeo = 0
        socket.sndhwm = socket.rcvhwm = 0
        HEARTBEAT.apply(socket)
        self._watch = Watch(self._loop, socket, _LOST, lambda *_: self._loop.call_soon(lambda: self._on_lost(socket)))
        self._loop.add_reader(socket, self._receive_all)
        socket.connect(f"ipc://{address.socket}")
        put(socket, [pack("hello", VERSION, __version__)])

    def _drop(self) -> None:
        if self._socket is not None:
            self._watch.close()
            self._loop.remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        self._up = False

    def _on_lost(self, socket: Socket) -> None:
        if self._socket is socket:
            was_up = self._up
            self._drop()
            if was_up:
                self._lost()
            self._seek()

    def _seek(self) -> None:
        threading.Thread(target=self._find, name="detached coordinator", daemon=True).start()

    def _find(self) -> None:
        """Wait, on a thread of its own, for a coordinator that may answer; start one where there is none."""
        failures = 0
        why = "it was closed"
        while not self._closed and self._place.exists and failures < TRIES:
            time.sleep(AGAIN_S * (1 + failures))  # nothing tells when another process has begun to listen
            try:
                if not self._place.is_served:
                    launch(self._place)
                if self._place.address is not None:
                    self._loop.call_soon_threadsafe(self._dial)
                    return
            except (HandoffError, OSError) as error:
                log.debug("no coordinator yet: %s", error)
                failures += 1
                why = str(error)
        self._loop.call_soon_threadsafe(lambda: self._give_up(why))

    def _give_up(self, why: str) -> None:
        if not self._welcome.done():
            self._welcome.set_exception(BackendError(f"there is no coordinator of {self._place.name!r}: {why}"))
        elif not self._closed:
            self._given_up(why)

    # -- what comes --------------------------------------------------------------

    def _receive_all(self) -> None:
        while self._socket is not None and not self._socket.closed:
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                kind, fields = unpack(frames[0], TO_CLIENT)
            except WireError:
                log.exception("a message of the detached coordinator was not understood")
                continue
            if kind == "welcome":
                self._on_welcome()
            elif kind == "refused":
                self._give_up(str(fields[0]))
            else:
                self._take(kind, fields, frames[1:])

    def _on_welcome(self) -> None:
        self._up = True
        if self._welcome.done():
            self._found()
        else:
            self._welcome.set_result(None)
