"""Options that take several names: ``--peers all|none|NAME,...`` and ``--only NAME,...``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection


def names_among(known: Collection[str]) -> Callable[[str], list[str]]:
    """What reads names with commas between them; they come in the order in which they are known."""

    def read(text: str) -> list[str]:
        names = text.split(",")
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not one of {', '.join(known)}")
        return [name for name in known if name in names]

    return read


def peers_among(known: Collection[str]) -> Callable[[str], list[str]]:
    """The same, or ``all`` or ``none`` of them."""
    groups = {"all": [*known], "none": []}
    read = names_among(known)
    return lambda text: groups[text] if text in groups else read(text)
