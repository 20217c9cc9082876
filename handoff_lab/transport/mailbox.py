"""A short way between processes of one host, beside the data plane: it carries descriptors, and small values sooner.

Each member has a mailbox: a datagram socket in a directory that only its user can enter. With a request a reader gives
its address; a holder on the same host posts descriptors there, each under its question's number, before it answers,
and delivers answers with small values. The numbers are random and cross encrypted, so that nobody else can post or
answer under them, and what is in a mailbox can be read by its process alone. Where any of this is not possible, or
the mailbox is full, the value travels over the data plane.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path

from handoff_lab.store.segments import Segment, is_crowded
from handoff_lab.transport.loop import Loop

LETTER_BYTES = 160 * 1024  # of one datagram; a socket's buffer holds no more than 208 kB as a rule

_NUMBER = struct.Struct("<Q")
_FD = struct.Struct("i")
_MAX_FDS = 4  # one is expected; more are closed
_SPACE = socket.CMSG_SPACE(_MAX_FDS * _FD.size)


class Mailbox:
    """The mailbox of one process.

    Parameters
    ----------
    path
        Where it is to be; in a directory of mode 0700.
    delivered
        Called with each answer, which is valid during the call only.

    Raises
    ------
    OSError
        It cannot be there.
    """

    def __init__(self, loop: Loop, path: Path, delivered: Callable[[memoryview], None] | None = None) -> None:
        self._loop = loop
        self._delivered = delivered
        self._path = path
        self._host = host_id()
        self._buffer = memoryview(bytearray(LETTER_BYTES))
        self._arrived: dict[int, int | None] = {}  # descriptors by request, of requests that were made
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.setblocking(False)
        try:
            self._sock.bind(os.fspath(path))
        except OSError:
            self._sock.close()
            raise
        loop.add_reader(self._sock.fileno(), self.drain)

    def expect(self, *numbers: int) -> list[str]:
        """The address to give with these questions; nothing when this process has few descriptors left."""
        if not self._host or is_crowded():
            return []
        self._arrived |= dict.fromkeys(numbers)
        return [self._host, os.fspath(self._path)]

    def take(self, number: int, sizes: Sequence[int]) -> Segment | None:
        """What was posted under this number before it was answered."""
        self.drain()
        fd = self._arrived.pop(number, None)
        return None if fd is None else Segment(fd, sizes)

    def forget(self, number: int) -> None:
        """Expect nothing under this number any more."""
        fd = self._arrived.pop(number, None)
        if fd is not None:
            os.close(fd)

    def deliver(self, address: Sequence[str], answer: bytes) -> bool:
        """Deliver an answer; whether it is there now. If not, it has to go another way."""
        if not self._is_near(address) or len(answer) > LETTER_BYTES:
            return False
        try:
            self._sock.sendto(answer, address[1])
        except OSError:
            return False
        return True

    def post(self, address: Sequence[str], number: int, segment: Segment) -> bool:
        """Post a segment's descriptor; whether it is there now.

        Raises
        ------
        BlockingIOError
            The mailbox there is full at the moment.
        """
        if not self._is_near(address):
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
        self.drain()
        self._sock.close()
        self._path.unlink(missing_ok=True)
        for number in list(self._arrived):
            self.forget(number)

    def drain(self) -> None:
        """Take in what has come."""
        buffer = self._buffer
        with contextlib.suppress(BlockingIOError):
            while True:
                nbytes, ancillary, _, _ = self._sock.recvmsg_into([buffer], _SPACE, socket.MSG_CMSG_CLOEXEC)
                if ancillary:
                    self._keep(buffer[:nbytes], [fd for _, _, data in ancillary for (fd,) in _FD.iter_unpack(data)])
                elif self._delivered is not None:
                    self._delivered(buffer[:nbytes])

    def _keep(self, data: memoryview, fds: list[int]) -> None:
        number = _NUMBER.unpack(data)[0] if len(data) == _NUMBER.size else None
        if number in self._arrived and self._arrived[number] is None:
            self._arrived[number] = fds.pop()
        for fd in fds:
            os.close(fd)

    def _is_near(self, address: Sequence[str]) -> bool:
        return len(address) == 2 and address[0] == self._host != ""


def host_id() -> str:
    """The same in all processes that share a kernel and a network, in no others."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/net').stat().st_ino}"
    except OSError:
        return ""
