"""Inputs for decoders, made of strings of bytes: good ones with a few changes, so that most get past the first check.

A fuzzer that sees which bytes lead to new code does the rest. The same string always makes the same input.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgpack

_DEEP: Any = []
for _ in range(400):
    _DEEP = [_DEEP]
LEAVES: tuple[Any, ...] = (
    None, True, False, 0, 1, 2, -1, 2**31, 2**63, 2**64 - 1, -(2**63), 0.5, math.nan, math.inf, -math.inf,
    "", "run", "alpha", "x" * 300, "\0", "ä\U0001f600", b"", b"abc", b"\xc1" * 9, [], [[]], [1, 1], {}, {"a": 1}, _DEEP,
)  # fmt: skip
_MOST_CHANGES = 4


class Choices:
    """Decisions from a string of bytes; when it is used up, always the first."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def below(self, count: int) -> int:
        """A number from 0 on."""
        self._at += 1
        return self._data[self._at - 1] % count if self._at <= len(self._data) else 0

    def rest(self, most: int = 64) -> bytes:
        """The bytes that come next."""
        start, self._at = self._at, self._at + most
        return self._data[start : self._at]


@dataclass(frozen=True)
class Form:
    """How bytes become values that can be changed, and values bytes."""

    load: Callable[[bytes], Any]
    dump: Callable[[Any], bytes]


MSGPACK = Form(lambda data: msgpack.unpackb(data, strict_map_key=False), msgpack.packb)
JSON_LINES = Form(
    lambda data: [json.loads(line) for line in data.decode().splitlines()],
    lambda lines: b"\n".join(
        json.dumps(line, default=lambda found: found.decode("latin-1")).encode()
        for line in (lines if isinstance(lines, list) else [lines])
    ),
)
FIELDS = Form(
    lambda data: data.split(b"|"),
    lambda fields: b"|".join(
        field if isinstance(field, bytes) else repr(field).encode()
        for field in (fields if isinstance(fields, list) else [])
    ),
)
RAW = Form(lambda data: data, lambda data: data)


def make(form: Form, seeds: tuple[bytes, ...], data: bytes) -> bytes:
    """An input: a seed whose parts, or whose bytes, were changed."""
    choices = Choices(data)
    seed = seeds[choices.below(len(seeds))]
    changes = choices.below(_MOST_CHANGES + 1)
    if form is RAW or not choices.below(4):
        return _changed_bytes(seed, choices, changes)
    value = form.load(seed)
    for _ in range(changes):
        value = _changed(value, choices)
    return form.dump(value)


@dataclass(frozen=True)
class Decoder:
    """A reader, what it may raise, and good inputs of its."""

    read: Callable[[bytes], object]
    raises: tuple[type[Exception], ...]
    seeds: tuple[bytes, ...]  # contents, in this form
    form: Form = MSGPACK
    frame: Callable[[bytes], bytes] = bytes  # what stands around a content

    def make(self, data: bytes) -> bytes:
        """The input that a string of bytes stands for."""
        return self.frame(make(self.form, self.seeds, data))

    def __call__(self, data: bytes) -> bool:
        """Whether it was read; what must not be raised is raised."""
        try:
            self.read(data)
        except self.raises:
            return False
        return True


def _changed_bytes(seed: bytes, choices: Choices, changes: int) -> bytes:
    changed = bytearray(seed)
    for _ in range(changes):
        at = (choices.below(256) * 256 + choices.below(256)) % (len(changed) + 1)
        match choices.below(4):
            case 0:
                changed[at : at + 1] = bytes([choices.below(256)])
            case 1:
                del changed[at : at + 1 + choices.below(8)]
            case 2:
                changed[at:at] = choices.rest(8)
            case 3:
                del changed[at:]
    return bytes(changed)


def _changed(value: Any, choices: Choices) -> Any:
    """``value`` with one part replaced, left out, doubled or added."""
    if not isinstance(value, list | dict) or not value or not choices.below(5):
        return _other(value, choices)
    key = choices.below(len(value)) if isinstance(value, list) else list(value)[choices.below(len(value))]
    match choices.below(8):
        case 0:
            del value[key]
        case 1 if isinstance(value, list):
            value.insert(key, copy.deepcopy(value[key]))
        case 2 if isinstance(value, list):
            value.insert(key, _other(None, choices))
        case 3 if isinstance(value, dict):
            value[str(_other("", choices))[:40]] = _other(None, choices)
        case _:
            value[key] = _changed(value[key], choices)
    return value


def _other(value: Any, choices: Choices) -> Any:
    """Another leaf, or one of the same type."""
    if choices.below(3):
        return copy.deepcopy(LEAVES[choices.below(len(LEAVES))])
    if isinstance(value, bool) or not isinstance(value, int | float | str | bytes):
        return choices.rest()
    if isinstance(value, int):
        return max(-(2**63), min(value + choices.below(256) - 128, 2**64 - 1))
    if isinstance(value, float):
        return value * (choices.below(256) - 128)
    text = choices.rest()
    return text if isinstance(value, bytes) else text.decode("latin-1")
