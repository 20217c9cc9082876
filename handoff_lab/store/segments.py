"""Large buffers in shared memory: written once, read by every process of the host, without a copy and read-only.

The life of a segment. The process that made a value takes a memfd (it has no name, so nothing stays behind, however
its holders end), writes the value's buffers into it, and passes a read-only descriptor on. That descriptor travels
wherever the value is needed on this host, and is closed there when the value is freed; whoever loads the value maps
it, for as long as something over the map is alive. The maker keeps the writable descriptor for the next value of that
size, because fresh pages cost more than the copy. It writes there again only when no read-only descriptor and no map
is left in any process: the kernel counts these, and tells by granting a write lease or not. What is kept is bounded.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import resource
from collections.abc import Iterator, Sequence
from typing import TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview

SHARED_FROM = 256 * 1024  # bytes of a value's buffers: fewer cross a socket as quickly
KEPT_BYTES = 256 * 2**20  # that one process keeps for its next values
KEPT = 16
_ALIGNMENT = 64  # bytes; what NumPy's vector code likes
_SHORTAGES = {errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_SPARE = 0.25  # share of the process's descriptors that is left to others


class Segment:
    """The buffers of one value, readable; the descriptor is closed with this object."""

    __slots__ = ("fd", "nbytes", "sizes")

    def __init__(self, fd: int, sizes: Sequence[int]) -> None:
        self.fd = fd
        self.sizes = sizes
        self.nbytes = sum(sizes)

    def __del__(self) -> None:
        with contextlib.suppress(OSError):  # a function may have closed what is not its own
            os.close(self.fd)

    def buffers(self) -> list[memoryview]:
        """The buffers, mapped; copied where descriptors are short, because each map keeps one."""
        *offsets, end = offsets_of(self.sizes)
        data = memoryview(self._copy(end) if _is_late(self.fd) else mmap.mmap(self.fd, end, prot=mmap.PROT_READ))
        return [data[offset : offset + size] for offset, size in zip(offsets, self.sizes, strict=True)]

    def piece(self, number: int, offset: int, size: int) -> memoryview:
        """Bytes of one buffer, mapped; fewer where it ends."""
        begin = list(offsets_of(self.sizes))[number] + offset
        size = max(0, min(size, self.sizes[number] - offset))
        if not size:
            return memoryview(b"")  # a map of no bytes would be one of all the rest
        skipped = begin % mmap.ALLOCATIONGRANULARITY
        mapped = mmap.mmap(self.fd, skipped + size, prot=mmap.PROT_READ, offset=begin - skipped)
        return memoryview(mapped)[skipped:]

    @property
    def is_memory(self) -> bool:
        """Whether it takes memory, not disk."""
        try:
            fcntl.fcntl(self.fd, fcntl.F_GET_SEALS)
        except OSError:
            return False  # only what is in shared memory can be sealed
        return True

    def move_to(self, file: int) -> None:
        """Let go of the memory; ``file``, open for reading, has the same bytes. The descriptor keeps its number."""
        os.dup2(file, self.fd, inheritable=False)

    def settled(self) -> list[memoryview] | None:
        """The buffers, copied, if this process cannot spare the descriptor."""
        return self.buffers() if _is_late(self.fd) else None

    def _copy(self, size: int) -> bytes:
        with open(self.fd, "rb", closefd=False) as file:
            file.seek(0)
            return file.read(size)


Part: TypeAlias = Buffer | Segment


class Draft:
    """A segment that is written piece by piece, in any order.

    Raises
    ------
    OSError
        There is no descriptor or no memory for it.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self._sizes = sizes
        *self._offsets, end = offsets_of(sizes)
        self._fd = _new_memory(end)
        self._segment = Segment(_open_again(self._fd, os.O_RDONLY), sizes)

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # there was no memory
            os.close(self._fd)

    def write(self, number: int, offset: int, data: Buffer) -> None:
        """Write bytes of one buffer."""
        _write_at(self._fd, memoryview(data), self._offsets[number] + offset)

    def finish(self) -> Segment:
        """The segment, when all is written."""
        return self._segment


class SegmentMaker:
    """Where one process writes its large values; see the head of this module. Not to be interrupted by exceptions."""

    def __init__(self) -> None:
        self._kept: list[tuple[int, int]] = []  # size and writable descriptor, oldest first

    @property
    def is_empty(self) -> bool:
        """Whether nothing is kept."""
        return not self._kept

    def share(self, parts: Sequence[Buffer]) -> tuple[Part, ...]:
        """The pickle, and its buffers in one segment; a large pickle goes there, too.

        All come as they were where that is not worth it, or not possible: no descriptor to spare, no memfd at all.

        Raises
        ------
        OSError
            There is no memory left for it.
        """
        views = [memoryview(buffer).cast("B") for buffer in parts]
        head = [] if views[0].nbytes >= SHARED_FROM else parts[:1]
        shared = views[len(head) :]
        if sum(view.nbytes for view in shared) < SHARED_FROM or is_crowded():
            return tuple(parts)
        try:
            return *head, self._write(shared)
        except OSError as error:
            if error.errno in _SHORTAGES:
                raise
            return tuple(parts)

    def release(self) -> None:
        """Keep nothing; what others still read stays until they are done."""
        for _, fd in self._kept:
            os.close(fd)
        self._kept.clear()

    def _write(self, views: Sequence[memoryview]) -> Segment:
        sizes = [view.nbytes for view in views]
        *offsets, end = offsets_of(sizes)
        size = _size_class(end)
        fd = self._take(size)
        try:
            for offset, view in zip(offsets, views, strict=True):
                _write_at(fd, view, offset)
            segment = Segment(_open_again(fd, os.O_RDONLY), sizes)
        except OSError:
            os.close(fd)
            raise
        self._keep(size, fd)
        return segment

    def _take(self, size: int) -> int:
        for place, (kept, fd) in enumerate(self._kept):
            if kept == size and _is_unread(fd):
                del self._kept[place]
                return fd
        return _new_memory(size)

    def _keep(self, size: int, fd: int) -> None:
        self._kept.append((size, fd))
        while len(self._kept) > KEPT or sum(size for size, _ in self._kept) > KEPT_BYTES:
            os.close(self._kept.pop(0)[1])


def is_crowded() -> bool:
    """Whether this process has few descriptors left, so that values had better travel as bytes."""
    try:
        probe = os.open("/", os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return True
    os.close(probe)
    return _is_late(probe)


def _is_late(fd: int) -> bool:
    # A new descriptor has the lowest number that is free.
    return fd >= resource.getrlimit(resource.RLIMIT_NOFILE)[0] * (1 - _SPARE)


def _is_unread(fd: int) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError:
        return False
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return True


def _new_memory(size: int) -> int:
    original = os.memfd_create("handoff-values", os.MFD_CLOEXEC)
    try:
        os.ftruncate(original, size)
        return _open_again(original, os.O_RDWR)  # the kernel's count leaves out a memfd's first descriptor
    finally:
        os.close(original)


def _open_again(fd: int, mode: int) -> int:
    return os.open(f"/proc/self/fd/{fd}", mode | os.O_CLOEXEC)


def _write_at(fd: int, view: memoryview, offset: int) -> None:
    # Not through a map: into fresh pages this is quicker, and it leaves the process's own memory figures alone.
    while view.nbytes:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def _size_class(nbytes: int) -> int:
    """At most a quarter more, so that values of about one size share segments; pages never written take no memory."""
    step = 1 << max(nbytes.bit_length() - 3, 12)
    return -(-nbytes // step) * step


def offsets_of(sizes: Sequence[int]) -> Iterator[int]:
    """Where each buffer of a segment begins, then where the last one ends."""
    at = end = 0
    for size in sizes:
        yield at
        end = at + size
        at = -(-end // _ALIGNMENT) * _ALIGNMENT
    yield end
