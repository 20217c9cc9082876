"""Lists of what happened, kept in batches: what they stand for is made when it is read."""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from threading import Lock
from typing import Generic, Protocol, TypeAlias, TypeVar, overload

from handoff_lab.telemetry.batches import FinishedBatch, FunctionBatch
from handoff_lab.telemetry.events import Event


class _Part(Protocol):
    @property
    def event_count(self) -> int: ...


T = TypeVar("T")
P = TypeVar("P", bound=_Part)
Claim: TypeAlias = tuple[float, str, Mapping[str, float]]  # when, on which node, how much from then on


class Growing(Sequence[T]):
    """What can be read like a list, and is equal to one of the same items."""

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # it grows

    def __repr__(self) -> str:
        return repr(list(self))


class Unfolding(Growing[T], Generic[T, P]):
    """What parts stand for, in the order in which they were told: as many things as a part has events."""

    def __init__(self, parts: Iterable[P] = ()) -> None:
        self.parts = list(parts)  # as they were told; only ever grows
        self._lock = Lock()
        self._ends: list[int] = []  # how many things there are up to and with each part, as far as it was counted
        self._open: tuple[int, Sequence[T]] = (-1, ())  # the part that was looked into last

    @abstractmethod
    def _unfold(self, part: P) -> Sequence[T]:
        """What a part stands for."""

    def append(self, part: P) -> None:
        """Add what was told next."""
        self.parts.append(part)

    def __len__(self) -> int:
        ends = self._count()
        return ends[-1] if ends else 0

    def __iter__(self) -> Iterator[T]:
        for part in self.parts:
            yield from self._unfold(part)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        ends = self._count()
        at = range(ends[-1] if ends else 0)[index]
        number = bisect_right(ends, at)
        return self._look_into(number)[at - (ends[number - 1] if number else 0)]

    def _count(self) -> list[int]:
        with self._lock:
            total = self._ends[-1] if self._ends else 0
            for part in self.parts[len(self._ends) :]:
                total += part.event_count
                self._ends.append(total)
            return self._ends

    def _look_into(self, number: int) -> Sequence[T]:
        opened, things = self._open
        if opened != number:
            things = self._unfold(self.parts[number])
            self._open = number, things
        return things


class Events(Unfolding[Event, "Event | FunctionBatch"]):
    """Events in the order in which they were told, one by one or many at once."""

    def _unfold(self, part: Event | FunctionBatch) -> Sequence[Event]:
        return part.events()


class Claims(Growing[Claim]):
    """What was claimed on nodes, in the order of time."""

    def __init__(self, claims: Iterable[Claim] = ()) -> None:
        self._lock = Lock()
        self._new: deque[Claim | FinishedBatch] = deque(claims)
        self._sorted: list[Claim] = []

    def append(self, news: Claim | FinishedBatch) -> None:
        """Add what was told next."""
        self._new.append(news)

    def __len__(self) -> int:
        return len(self._read())

    def __iter__(self) -> Iterator[Claim]:
        return iter(self._read())

    @overload
    def __getitem__(self, index: int) -> Claim: ...
    @overload
    def __getitem__(self, index: slice) -> list[Claim]: ...
    def __getitem__(self, index: int | slice) -> Claim | list[Claim]:
        return self._read()[index]

    def _read(self) -> list[Claim]:
        with self._lock:
            if self._new:
                known = self._sorted.copy()  # someone may be reading the other
                while self._new:
                    news = self._new.popleft()
                    known += news.claims() if isinstance(news, FinishedBatch) else (news,)
                known.sort(key=itemgetter(0))
                self._sorted = known
            return self._sorted
