"""What a mistyped name may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Iterable


def closest(wanted: Hashable, known: Iterable[Hashable]) -> list[Hashable]:
    """Up to three of ``known`` that read like ``wanted``, the most alike first.

    >>> closest("pre_aa", ["agg", "pre_a", "pre_b"])
    ['pre_a', 'pre_b']
    """
    by_text = {_text(id): id for id in known}
    return [by_text[text] for text in difflib.get_close_matches(_text(wanted), by_text)]


def _text(id: Hashable) -> str:
    return id if isinstance(id, str) else repr(id)
