"""What a picture of a graph shows, before anyone draws it: boxes, arrows and a legend."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

from handoff_lab.visualization.palette import BLANK, QUIET, NodeMark

_LONGEST = 36
_UNPRINTABLE = re.compile(r"[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Box:
    """A function, or several folded into one. ``key`` is safe in any format."""

    key: str
    title: str
    note: str = ""
    tooltip: str = ""
    mark: NodeMark | None = None
    shape: str = "box"
    style: str = "rounded,filled"
    width: float = 1.2
    double: bool = False  # a double line around it
    fill: str = BLANK
    line: str = QUIET
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Arrow:
    """From one box to another."""

    tail: str
    head: str
    tooltip: str = ""
    style: str = "solid"
    tail_mark: bool = False  # the value is serialized as it leaves
    head_mark: bool = False  # and deserialized as it arrives
    directed: bool = True
    count: int = 1


@dataclass(frozen=True, slots=True)
class Sketch:
    """A whole picture."""

    name: str
    boxes: tuple[Box, ...] = ()
    arrows: tuple[Arrow, ...] = ()
    nodes: tuple[NodeMark, ...] = ()  # for the legend
    caption: str = ""
    groups: dict[str, list[Box]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        groups: dict[str, list[Box]] = {}
        for box in self.boxes:
            if box.group is not None:
                groups.setdefault(box.group, []).append(box)
        object.__setattr__(self, "groups", groups)


def title_of(id: Hashable) -> str:
    """An id as it stands on a box, in one line of bearable length.

    >>> title_of("blur"), title_of(("blur", 3))
    ('blur', "('blur', 3)")
    """
    return shortened(id if isinstance(id, str) else repr(id))


def shortened(text: str, longest: int = _LONGEST) -> str:
    """``text`` in one line; what is too long loses its middle, for ids often differ at their ends."""
    line = " ".join(printable(text).split()) or "(blank)"
    if len(line) <= longest:
        return line
    head = longest // 2
    return f"{line[:head]}…{line[head + 1 - longest :]}"


def printable(text: str) -> str:
    """``text`` without the characters that XML forbids."""
    return text if text.isprintable() else _UNPRINTABLE.sub("\ufffd", text)  # the first is quick


def joined(parts: Iterable[str | None], separator: str = " · ") -> str:
    """Those of ``parts`` that say something."""
    return separator.join(part for part in parts if part)
