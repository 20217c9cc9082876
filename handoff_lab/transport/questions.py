"""What crosses between a reader of values and their holder; every head is msgpack.

A request is one frame ``[first, address, keys, holder]``: the numbers from ``first`` on are those of the keys, in
order, and ``address`` is where the reader's mailbox is, or empty. ``first`` is random. ``holder`` is empty, or the node
from which the one who is asked is to fetch the values first: the reader cannot reach it.

Each key gets one answer, when its holder knows: among others in one frame ``[numbers, values]``, where a value is its
one part, the list of its parts, or nil if it will not come; or alone as ``[number, nil]`` followed by a frame for each
part; or as ``[number, sizes]`` followed by the pickle, if the holder posted a segment with buffers of these sizes; or
as ``[number, sizes, endpoint]``: then the value's parts, the pickle first, have these sizes, and are fetched there in
chunks, so that small answers do not wait behind them.

For a chunk the reader sends ``[number, part, offset, size, key]`` with a number of its own, and gets ``[number, part,
offset]`` followed by the bytes, or by nothing if they are not there any more.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgpack  # type: ignore[import-untyped]

from handoff_lab.messages import AttemptId
from handoff_lab.store.segments import Buffer
from handoff_lab.transport.rows import read_count, read_id, read_text
from handoff_lab.transport.wire import WireError

CHUNK = 2**19  # bytes of one at most
_NUMBER_BITS = 63  # a bit less than a number on the wire has, so that those after the first fit too


@dataclass(frozen=True, slots=True)
class Request:
    """Keys of values, the number of the first, where their reader's mailbox is, and from whom they are to be had."""

    first: int
    address: Sequence[str]
    keys: Sequence[AttemptId]
    holder: str = ""

    def pack(self) -> bytes:
        """The frame."""
        packed: bytes = msgpack.packb((self.first, self.address, self.keys, self.holder))
        return packed


@dataclass(frozen=True, slots=True)
class Chunk:
    """Which bytes of a value: the reader's number for it, the part, and where in it they are."""

    number: int
    part: int
    offset: int
    size: int
    key: AttemptId

    def pack(self) -> bytes:
        """The frame that asks for it."""
        packed: bytes = msgpack.packb((self.number, self.part, self.offset, self.size, self.key))
        return packed

    def pack_head(self) -> bytes:
        """The first frame of its answer."""
        packed: bytes = msgpack.packb((self.number, self.part, self.offset))
        return packed


@dataclass(frozen=True, slots=True)
class SmallAnswers:
    """Values by the numbers of their questions; None for one that will not come."""

    numbers: Sequence[int]
    values: Sequence[Sequence[Buffer] | None]

    def pack(self) -> bytes:
        """The frame.

        >>> read_answer(SmallAnswers([7, 8], [(b"one",), None]).pack())
        SmallAnswers(numbers=[7, 8], values=[(b'one',), None])
        """
        values = [value[0] if value is not None and len(value) == 1 else value for value in self.values]
        packed: bytes = msgpack.packb((self.numbers, values))
        return packed


@dataclass(frozen=True, slots=True)
class LargeAnswer:
    """The head of an answer whose value follows, or was posted, or is to be fetched from an endpoint."""

    number: int
    sizes: Sequence[int] | None
    endpoint: str | None = None

    def pack(self) -> bytes:
        """The first frame."""
        rest = () if self.endpoint is None else (self.endpoint,)
        packed: bytes = msgpack.packb((self.number, self.sizes, *rest))
        return packed


def new_number() -> int:
    """Where the numbers of a request begin."""
    return secrets.randbits(_NUMBER_BITS)


def read_request(data: bytes | memoryview) -> Request:
    """A request that someone else wrote.

    Raises
    ------
    WireError
        When it is none.
    """
    first, address, keys, holder = _read_list(data, 4)
    address, keys = list(map(read_text, _as_list(address))), list(map(read_id, _as_list(keys)))
    if read_count(first) + len(keys) > 2**64:
        raise WireError("numbers too large to answer")
    return Request(first, address, keys, read_text(holder))


def read_chunk(data: bytes | memoryview) -> Chunk:
    """A request for a chunk; raises as ``read_request``."""
    number, part, offset, size, key = _read_list(data, 5)
    return Chunk(read_count(number), read_count(part), read_count(offset), read_count(size), read_id(key))


def read_chunk_head(data: bytes | memoryview) -> tuple[int, int, int]:
    """Number, part and offset of a chunk that came; raises as ``read_request``."""
    number, part, offset = map(read_count, _read_list(data, 3))
    return number, part, offset


def is_answer(data: bytes | memoryview) -> bool:
    """Whether this is no request, if it is anything.

    >>> is_answer(SmallAnswers([7], [None]).pack()), is_answer(Request(0, (), ()).pack())
    (True, False)
    """
    return len(data) > 0 and data[0] in (0x92, 0x93)  # lists of two and three


def read_answer(data: bytes | memoryview) -> SmallAnswers | LargeAnswer:
    """An answer, or the head of one; raises as ``read_request``."""
    what, found, *rest = _read_list(data, 2, 3)
    if type(what) is not list:
        return LargeAnswer(_read_number(what), None if found is None else _read_sizes(found), *map(read_text, rest))
    values = list(map(_read_value, _as_list(found)))
    if len(what) != len(values):
        raise WireError("no answer")
    return SmallAnswers(list(map(_read_number, what)), values)


def _read_sizes(value: Any) -> list[int]:
    sizes = list(map(read_count, _as_list(value)))
    if not any(sizes):
        raise WireError("no sizes of a value")
    return sizes


def _read_value(value: Any) -> tuple[bytes, ...] | None:
    if value is None:
        return None
    if type(value) is bytes:
        return (value,)
    parts = tuple(_as_list(value))
    if {*map(type, parts)} != {bytes}:
        raise WireError("no value")
    return parts


def _read_number(value: Any) -> int:
    if type(value) is not int:
        raise WireError("no number")
    return value


def _as_list(value: Any) -> list[Any]:
    if type(value) is not list:
        raise WireError("no list")
    return value


def _read_list(data: bytes | memoryview, *lengths: int) -> list[Any]:
    try:
        fields = msgpack.unpackb(data, strict_map_key=True)
    except (ValueError, msgpack.UnpackException, RecursionError):
        raise WireError("no msgpack") from None
    if type(fields) is not list or len(fields) not in lengths:
        raise WireError("no list of this length")
    return fields
