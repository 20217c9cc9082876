"""Events as lines of JSON, and back.

What JSON lacks is an object of one key that begins with ``$``. Nothing is pickled, so a log is safe to read. A value
of a class unknown here comes back as an ``Opaque``: hashable, equal to itself only, shown as the value was.
"""

from __future__ import annotations

import base64
import json
import math
import numbers
from collections.abc import Callable, Hashable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from handoff_lab.telemetry.events import Event

_MANY: Final = 64  # keys
_FEW: Final = 4  # times fewer values than keys
_PLAIN = frozenset({str, int, bool, type(None)})
dump = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


@dataclass(frozen=True, slots=True)
class Opaque:
    """Stands for a value that the log could only describe; equal values have equal numbers."""

    text: str
    number: int

    def __repr__(self) -> str:
        return self.text


class Encoder:
    """Makes lines of events. It remembers which opaque value has which number, so one log needs one encoder."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}
        self._unhashable = 0

    def line(self, event: Event) -> str:
        """``event`` as one line, without the line's end."""
        parts = [list(event.name), event.time, self.encode(event.measurements), self.encode(event.metadata)]
        return dump(parts)

    def encode(self, value: object) -> object:
        """``value`` as JSON has it.

        Examples
        --------
        >>> Encoder().encode({("load", 1): None, "n": [1.5, "x"]})
        {'$dict': [[{'$tuple': ['load', 1]}, None], ['n', [1.5, 'x']]]}
        """
        if type(value) in _PLAIN:
            return value
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else {"$float": str(float(value))}
        if isinstance(value, dict | Mapping):
            return self._mapping(value)
        if isinstance(value, list):
            return self.column(value)
        if isinstance(value, tuple):
            return {"$tuple": self.column(value)}
        return self._rare(value)

    def _mapping(self, value: Mapping[Any, object]) -> object:
        if len(value) >= _MANY and (alike := self._alike(value)):
            return alike
        encoded = {}
        for key, item in value.items():
            if type(key) is not str or key.startswith("$"):
                return {"$dict": [[self.encode(key), self.encode(item)] for key, item in value.items()]}
            encoded[key] = item if type(item) in _PLAIN else self.encode(item)
        return encoded

    def column(self, values: Iterable[object]) -> list[object]:
        """``values`` as JSON has them."""
        known = list(values)
        return known if _PLAIN.issuperset(map(type, known)) else [self.encode(value) for value in known]

    def _alike(self, value: Mapping[Any, object]) -> object:
        """A mapping of many keys to few things in columns; None if it is no such."""
        values = list(value.values())
        kinds = dict(zip(map(id, values), values, strict=True))
        if len(kinds) * _FEW > len(values):
            return None
        places = {key: place for place, key in enumerate(kinds)}
        which = list(map(places.__getitem__, map(id, values)))
        return {"$alike": [self.column(value), self.column(kinds.values()), which]}

    def _rare(self, value: object) -> object:
        if isinstance(value, Enum) and not isinstance(value, str | int):
            return self._opaque(value)
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, numbers.Integral):
            return int(value)
        if isinstance(value, bytes):
            return {"$bytes": base64.b64encode(value).decode()}
        if isinstance(value, AbstractSet):
            return {"$set": self.column(value)}
        return self._opaque(value)

    def _opaque(self, value: object) -> object:
        return {"$opaque": [described(value), self._number(value)]}

    def _number(self, value: object) -> int:
        try:
            return self._numbers.setdefault(value, len(self._numbers))
        except TypeError:
            self._unhashable -= 1
            return self._unhashable


def parse_line(line: str) -> Event:
    """The event that a line tells of."""
    name, time, measurements, metadata = json.loads(line, object_hook=decode)
    return Event(tuple(name), time, measurements, metadata)


def described(value: object) -> str:
    """``repr(value)``, whatever a user's class does there."""
    try:
        return repr(value)
    except BaseException:
        return object.__repr__(value)


def _unlike(parts: list[Any]) -> dict[Any, object]:
    keys, kinds, which = parts
    return {key: kinds[place] for key, place in zip(keys, which, strict=True)}


_DECODERS: dict[str, Callable[[Any], object]] = {
    "$tuple": tuple,
    "$dict": dict,
    "$alike": _unlike,
    "$set": frozenset,
    "$bytes": base64.b64decode,
    "$float": float,
    "$opaque": lambda parts: Opaque(*parts),
}


def decode(found: dict[str, Any]) -> object:
    """The value that an object of JSON stands for."""
    if len(found) == 1:
        ((key, value),) = found.items()
        if key in _DECODERS:
            return _DECODERS[key](value)
    return found
