"""What a mistyped name may have meant."""

from __future__ import annotations

import difflib
import heapq
from collections.abc import Hashable, Iterable

_MOST = 500  # the thorough comparison takes some 50 µs for each


def closest(wanted: Hashable, known: Iterable[Hashable]) -> list[Hashable]:
    """Up to three of ``known`` that read like ``wanted``, the most alike first.

    >>> closest("pre_aa", ["agg", "pre_a", "pre_b"])
    ['pre_a', 'pre_b']
    """
    by_text = {_text(id): id for id in known}
    text = _text(wanted)
    likely: Iterable[str] = by_text
    if len(by_text) > _MOST:
        likely = heapq.nlargest(_MOST, by_text, key=lambda other: _ends_shared(text, other))
    return [by_text[match] for match in difflib.get_close_matches(text, likely)]


def _ends_shared(one: str, other: str) -> int:
    """Characters that begin and end both alike: all but the mistyped ones, as a rule."""
    return _begin_shared(one, other) + _begin_shared(one[::-1], other[::-1]) - abs(len(one) - len(other))


def _begin_shared(one: str, other: str) -> int:
    for count, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return count
    return min(len(one), len(other))


def _text(id: Hashable) -> str:
    return id if isinstance(id, str) else repr(id)
