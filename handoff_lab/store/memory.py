"""The values that one process holds, and those who wait for values that are still to come."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from handoff_lab.messages import AttemptId
from handoff_lab.store.payload import Payload

P = TypeVar("P", bound=Payload)

_REMEMBERED = 10_000  # freed keys, and forgotten runs


@dataclass(slots=True)
class _Lot(Generic[P]):
    """The values of one run."""

    values: dict[AttemptId, P] = field(default_factory=dict)
    nbytes: int = 0


class MemoryStore(Generic[P]):
    """Values by key, in this process's memory.

    A key that was freed, or whose run was forgotten, is remembered for a while, so that a value that comes late is not
    kept for ever and one who asks late does not wait for ever.
    """

    def __init__(self) -> None:
        self.nbytes = 0
        self._lots: dict[str, _Lot[P]] = {}  # by run; none is empty
        self._takers: dict[AttemptId, list[Callable[[P | None], None]]] = {}
        self._freed: OrderedDict[AttemptId, None] = OrderedDict()  # a dict looks long for its oldest key
        self._forgotten: OrderedDict[str, None] = OrderedDict()  # runs

    def __contains__(self, key: AttemptId) -> bool:
        return (lot := self._lots.get(key[0])) is not None and key in lot.values

    def __len__(self) -> int:
        return sum(len(lot.values) for lot in self._lots.values())

    def items(self) -> Iterator[tuple[AttemptId, P]]:
        """The values that are here, with their keys."""
        for lot in self._lots.values():
            yield from lot.values.items()

    def keys(self) -> list[AttemptId]:
        """Of the values that are here."""
        return [key for key, _ in self.items()]

    @property
    def is_full(self) -> bool:
        """Whether more is here than should be, but not for long: hold back what makes more of it."""
        return False

    @property
    def is_stuck(self) -> bool:
        """Whether what is too much can't go anywhere else, so that ``refusal`` matters."""
        return False

    def refusal(self, value: P) -> str:
        """Why there is no place for this value; nothing where there is."""
        return ""

    def put(self, key: AttemptId, value: P) -> None:
        """Hold ``value``, and give it to those who wait for it. The first value of a key stays."""
        if self.knows(key):
            return
        self._hold(self._lot_of(key.run), key, value, value.nbytes)
        for take in self._takers.pop(key, ()):
            take(value)

    def put_many(self, keys: Sequence[AttemptId], values: Sequence[P], nbytes: Sequence[int]) -> None:
        """Hold values of these sizes, all of one run."""
        run = keys[0].run
        if run in self._forgotten:
            return
        lot = self._lot_of(run)
        held, freed = lot.values, self._freed
        for key, value, size in zip(keys, values, nbytes, strict=True):
            if key not in held and (not freed or key not in freed):
                self._hold(lot, key, value, size)
        if not held:
            del self._lots[run]
        if self._takers:
            for key, value in zip(keys, values, strict=True):
                for take in self._takers.pop(key, ()):
                    take(value)

    def replace(self, key: AttemptId, value: P) -> None:
        """Hold ``value`` in place of the one that is here."""
        lot = self._lots[key.run]
        change = value.nbytes - lot.values[key].nbytes
        lot.values[key] = value
        lot.nbytes += change
        self.nbytes += change

    def get(self, key: AttemptId) -> P | None:
        """The value, if it is here."""
        lot = self._lots.get(key[0])
        return None if lot is None else lot.values.get(key)

    def knows(self, key: AttemptId) -> bool:
        """Whether the value is here, or was."""
        lot = self._lots.get(key[0])
        return (lot is not None and key in lot.values) or key in self._freed or key[0] in self._forgotten

    def want(self, key: AttemptId, take: Callable[[P | None], None]) -> None:
        """Call ``take`` once: now if the value is here or was freed, else when it comes or (None) is given up."""
        if self.knows(key):
            take(self.get(key))
        else:
            self._takers.setdefault(key, []).append(take)

    def give_up(self, key: AttemptId) -> None:
        """Tell those who wait for this value that it will not come."""
        for take in self._takers.pop(key, ()):
            take(None)

    def free(self, keys: Iterable[AttemptId]) -> None:
        """Forget these values."""
        keys = list(keys)
        for key in keys:
            lot = self._lots.get(key[0])
            if lot is not None and (value := lot.values.pop(key, None)) is not None:
                lot.nbytes -= value.nbytes
                self.nbytes -= value.nbytes
                if not lot.values:
                    del self._lots[key[0]]
        _remember(self._freed, keys[-_REMEMBERED:])
        for key in self._takers.keys() & keys if self._takers else ():
            self.give_up(key)

    def forget(self, run: str) -> None:
        """Forget all values of a run."""
        lot = self._lots.pop(run, None)
        self.nbytes -= 0 if lot is None else lot.nbytes
        _remember(self._forgotten, [run])
        for key in [key for key in self._takers if key.run == run]:
            self.give_up(key)

    def _lot_of(self, run: str) -> _Lot[P]:
        lot = self._lots.get(run)
        if lot is None:
            lot = self._lots[run] = _Lot()
        return lot

    def _hold(self, lot: _Lot[P], key: AttemptId, value: P, nbytes: int) -> None:
        lot.values[key] = value
        lot.nbytes += nbytes
        self.nbytes += nbytes


def _remember(gone: OrderedDict[Any, None], keys: Sequence[Hashable]) -> None:
    gone.update(dict.fromkeys(keys))
    while len(gone) > _REMEMBERED:
        gone.popitem(last=False)
