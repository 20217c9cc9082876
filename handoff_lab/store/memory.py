"""The values that one process holds, and those who wait for values that are still to come."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

from handoff_lab.messages import AttemptId
from handoff_lab.store.payload import Payload

P = TypeVar("P", bound=Payload)

_REMEMBERED = 10_000  # freed keys


class MemoryStore(Generic[P]):
    """Values by key, in this process's memory.

    A key that was freed is remembered for a while, so that a value that comes late is not kept for ever and one who
    asks late does not wait for ever.
    """

    def __init__(self) -> None:
        self.nbytes = 0
        self._values: dict[AttemptId, P] = {}
        self._takers: dict[AttemptId, list[Callable[[P | None], None]]] = {}
        self._freed: OrderedDict[AttemptId, None] = OrderedDict()  # a dict looks long for its oldest key

    def __contains__(self, key: AttemptId) -> bool:
        return key in self._values

    def __len__(self) -> int:
        return len(self._values)

    def keys(self) -> list[AttemptId]:
        """Of the values that are here."""
        return list(self._values)

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
        if key in self._freed or key in self._values:
            return
        self._values[key] = value
        self.nbytes += value.nbytes
        for take in self._takers.pop(key, ()):
            take(value)

    def put_many(self, keys: Sequence[AttemptId], values: Sequence[P], nbytes: Sequence[int]) -> None:
        """Hold values of these sizes."""
        held, freed = self._values, self._freed
        for key, value, size in zip(keys, values, nbytes, strict=True):
            if key not in held and key not in freed:
                held[key] = value
                self.nbytes += size
        if self._takers:
            for key, value in zip(keys, values, strict=True):
                for take in self._takers.pop(key, ()):
                    take(value)

    def get(self, key: AttemptId) -> P | None:
        """The value, if it is here."""
        return self._values.get(key)

    def knows(self, key: AttemptId) -> bool:
        """Whether the value is here, or was."""
        return key in self._values or key in self._freed

    def want(self, key: AttemptId, take: Callable[[P | None], None]) -> None:
        """Call ``take`` once: now if the value is here or was freed, else when it comes or (None) is given up."""
        value = self.get(key)
        if value is not None or key in self._freed:
            take(value)
        else:
            self._takers.setdefault(key, []).append(take)

    def give_up(self, key: AttemptId) -> None:
        """Tell those who wait for this value that it will not come."""
        for take in self._takers.pop(key, ()):
            take(None)

    def free(self, keys: Iterable[AttemptId]) -> None:
        """Forget these values."""
        keys = list(keys)
        values = self._values
        self.nbytes -= sum([values.pop(key).nbytes for key in keys if key in values])
        self._freed.update(dict.fromkeys(keys[-_REMEMBERED:]))
        for key in self._takers.keys() & keys if self._takers else ():
            self.give_up(key)
        while len(self._freed) > _REMEMBERED:
            self._freed.popitem(last=False)
