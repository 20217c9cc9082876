"""Messages between an agent and the processes that work for it, over a Unix stream socket.

A message is a header (a mark, and three u32: bytes of the head, bytes of the body, number of descriptors), a head
(msgpack: the sizes of the frames, then the fields), and a body of opaque frames. Descriptors travel beside the first
bytes (SCM_RIGHTS): a pidfd, and one for each frame that is a segment; of such a frame the head has the list of its
buffers' sizes, and the body nothing.

To a slot::

    code    key                         frame: pickle
    unload  keys
    run     calls, rows of attempts     frames: recipe if any, then those of each input, attempt after attempt

From a slot::

    hello   pid                         descriptor: its pidfd
    done    rows of outcomes            frames of the results, outcome after outcome
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgpack  # type: ignore[import-untyped]

from handoff_lab.store.segments import Buffer, Part, Segment

if TYPE_CHECKING:
    from handoff_lab.transport.loop import Loop

_HEADER = struct.Struct("<4sIII")
_MARK = b"\xffmsg"  # what a function writes by mistake into its slot's socket begins otherwise
_FD = struct.Struct("i")
_CHUNK = 256 * 1024  # bytes received at a time; longer messages get a buffer of their own, which their frames share
_BELIEVED = 2**26  # bytes that a header gets memory for; longer messages get more as they come
_SEND_BUFFER = 256 * 1024
_SMALL = 32 * 1024  # bytes of a frame that is copied together with its neighbours
_FDS_AT_ONCE = 16


class Message(NamedTuple):
    """What was received: the fields of the head, the frames, the descriptors (now the receiver's)."""

    fields: list[Any]
    frames: list[Any]  # memoryviews; segments where values are
    fds: list[int]


def pack(fields: Sequence[Any], frames: Sequence[Part] = (), n_fds: int = 0) -> Iterator[Buffer]:
    """A message as few buffers: small frames are joined, large ones stay as they are."""
    sizes = [len(frame) if type(frame) is bytes else _size(frame) for frame in frames]
    head = msgpack.packb((sizes, *fields), unicode_errors="surrogatepass")
    plain = [size for size in sizes if type(size) is int]
    small: list[Any] = [_HEADER.pack(_MARK, len(head), sum(plain), n_fds), head]
    if len(plain) == len(sizes) and max(plain, default=0) <= _SMALL:
        yield b"".join(small + list(frames))
        return
    for size, frame in zip(sizes, frames, strict=True):
        if isinstance(frame, Segment):
            continue
        if size <= _SMALL:
            small.append(frame)
        else:
            yield b"".join(small)
            yield frame
            small.clear()
    yield b"".join(small)


def _size(frame: Part) -> Any:
    if isinstance(frame, Segment):
        return frame.sizes
    return frame.nbytes if isinstance(frame, memoryview) else len(frame)


class _Piece(NamedTuple):
    """Bytes of a message, and the descriptors that go with the first of them."""

    data: memoryview
    fds: Sequence[int] = ()


def _pieces(fields: Sequence[Any], frames: Sequence[Part], fds: Sequence[int] = ()) -> Iterator[_Piece]:
    fds = [*(frame.fd for frame in frames if isinstance(frame, Segment)), *fds]
    buffers = pack(fields, frames, len(fds))
    start = memoryview(next(buffers))
    lots = [fds[at : at + _FDS_AT_ONCE] for at in range(0, len(fds), _FDS_AT_ONCE)]
    for at, lot in enumerate(lots):  # the kernel wants a byte with each; the head has more than one per descriptor
        yield _Piece(start[at : at + 1], lot)
    yield _Piece(start[len(lots) :])
    for buffer in buffers:
        yield _Piece(memoryview(buffer))


def send(sock: socket.socket, fields: Sequence[Any], frames: Sequence[Part] = (), fds: Sequence[int] = ()) -> None:
    """Send a message over a blocking socket."""
    for data, own in _pieces(fields, frames, fds):
        sent = socket.send_fds(sock, [data], own) if own else 0
        sock.sendall(data[sent:])


class Receiver:
    """Cuts what arrives at a socket into messages."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = memoryview(bytearray(_CHUNK))
        self._have = 0
        self._fds: deque[int] = deque()
        self._garbled = False

    def receive(self) -> list[Message]:
        """Receive once; the messages that are complete now.

        Raises
        ------
        EOFError
            When the other side is gone.
        BlockingIOError
            When nothing is there and the socket does not block.
        OSError
            When this process may not have as many descriptors as came, or what came is no message.
        """
        if self._garbled:
            raise _garbled()
        space = socket.CMSG_SPACE(_FDS_AT_ONCE * _FD.size)
        try:
            count, ancillary, flags, _ = self._sock.recvmsg_into(
                [self._buffer[self._have :]], space, socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionResetError:
            count, ancillary, flags = 0, [], 0
        if count == 0:
            raise EOFError
        for _, _, data in ancillary:
            self._fds += [fd for (fd,) in _FD.iter_unpack(data[: len(data) - len(data) % _FD.size])]
        if flags & socket.MSG_CTRUNC:
            raise OSError(errno.EMFILE, "too many open files to receive another")
        self._have += count
        messages = self._complete()
        if self._garbled and not messages:  # else what came before counts
            raise _garbled()
        return messages

    def _complete(self) -> list[Message]:
        messages: list[Message] = []
        start, size = 0, _HEADER.size
        while self._have - start >= _HEADER.size:
            mark, n_head, n_body, n_fds = _HEADER.unpack_from(self._buffer, start)
            if mark != _MARK:
                self._garbled = True
                break
            size = _HEADER.size + n_head + n_body
            if self._have - start < size:
                break
            if size == len(self._buffer) > _CHUNK:  # a buffer of its own
                data = self._buffer.toreadonly()
                self._buffer = memoryview(bytearray(_CHUNK))
            else:
                data = memoryview(bytes(self._buffer[start : start + size]))
            message = self._message(data, n_head, n_fds)
            if message is None:
                self._garbled = True
                break
            messages.append(message)
            start, size = start + size, _HEADER.size
        self._keep(start, size)
        return messages

    def _keep(self, start: int, size: int) -> None:
        """Make room for the rest of a message of ``size`` bytes that begins at ``start``."""
        old, have = self._buffer, self._have - start
        if size > len(old) and (len(old) <= _CHUNK or have == len(old)):
            self._buffer = memoryview(bytearray(min(size, max(_BELIEVED, 2 * have))))
        elif not start:
            return
        self._have = have
        self._buffer[:have] = bytes(old[start : start + have])

    def _message(self, data: memoryview, n_head: int, n_fds: int) -> Message | None:
        """The message, if it is one."""
        at = _HEADER.size + n_head
        try:
            sizes, *fields = msgpack.unpackb(
                data[_HEADER.size : at], unicode_errors="surrogatepass", strict_map_key=False
            )
        except (ValueError, TypeError, msgpack.UnpackException, RecursionError):
            return None
        if n_fds > len(self._fds) or not _are_sizes(sizes, len(data) - at, n_fds):
            return None
        fds = [self._fds.popleft() for _ in range(n_fds)]
        frames: list[Any] = []
        for size in sizes:
            if type(size) is int:
                frames.append(data[at : at + size])
                at += size
            else:
                frames.append(Segment(fds.pop(0), size))
        return Message(fields, frames, fds)


def _are_sizes(sizes: Any, n_body: int, n_fds: int) -> bool:
    """Whether frames of these sizes fill a body, and need no more descriptors than there are."""
    if type(sizes) is not list or not {int, list}.issuperset(map(type, sizes)):
        return False
    plain = [size for size in sizes if type(size) is int]
    segments = [size for size in sizes if type(size) is list] if len(plain) < len(sizes) else []
    counts = [part for segment in segments for part in segment]
    if not {int}.issuperset(map(type, counts)) or min(min(plain, default=0), min(counts, default=0)) < 0:
        return False
    return sum(plain) == n_body and len(segments) <= n_fds


def _garbled() -> OSError:
    return OSError(errno.EBADMSG, "what came is no message")


class Channel:
    """The agent's end: never blocks, calls back.

    Parameters
    ----------
    on_message
        Gets each message.
    on_end
        Called once when the other side closed its end; close the channel then.
    """

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        on_message: Callable[[Message], None],
        on_end: Callable[[], None],
    ) -> None:
        sock.setblocking(False)
        self._loop = loop
        self._sock = sock
        self._receiver = Receiver(sock)
        self._on_message = on_message
        self._on_end = on_end
        self._waiting: deque[tuple[_Piece, Sequence[Part]]] = deque()  # with what keeps its descriptors open
        loop.add_reader(sock.fileno(), self.drain)

    def send(self, fields: Sequence[Any], frames: Sequence[Part] = ()) -> None:
        """Send a message; what the socket does not take now is sent later."""
        idle = not self._waiting
        self._waiting += [(piece, frames) for piece in _pieces(fields, frames)]
        if idle:
            self._flush()
            if self._waiting:
                self._loop.add_writer(self._sock.fileno(), self._flush)

    def drain(self) -> None:
        """Take in all that has arrived."""
        while self._sock.fileno() >= 0:
            try:
                messages = self._receiver.receive()
            except BlockingIOError:
                return
            except (EOFError, OSError):
                self._loop.remove_reader(self._sock.fileno())
                self._on_end()
                return
            for message in messages:
                self._on_message(message)

    def close(self) -> None:
        """Close the socket; what was not sent is dropped."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._loop.remove_writer(self._sock.fileno())
            self._sock.close()
        self._waiting.clear()

    def _flush(self) -> None:
        while self._waiting:
            (data, fds), frames = self._waiting[0]
            try:
                sent = socket.send_fds(self._sock, [data], fds) if fds else self._sock.send(data)
            except BlockingIOError:
                return
            except OSError:  # the other side is gone: the end of the stream tells
                self._waiting.clear()
                break
            if sent < data.nbytes:
                self._waiting[0] = _Piece(data[sent:]), frames
            else:
                self._waiting.popleft()
        self._loop.remove_writer(self._sock.fileno())


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected sockets with room for a batch each way."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    return ends


def close_fds(fds: Sequence[int]) -> None:
    """Close descriptors of this process."""
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
