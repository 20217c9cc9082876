"""ZeroMQ sockets as this package uses them: CURVE always, heartbeats, and word of connections that end."""

from __future__ import annotations

import itertools
import logging
import os
import socket as system_socket
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

import zmq

from handoff_lab._errors import BackendError
from handoff_lab.transport.keys import KeyPair
from handoff_lab.transport.loop import Loop

log = logging.getLogger(__name__)

Socket: TypeAlias = zmq.Socket[bytes]

LEASE_S = 2.0  # for which a node may answer nothing: a machine that swaps, or is paused, stands still for a while
# Masks of libzmq's threads: values must not keep heartbeats waiting, nor large values small ones.
CONTROL_THREAD, DATA_THREAD, BULK_THREAD = 1, 2, 4
_WILDCARDS = {"*", "0.0.0.0", "::", ""}  # noqa: S104 - to refuse them


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """How often libzmq pings the other side, and after how much silence it gives up. No GIL is needed for either."""

    every_s: float = 0.4
    timeout_s: float = LEASE_S

    def apply(self, socket: Socket) -> None:
        """Set the options; before bind or connect."""
        socket.heartbeat_ivl = round(self.every_s * 1000)
        socket.heartbeat_timeout = round(self.timeout_s * 1000)


def serve(
    loop: Loop,
    keys: KeyPair,
    domain: str,
    host: str,
    heartbeat: Heartbeat,
    thread: int,
    limit_bytes: int = 2**20,
    port: int | None = None,
) -> tuple[Socket, str]:
    """A ROUTER on ``host``, on a free port unless one is given, and its endpoint.

    Only keys admitted to ``domain`` get in.

    Raises
    ------
    BackendError
        When ``host`` is no address of this machine, or no single one.
    """
    if host in _WILDCARDS:
        raise BackendError(f"host={host!r} names no one address; give the one by which other machines reach this one")
    address = f"tcp://{f'[{host}]' if ':' in host else host}:{port or '*'}"
    socket = _socket(loop, zmq.ROUTER, keys, address, heartbeat, thread)
    socket.curve_server = True
    socket.zap_domain = domain.encode()
    socket.router_mandatory = True
    socket.maxmsgsize = limit_bytes
    try:
        socket.bind(address)
    except zmq.ZMQError as error:
        socket.close()
        raise BackendError(
            f"cannot listen on {host}: {error.strerror}; give host= an address of this machine"
        ) from None
    bound = socket.getsockopt(zmq.LAST_ENDPOINT)
    assert isinstance(bound, bytes)
    return socket, bound.decode().rstrip("\0")


def dial(loop: Loop, keys: KeyPair, server_key: str, endpoint: str, heartbeat: Heartbeat, thread: int) -> Socket:
    """A DEALER to ``endpoint``, which has to prove that it holds ``server_key``. Watch it before ``connect``."""
    socket = _socket(loop, zmq.DEALER, keys, endpoint, heartbeat, thread)
    socket.curve_serverkey = server_key.encode()
    socket.reconnect_ivl_max = 1000
    return socket


def _socket(loop: Loop, kind: int, keys: KeyPair, address: str, heartbeat: Heartbeat, thread: int) -> Socket:
    socket = loop.context.socket(kind)
    socket.affinity = thread
    socket.linger = 0
    socket.sndtimeo = 0  # see ``put``
    socket.sndhwm = socket.rcvhwm = 0  # what may be under way is bounded by the requests, not by dropping frames
    socket.curve_publickey = keys.public.encode()
    socket.curve_secretkey = keys.secret.encode()
    socket.ipv6 = "[" in address
    heartbeat.apply(socket)
    return socket


def put(socket: Socket, frames: Sequence[Any]) -> None:
    """Send a message, or drop it if the connection was refused; its watch says so, at once or a moment later.

    libzmq has nowhere to put it then, and a send without a timeout of 0 would keep the loop waiting.
    """
    try:
        socket.send_multipart(frames)
    except zmq.Again:
        log.debug("a message was dropped: the connection was refused")


_watches = itertools.count()


class Watch:
    """Calls back with what libzmq says about a socket's connections: event and value (a descriptor, or a reason)."""

    def __init__(self, loop: Loop, socket: Socket, events: int, callback: Callable[[int, int], None]) -> None:
        self._loop = loop
        self._watched = socket
        self._callback = callback
        # An address of its own: that of a watch which was closed a moment ago may not be free yet.
        address = f"inproc://watch-{next(_watches)}"
        socket.monitor(address, events)
        self.monitor = loop.context.socket(zmq.PAIR)
        self.monitor.linger = 0
        self.monitor.connect(address)
        loop.add_reader(self.monitor, self.drain)

    def drain(self) -> None:
        """Call back for everything said so far."""
        while not self.monitor.closed:
            try:
                head, _ = self.monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            event, value = struct.unpack("=Hi", head)
            self._callback(event, value)

    def farewell(self, connections: int, timeout_s: float) -> None:
        """Wait until so many connections have ended, and watch no more.

        For those who close a socket and want what was sent last to arrive. A linger will not do: where heartbeats are
        on, libzmq 4.3.5 aborts the process if a connection ends whose socket lingers
        (https://github.com/zeromq/libzmq/issues/4364).
        """
        ended = 0

        def count(event: int, value: int) -> None:
            nonlocal ended
            ended += event == zmq.EVENT_DISCONNECTED

        self._callback = count
        end = time.monotonic() + timeout_s
        while ended < connections and self.monitor.poll(max(0, round(1000 * (end - time.monotonic())))):
            self.drain()
        self.close()

    def close(self) -> None:
        """Watch no more."""
        if not self.monitor.closed:
            self._loop.remove_reader(self.monitor)
            self._watched.disable_monitor()
            self.monitor.close()


def cut(descriptor: int) -> None:
    """End the connection on one of libzmq's descriptors; a key's revocation alone leaves it standing.

    Drain its watch first: the number of a connection that ended may be another file's by now.
    """
    try:
        copy = os.dup(descriptor)
    except OSError:
        return  # it is closed already
    try:
        duplicate = system_socket.socket(fileno=copy)
    except OSError:
        os.close(copy)  # it is no socket: the number is another file's
        return
    with duplicate, suppress(OSError):  # the other side was quicker
        duplicate.shutdown(system_socket.SHUT_RDWR)


def host_and_port(endpoint: str) -> tuple[str, int]:
    """What a ``tcp://`` endpoint names, for the sockets of the system.

    >>> host_and_port("tcp://[::1]:80")
    ('::1', 80)
    """
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    return host.strip("[]"), int(port)


def own_address(endpoint: str) -> str:
    """The address of this machine that is used to reach ``endpoint``.

    Raises
    ------
    BackendError
        There is no way there.
    """
    try:
        found = system_socket.getaddrinfo(*host_and_port(endpoint), type=system_socket.SOCK_DGRAM)
        family, kind, _, _, address = found[0]
        with system_socket.socket(family, kind) as probe:
            probe.connect(address)  # sends nothing
            return str(probe.getsockname()[0])
    except (OSError, ValueError) as error:
        raise BackendError(f"there is no way from here to {endpoint}: {error}") from None
