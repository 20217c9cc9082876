"""A value on its way: pickled once with its large buffers beside it (pickle protocol 5), or live in this process."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cloudpickle  # type: ignore[import-untyped]

from handoff_lab.store.segments import Buffer, Part, Segment

_PLAIN = frozenset((type(None), bool, int, float, str))  # need no second look


class Payload(Protocol):
    """A value that can be had with ``load``."""

    @property
    def nbytes(self) -> int: ...
    def load(self) -> Any: ...


@dataclass(slots=True)
class Frames:
    """A pickled value: the pickle itself, then its out-of-band buffers, or one segment that has them all.

    Never changed; not frozen because that triples the time it takes to make one.
    """

    parts: tuple[Part, ...]

    @classmethod
    def dump(cls, value: Any) -> Frames:
        """Pickle ``value``; arrays stay where they are, as views.

        Plain pickle is the quick way. It refers to classes by name, which is wrong for those of a notebook's
        ``__main__`` and of modules that travel by value: cloudpickle takes these.
        """
        if type(value) in _PLAIN:
            return cls((pickle.dumps(value, protocol=5),))
        buffers: list[pickle.PickleBuffer] = []
        try:
            head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
            by_name = b"__main__" in head or cloudpickle.list_registry_pickle_by_value()
        except (pickle.PicklingError, AttributeError, TypeError):
            by_name = True
        if by_name:
            buffers.clear()
            head = cloudpickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        return cls((head, *(buffer.raw() for buffer in buffers)))

    @property
    def nbytes(self) -> int:
        """Bytes in all parts."""
        total = 0
        for part in self.parts:
            total += len(part) if isinstance(part, (bytes, bytearray)) else part.nbytes
        return total

    @property
    def buffers(self) -> list[Buffer]:
        """The parts as memory of this process; a segment is mapped."""
        buffers: list[Buffer] = []
        for part in self.parts:
            buffers += part.buffers() if isinstance(part, Segment) else [part]
        return buffers

    @property
    def sizes(self) -> list[int]:
        """Bytes of each of ``buffers``."""
        sizes: list[int] = []
        for part in self.parts:
            sizes += part.sizes if isinstance(part, Segment) else [memoryview(part).nbytes]
        return sizes

    def piece(self, number: int, offset: int, size: int) -> Buffer:
        """Bytes of one of ``buffers``; fewer, or none, where it ends."""
        last = self.parts[-1]
        before = len(self.parts) - 1
        if isinstance(last, Segment) and number >= before:
            return last.piece(number - before, offset, size)
        part = self.parts[number]
        assert not isinstance(part, Segment)
        return memoryview(part)[offset : offset + size]

    def load(self) -> Any:
        """Unpickle; arrays share memory with the parts, and are read-only."""
        if len(self.parts) == 1 and not isinstance(head := self.parts[0], Segment):  # as it is for most
            return pickle.loads(head)
        head, *buffers = self.buffers
        return pickle.loads(head, buffers=[memoryview(buffer).toreadonly() for buffer in buffers])

    def settled(self) -> Frames:
        """The value as it can be kept: without a descriptor when this process has few left."""
        last = self.parts[-1]
        copied = last.settled() if isinstance(last, Segment) else None
        return self if copied is None else Frames((*self.parts[:-1], *copied))


@dataclass(frozen=True, slots=True)
class Live:
    """A value that never left this process."""

    value: Any
    nbytes: int = 0

    def load(self) -> Any:
        """The value itself."""
        return self.value


class Unpicklable:
    """Stands for a value that could not be pickled: loading it raises the reason."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return _refuse, (self.reason,)


def _refuse(reason: str) -> None:
    raise pickle.PicklingError(reason)


def join(parts: Sequence[Buffer]) -> tuple[bytes, ...]:
    """The parts as bytes, for messages that carry small values."""
    return tuple(bytes(part) for part in parts)
