"""Descriptors between processes of one host, beside the data plane, which cannot carry them.

Each member has a mailbox: a datagram socket in a directory that only its user can enter. With a request a reader gives
its address; a holder on the same host posts the descriptor there, under the request's number, before it answers. That
number is random and crosses encrypted, so that nobody else can post under it. Where any of this is not possible the
value travels as bytes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from array import array
from collections.abc import Sequence
from pathlib import Path

from handoff_lab.store.segments import Segment, is_crowded
from handoff_lab.transport.loop import Loop

_NUMBER = struct.Struct("<Q")
_MAX_FDS = 4  # one is expected; more are closed


class Mailbox:
    """The mailbox of one process.

    Parameters
    ----------
    path
        Where it is to be; in a directory of mode 0700.

    Raises
    ------
    OSError
        It cannot be there.
    """

    def __init__(self, loop: Loop, path: Path) -> None:
        self._loop = loop
        self._path = path
        self._host = host_id()
        self._arrived: dict[int, int | None] = {}  # descriptors by request, of requests that were made
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.setblocking(False)
        try:
            self._sock.bind(os.fspath(path))
        except OSError:
            self._sock.close()
            raise
        loop.add_reader(self._sock.fileno(), self._drain)

    def expect(self, number: int) -> list[str]:
        """The address to give with this request; nothing when this process has few descriptors left."""
        if not self._host or is_crowded():
            return []
        self._arrived.setdefault(number, None)
        return [self._host, os.fspath(self._path)]

    def take(self, number: int, sizes: Sequence[int]) -> Segment | None:
        """What was posted under this number before it was answered."""
        self._drain()
        fd = self._arrived.pop(number, None)
        return None if fd is None else Segment(fd, sizes)

    def forget(self, number: int) -> None:
        """Expect nothing under this number any more."""
        self._discard(number)

    def post(self, address: Sequence[str], number: int, segment: Segment) -> bool:
        """Post a segment's descriptor; whether it is there now.

        Raises
        ------
        BlockingIOError
            The mailbox there is full at the moment.
        """
        if len(address) != 2 or address[0] != self._host:
            return False
        try:
            rights = socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [segment.fd])
            self._sock.sendmsg([_NUMBER.pack(number)], [rights], 0, address[1])
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno == errno.ETOOMANYREFS:  # too many descriptors of this user are under way
                raise BlockingIOError from None
            return False
        return True

    def close(self) -> None:
        """Take nothing more."""
        self._loop.remove_reader(self._sock.fileno())
        self._drain()
        self._sock.close()
        self._path.unlink(missing_ok=True)
        for number in list(self._arrived):
            self._discard(number)

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                data, fds, _, _ = socket.recv_fds(self._sock, _NUMBER.size, _MAX_FDS, socket.MSG_CMSG_CLOEXEC)
                number = _NUMBER.unpack(data)[0] if len(data) == _NUMBER.size else None
                if number in self._arrived and fds and self._arrived[number] is None:
                    self._arrived[number] = fds.pop()
                for fd in fds:
                    os.close(fd)

    def _discard(self, number: int) -> None:
        fd = self._arrived.pop(number, None)
        if fd is not None:
            os.close(fd)


def host_id() -> str:
    """The same in all processes that share a kernel and a network, in no others."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/net').stat().st_ino}"
    except OSError:
        return ""
