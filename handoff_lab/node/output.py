"""What an attempt writes: Python to its streams, C code and child processes to descriptors 1 and 2.

All of it goes into one nameless file that agent and slot share: writing never waits for a reader, the order is kept,
what was written between begin and end of an attempt is its log, and the log of a slot that was killed is still there.
"""

from __future__ import annotations

import codecs
import ctypes
import fcntl
import os
import sys
from typing import TextIO

LOG_LIMIT = 10**6  # bytes of one attempt's log; the middle of a longer one is left out
FILE_LIMIT = 64 * 10**6  # bytes in memory before a running attempt's log begins anew


_LIBC = ctypes.PyDLL(None)
_UNBUFFERED = 2  # _IONBF of the C libraries on Linux


class LogFile:
    """The agent's side: owns the file, and looks into it while an attempt runs."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("handoff-log")
        try:
            fcntl.fcntl(self.fd, fcntl.F_SETFL, os.O_APPEND | os.O_RDWR)
        except OSError:
            os.close(self.fd)
            raise
        self._seen = 0
        self._number = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def news(self, number: int) -> str:
        """What attempt ``number``, which runs now, has written since the last call."""
        size = os.fstat(self.fd).st_size
        if number != self._number or size < self._seen:
            self._number, self._seen = number, 0
            self._decoder.reset()
        data = os.pread(self.fd, LOG_LIMIT, max(self._seen, size - LOG_LIMIT))
        self._seen = size
        if size > FILE_LIMIT:
            os.ftruncate(self.fd, 0)
            os.write(self.fd, b"[... the log grew too long and begins anew here ...]\n")
        return self._decoder.decode(data)

    def read(self) -> str:
        """All that is there: the log of an attempt that died."""
        return read_log(self.fd)

    def close(self) -> None:
        """Free the file."""
        os.close(self.fd)


class Capture:
    """The slot's side: points streams and descriptors to the file."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._saved_fds: tuple[int, int] | None = None
        self._saved_streams: tuple[TextIO, TextIO] = (sys.stdout, sys.stderr)
        # Line by line, and C code's at once, so that all that is written keeps its order.
        self._streams = (self._stream(), self._stream())
        _LIBC.setvbuf(ctypes.c_void_p.in_dll(_LIBC, "stdout"), None, _UNBUFFERED, 0)

    def begin(self) -> None:
        """Send streams and descriptors to the file."""
        if self._saved_fds is None:
            self._saved_fds = (os.dup(1), os.dup(2))
            self._saved_streams = (sys.stdout, sys.stderr)
            os.dup2(self._fd, 1)
            os.dup2(self._fd, 2)
        out, err = self._streams
        if out.closed or err.closed:
            out, err = self._streams = (self._stream(), self._stream())
        sys.stdout, sys.stderr = out, err

    def take(self) -> str:
        """The log since the last call."""
        for stream in self._streams:
            if not stream.closed:
                stream.flush()
        if os.lseek(self._fd, 0, os.SEEK_END) == 0:
            return ""
        text = read_log(self._fd)
        os.ftruncate(self._fd, 0)
        return text

    def restore(self) -> None:
        """Give streams and descriptors back, as a kernel needs them between attempts."""
        if self._saved_fds is not None:
            for number, saved in enumerate(self._saved_fds, start=1):
                os.dup2(saved, number)
                os.close(saved)
            self._saved_fds = None
            sys.stdout, sys.stderr = self._saved_streams

    def _stream(self) -> TextIO:
        return open(self._fd, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def read_log(fd: int) -> str:
    """The text of a log file, without its middle when it is too long."""
    size = os.fstat(fd).st_size
    if size <= LOG_LIMIT:
        return os.pread(fd, size, 0).decode(errors="replace")
    half = LOG_LIMIT // 2
    head, tail = os.pread(fd, half, 0), os.pread(fd, half, size - half)
    left_out = f"\n[... {size - 2 * half} bytes left out ...]\n"
    return head.decode(errors="replace") + left_out + tail.decode(errors="replace")
