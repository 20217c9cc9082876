"""Colours, letters and signs. Nothing is told by colour alone: nodes have letters, states have shapes and signs.

The colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/) without black and grey, each moved by at most
6.2 (CIEDE2000): as published, pairs of them are 11 to 14 apart for people with protan, deutan or tritan vision; now any
two are at least 15 apart for everyone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Final

from handoff_lab.telemetry import FunctionStatus

OKABE_ITO: Final = ("#52B9F2", "#EAA40D", "#0B986D", "#B8729A", "#0063B3", "#FFFE61", "#D35500")
INK: Final = "#24292F"  # on a light ground
QUIET: Final = "#6E7781"  # legible on white and on near-black
BLANK: Final = "#FFFFFF"
BLACK: Final = "#000000"
ALARM: Final = OKABE_ITO[-1]


@dataclass(frozen=True, slots=True)
class NodeMark:
    """How a node is shown everywhere."""

    name: str
    letter: str
    colour: str

    @property
    def tint(self) -> str:
        """A light ground of this colour, on which ``INK`` is legible."""
        return mix(self.colour, BLANK, 0.72)

    @property
    def ink(self) -> str:
        """What is legible on the full colour."""
        return max((BLACK, BLANK), key=lambda ink: contrast(ink, self.colour))


@dataclass(frozen=True, slots=True)
class StatusMark:
    """How a status is shown: a sign, and a Graphviz shape and style of the box."""

    sign: str
    shape: str = "box"
    style: str = "rounded,filled"
    width: float = 1.2
    double: bool = False


STATUS: Final[Mapping[FunctionStatus, StatusMark]] = {
    FunctionStatus.WAITING: StatusMark("○", style="rounded,filled,dashed"),
    FunctionStatus.QUEUED: StatusMark("…", style="rounded,filled,dashed", width=1.8),
    FunctionStatus.RUNNING: StatusMark("▶", width=1.8, double=True),
    FunctionStatus.DONE: StatusMark("✓"),
    FunctionStatus.CACHED: StatusMark("◆", shape="folder", style="filled"),
    FunctionStatus.FAILED: StatusMark("✗", style="filled", width=1.8, double=True),
    FunctionStatus.RETRYING: StatusMark("↻", shape="octagon", style="filled", width=1.8),
    FunctionStatus.SKIPPED: StatusMark("–", style="filled,dotted"),
    FunctionStatus.CANCELLED: StatusMark("⊘", style="filled,diagonals"),
}


class NodeMarks(Mapping[str, NodeMark]):
    """The marks of nodes, in the order of their names, so that all pictures agree; colours come round after seven.

    >>> marks = NodeMarks(["beta", "alpha"])
    >>> marks["beta"].letter, marks["beta"].colour
    ('B', '#EAA40D')
    """

    def __init__(self, nodes: Iterable[str]) -> None:
        self._marks = {
            name: NodeMark(name, letters(index), OKABE_ITO[index % len(OKABE_ITO)])
            for index, name in enumerate(sorted(set(nodes), key=_by_number))
        }

    def __getitem__(self, name: str) -> NodeMark:
        return self._marks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._marks)

    def __len__(self) -> int:
        return len(self._marks)


def _by_number(name: str) -> list[str | int]:
    """What sorts ``n2`` before ``n10``."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def letters(index: int) -> str:
    """The letters that number ``index`` has, as columns of a sheet have them.

    >>> letters(0), letters(25), letters(26)
    ('A', 'Z', 'AA')
    """
    text = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, len(ascii_uppercase))
        text = ascii_uppercase[rest] + text
    return text


def mix(colour: str, other: str, share: float) -> str:
    """``colour`` with a ``share`` of ``other`` in it.

    >>> mix("#000000", "#FFFFFF", 0.5)
    '#808080'
    """
    pairs = zip(_rgb(colour), _rgb(other), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02X}" for a, b in pairs)


def luminance(colour: str) -> float:
    """Relative luminance as WCAG defines it, from 0 to 1."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in _rgb(colour))]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Contrast of two colours as WCAG defines it, from 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
