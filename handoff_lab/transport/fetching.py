"""Large values from another host: fetched in chunks, a few under way at a time, over a connection of their own.

A few values that are fetched from one member take turns; the others wait, so that not all of them are in memory at
once. What comes is written where the slots of this host can map it.
"""

from __future__ import annotations

import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeAlias

import zmq

from handoff_lab.messages import AttemptId
from handoff_lab.store.payload import Frames
from handoff_lab.store.segments import SHARED_FROM, Buffer, Draft, is_crowded
from handoff_lab.transport.inbox import Arrived
from handoff_lab.transport.questions import CHUNK, Chunk, read_chunk_head
from handoff_lab.transport.wire import WireError

log = logging.getLogger(__name__)

TOGETHER = 4  # values under way from one member
WINDOW = 16  # chunks under way from one member: enough to keep ciphers and wires busy, few enough for memory


class Channel(Protocol):
    """A connection for chunks."""

    @property
    def is_open(self) -> bool: ...
    def send(self, frame: bytes, /) -> None: ...
    def close(self) -> None: ...


Received: TypeAlias = Callable[[memoryview, Sequence[zmq.Frame]], None]
Connect: TypeAlias = Callable[[Callable[[], None], Received], Channel]  # when it is open again, and what came


class Fetcher:
    """Fetches values from one member."""

    def __init__(self, name: str, connect: Connect) -> None:
        self._name = name
        self._numbers = itertools.count()
        self._fetches: dict[int, _Fetch] = {}
        self._waiting: deque[_Fetch] = deque()
        self._turns: deque[_Fetch] = deque()  # those of which not all is asked for
        self._asked: dict[tuple[int, int, int], Chunk] = {}  # by number, part and offset
        self._connection = connect(self._ask_again, self._received)

    def fetch(self, key: AttemptId, sizes: Sequence[int], arrived: Arrived) -> None:
        """Fetch a value whose parts have these sizes."""
        number = next(self._numbers)
        try:
            fetch = self._fetches[number] = _Fetch(number, key, sizes, arrived)
        except (MemoryError, OverflowError):
            arrived(f"there is no memory for its {sum(sizes)} bytes")
            return
        self._waiting.append(fetch)
        self._ask()

    def close(self) -> list[tuple[AttemptId, Arrived]]:
        """Fetch no more; what was not fetched, and who waits for it."""
        self._connection.close()
        return [(fetch.key, fetch.arrived) for fetch in self._fetches.values()]

    def _ask(self) -> None:
        while self._waiting and len(self._turns) < TOGETHER:
            self._turns.append(self._waiting.popleft())
        while self._turns and len(self._asked) < WINDOW:
            fetch = self._turns.popleft()
            chunk = next(fetch.chunks, None)
            if chunk is not None:
                self._turns.append(fetch)
                self._asked[chunk.number, chunk.part, chunk.offset] = chunk
                if self._connection.is_open:
                    self._connection.send(chunk.pack())

    def _ask_again(self) -> None:
        for chunk in self._asked.values():
            self._connection.send(chunk.pack())

    def _received(self, head: memoryview, parts: Sequence[zmq.Frame]) -> None:
        try:
            chunk = self._asked.pop(read_chunk_head(head), None)
        except WireError:
            log.warning("a malformed chunk from node %r was dropped", self._name)
            return
        fetch = None if chunk is None else self._fetches.get(chunk.number)
        if chunk is not None and fetch is not None:
            self._take(fetch, chunk, parts)
        self._ask()

    def _take(self, fetch: _Fetch, chunk: Chunk, frames: Sequence[zmq.Frame]) -> None:
        if len(frames) != 1 or len(frames[0]) != chunk.size:
            value: Frames | str | None = f"node {self._name!r} does not have it any more"
        else:
            value = self._put(fetch, chunk, frames[0].buffer)
        if value is not None:
            del self._fetches[fetch.number]
            if fetch in self._turns:
                self._turns.remove(fetch)
            fetch.arrived(value)

    def _put(self, fetch: _Fetch, chunk: Chunk, data: memoryview) -> Frames | str | None:
        """The value, when this was the last of it, or why it can't be had."""
        try:
            return fetch.put(chunk, data)
        except OSError as error:
            return f"there is no memory for it: {error}"


class _Fetch:
    """A value that comes in chunks: the pickle, and the buffers in a segment where that is worth it and possible.

    A large pickle goes there, too.
    """

    def __init__(self, number: int, key: AttemptId, sizes: Sequence[int], arrived: Arrived) -> None:
        self.number = number
        self.key = key
        self.arrived = arrived
        self.chunks = _chunks(number, key, sizes)
        self._left = sum(sizes)
        apart = 0 if sizes[0] >= SHARED_FROM else 1
        self._draft = _draft(sizes[apart:])
        self._parts = [bytearray(size) for size in (sizes if self._draft is None else sizes[:apart])]

    def put(self, chunk: Chunk, data: Buffer) -> Frames | None:
        """Take a chunk in; the value, if this was the last."""
        apart = len(self._parts)
        if self._draft is not None and chunk.part >= apart:
            self._draft.write(chunk.part - apart, chunk.offset, data)
        else:
            self._parts[chunk.part][chunk.offset : chunk.offset + chunk.size] = data
        self._left -= chunk.size
        if self._left:
            return None
        return Frames((*self._parts, *(() if self._draft is None else (self._draft.finish(),))))


def _chunks(number: int, key: AttemptId, sizes: Sequence[int]) -> Iterator[Chunk]:
    for part, size in enumerate(sizes):
        for offset in range(0, size, CHUNK):
            yield Chunk(number, part, offset, min(CHUNK, size - offset), key)


def _draft(sizes: Sequence[int]) -> Draft | None:
    if sum(sizes) < SHARED_FROM or is_crowded():
        return None
    try:
        return Draft(sizes)
    except OSError:
        return None
