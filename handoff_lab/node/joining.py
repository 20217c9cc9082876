"""How a node gets in: it shows the join file's key, is told whether it may, and comes back with a key of its own."""

from __future__ import annotations

import math
import sys
import time

import zmq

from handoff_lab._errors import AuthenticationError, BackendError, VersionMismatchError
from handoff_lab.node.options import NodeOptions
from handoff_lab.transport.hello import Hello
from handoff_lab.transport.invitation import read_invitation
from handoff_lab.transport.keys import JoinFile, KeyPair
from handoff_lab.transport.loop import Loop
from handoff_lab.transport.sockets import CONTROL_THREAD, Heartbeat, Socket, Watch, dial, put
from handoff_lab.transport.stream import is_numbered
from handoff_lab.transport.wire import TO_NODE, pack, unpack

PATIENCE_S = 10.0
AGAIN_S = 0.5  # without an answer, until a question is put again
# A coordinator that was stopped for a moment (Ctrl-Z) should find its nodes again.
HEARTBEAT = Heartbeat(every_s=1.0, timeout_s=5.0)
NO_HEARTBEAT = Heartbeat(every_s=0, timeout_s=0)

_CHANGED = "it may be another cluster by now, or have a new join file: use its present one"
_USED_UP = "the invitation was used already, is past its time, or is of another cluster: ask for a new one"


class KeyRefusedError(AuthenticationError):
    """The coordinator answers, and does not admit this key."""


def way_in(options: NodeOptions) -> JoinFile:
    """Where to join, and with which key: the join file says it, or an invitation, of standard input if it is ``-``.

    Raises
    ------
    AuthenticationError
        It is none, or others can read it.
    """
    if options.join_file is not None:
        return JoinFile.read(options.join_file)
    return read_invitation(sys.stdin.readline() if options.invite == "-" else options.invite or "")


def join(loop: Loop, file: JoinFile, keys: KeyPair, hello: Hello, lifeline: int | None = None) -> Socket:
    """Join the coordinator that ``file`` names; a connection on which ``keys`` prove who this is.

    A ``lifeline`` that can be read says that there is no coordinator any more; with one, a coordinator that is silent
    is waited for, however long it was stopped.

    Raises
    ------
    AuthenticationError
        A key was refused, on either side.
    VersionMismatchError
        The coordinator's Python or protocol is another.
    BackendError
        Nobody answers there, or the node's name is taken.
    """
    call = _Call(loop, file, file.keys, lifeline)
    try:
        _check(call.ask(hello.pack()), hello.info.name)
    finally:
        call.close()
    call = _Call(loop, file, keys, lifeline)
    try:
        _check(call.ask(pack("numbered")), hello.info.name)
    except BaseException:
        call.close()
        raise
    return call.keep()


def _check(answer: list[str], name: str) -> None:
    if not answer:
        return
    reason, what, theirs, ours = answer
    if what:
        raise VersionMismatchError(what, ours, theirs, "the coordinator")
    raise BackendError(f"the coordinator refused node {name!r}: {reason}")


class _Call:
    """One connection to the coordinator, and one question on it."""

    def __init__(self, loop: Loop, file: JoinFile, keys: KeyPair, lifeline: int | None) -> None:
        self._file = file
        self._failure: Exception | None = None
        heartbeat = HEARTBEAT if lifeline is None else NO_HEARTBEAT
        self._socket = dial(loop, keys, file.server_key, file.endpoint, heartbeat, CONTROL_THREAD)
        failures = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
        self._watch = Watch(loop, self._socket, failures | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, self._failed)
        self._socket.connect(file.endpoint)
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._watch.monitor, zmq.POLLIN)
        if lifeline is not None:
            self._poller.register(lifeline, zmq.POLLIN)
        self._lifeline = lifeline

    def ask(self, message: bytes) -> list[str]:
        """The reason of a refusal, in its parts; nothing when we are welcome."""
        end = math.inf if self._lifeline is not None else time.monotonic() + PATIENCE_S
        again = 0.0
        while (now := time.monotonic()) < end:
            if now >= again:
                again = now + AGAIN_S
                put(self._socket, [message])
            ready = dict(self._poller.poll(int(AGAIN_S * 1000)))
            if self._socket in ready:
                answer = self._socket.recv()
                if is_numbered(answer):
                    continue  # we are welcome, but do not know it yet: this comes again
                kind, fields = unpack(answer, TO_NODE)
                return fields if kind == "refused" else []
            if self._lifeline in ready:
                break
            self._watch.drain()
            if self._failure is not None:
                raise self._failure
        raise BackendError(f"no coordinator answers at {self._file.endpoint}; is it still running, and reachable?")

    def keep(self) -> Socket:
        self._watch.close()
        return self._socket

    def close(self) -> None:
        self._watch.close()
        self._socket.close()

    def _failed(self, event: int, value: int) -> None:
        file = self._file
        hint = _USED_UP if file.once else _CHANGED
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self._failure = KeyRefusedError(f"the coordinator at {file.endpoint} does not admit this key; {hint}")
        else:
            reason = f"what listens at {file.endpoint} does not hold the coordinator's key"
            self._failure = AuthenticationError(f"{reason}; {hint}")
