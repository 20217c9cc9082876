"""A graph in columns from left to right without Graphviz: a wide level gets several columns.

Lines keep to the gaps between the boxes of a level, so that none seems to come out of a box that it only passes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from math import ceil

from handoff_lab.visualization.fold import depths

GAP = 46.0  # between levels
ROW = 52.0  # from one box to the next below it
_PAD = 8.0
_AISLE = 22.0  # between columns of one level
_LANE = 6.0  # from a box to the lines that pass it
_FRAME, _HEADLINE = 10.0, 24.0  # from its boxes to a frame, and on top, where its name stands
_BESIDE = 14.0
_FEWEST_ROWS = 6
_SHAPE = 2.2  # width by height, as a notebook's output has it


@dataclass(frozen=True, slots=True)
class Block:
    """A box to be placed; ``group`` is its group's number, or -1."""

    width: float
    height: float
    group: int = -1


@dataclass(frozen=True, slots=True)
class Line:
    """From one block to another; one without direction ties blocks of a node together and moves none."""

    tail: int
    head: int
    directed: bool = True


@dataclass(frozen=True, slots=True)
class Frame:
    """A rectangle around the blocks of a group."""

    group: int
    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Placement:
    """Middles of the blocks, the lines as paths of SVG, and frames of the groups; y grows downwards."""

    width: float
    height: float
    middles: tuple[tuple[float, float], ...]
    paths: tuple[str, ...]
    frames: tuple[Frame, ...]


@dataclass(slots=True)
class _Level:
    left: float
    right: float
    columns: list[list[int]]


@dataclass(slots=True)
class _Places:
    blocks: Sequence[Block]
    row: float
    rank: dict[int, float] = field(default_factory=dict)  # 0 for the first of a level, towards 1 for its last
    levels: list[_Level] = field(default_factory=list)
    level: dict[int, int] = field(default_factory=dict)
    column: dict[int, int] = field(default_factory=dict)
    x: dict[int, float] = field(default_factory=dict)
    y: dict[int, float] = field(default_factory=dict)


def needs_of(blocks: Sequence[Block], lines: Sequence[Line]) -> dict[int, list[int]]:
    """Each block with those that it depends on."""
    needs: dict[int, list[int]] = {number: [] for number in range(len(blocks))}
    for line in lines:
        if line.directed:
            needs[line.head].append(line.tail)
    return needs


def place(blocks: Sequence[Block], lines: Sequence[Line]) -> Placement:
    """Lay out a graph whose ``blocks`` are in topological order."""
    needs = needs_of(blocks, lines)
    levels: dict[int, list[int]] = {}
    for number, depth in depths(needs).items():
        levels.setdefault(depth, []).append(number)
    highest = max([ROW - 18.0, *(block.height for block in blocks)])
    places = _Places(blocks, highest + (_HEADLINE + _FRAME if any(block.group >= 0 for block in blocks) else 18.0))
    rows = _rows([len(level) for level in levels.values()], blocks, places.row)
    middle = _PAD + _HEADLINE + rows * places.row / 2
    right = _PAD
    for depth in sorted(levels):
        right = _add_level(places, _ordered(levels[depth], needs, places), rows, right, middle)
    return Placement(
        width=round(right - GAP + _PAD, 1) if levels else 2 * _PAD,
        height=round(2 * middle, 1) if levels else 2 * _PAD,
        middles=tuple((round(places.x[n], 1), round(places.y[n], 1)) for n in range(len(blocks))),
        paths=tuple(_path(line, places) for line in lines),
        frames=tuple(_frames(places)),
    )


def _rows(sizes: Sequence[int], blocks: Sequence[Block], row: float) -> int:
    """How many rows make the picture as wide as a screen."""
    widest = max(sizes, default=0)
    column = _AISLE + sum(block.width for block in blocks) / max(len(blocks), 1)
    for rows in count(_FEWEST_ROWS):
        if rows >= widest or sum(ceil(size / rows) for size in sizes) * column <= _SHAPE * rows * row:
            return min(rows, max(widest, 1))
    raise AssertionError


def _ordered(level: list[int], needs: Mapping[int, list[int]], places: _Places) -> list[int]:
    """The blocks of a level in the order of what they depend on, groups together."""
    wanted = {number: _mean([places.rank[need] for need in needs[number] if need in places.rank]) for number in level}
    of_groups: dict[int, list[float]] = {}
    for number in level:
        of_groups.setdefault(places.blocks[number].group, []).append(wanted[number])
    group = {key: _mean(ranks) for key, ranks in of_groups.items() if key >= 0}

    def key(number: int) -> tuple[float, int, float]:
        of_it = places.blocks[number].group
        return group.get(of_it, wanted[number]), of_it, wanted[number]

    return sorted(level, key=key)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _add_level(places: _Places, level: list[int], rows: int, left: float, middle: float) -> float:
    """Place the blocks of a level, column by column; where the next may begin."""
    parts = ceil(len(level) / rows)
    rows = ceil(len(level) / parts)
    columns = [level[start : start + rows] for start in range(0, len(level), rows)]
    right = left
    places.rank |= {block: place / len(level) for place, block in enumerate(level)}
    for number, column in enumerate(columns):
        width = max(places.blocks[block].width for block in column)
        for row, block in enumerate(column):
            places.x[block] = right + width / 2
            places.y[block] = middle + (row - (rows - 1) / 2) * places.row
            places.level[block], places.column[block] = len(places.levels), number
        right += width + _AISLE
    places.levels.append(_Level(left, right - _AISLE, columns))
    return right - _AISLE + GAP


def _path(line: Line, places: _Places) -> str:
    x, y = places.x[line.tail], places.y[line.tail]
    to_x, to_y = places.x[line.head], places.y[line.head]
    if not line.directed:
        return tie((x, y), (to_x, to_y))
    tail, head = places.blocks[line.tail], places.blocks[line.head]
    x += tail.width / 2
    to_x -= head.width / 2
    start, end = f"M{x:.1f} {y:.1f}", ""
    from_level, to_level = places.levels[places.level[line.tail]], places.levels[places.level[line.head]]
    if places.column[line.tail] < len(from_level.columns) - 1:
        lane = y + tail.height / 2 + _LANE
        start += f"{bend(x, y, x + _AISLE, lane)}L{from_level.right:.1f} {lane:.1f}"
        x, y = from_level.right, lane
    if places.column[line.head] > 0:
        lane = to_y - head.height / 2 - _LANE
        end = f"L{to_x - _AISLE:.1f} {lane:.1f}{bend(to_x - _AISLE, lane, to_x, to_y)}"
        to_x, to_y = to_level.left, lane
    return f"{start}{bend(x, y, to_x, to_y)}{end}"


def tie(one: tuple[float, float], other: tuple[float, float]) -> str:
    """A straight line beside the middles of two blocks, where an arrow between them does not hide it."""
    (x, y), (to_x, to_y) = one, other
    return f"M{x + _BESIDE:.1f} {y:.1f}L{to_x + _BESIDE:.1f} {to_y:.1f}"


def bend(x: float, y: float, to_x: float, to_y: float) -> str:
    """A curve that begins and ends level."""
    reach = max(abs(to_x - x) / 2, 8.0)
    return f"C{x + reach:.1f} {y:.1f} {to_x - reach:.1f} {to_y:.1f} {to_x:.1f} {to_y:.1f}"


def _frames(places: _Places) -> list[Frame]:
    """A frame for each group that has no stranger between its blocks."""
    members: dict[int, list[int]] = {}
    for number, block in enumerate(places.blocks):
        if block.group >= 0:
            members.setdefault(block.group, []).append(number)
    frames = (_frame(group, of_it, places) for group, of_it in sorted(members.items()))
    return [frame for frame in frames if not _has_stranger(frame, places)]


def _frame(group: int, members: list[int], places: _Places) -> Frame:
    boxes = [(places.x[n], places.y[n], places.blocks[n].width / 2, places.blocks[n].height / 2) for n in members]
    left = min(x - w for x, _, w, _ in boxes) - _FRAME
    top = min(y - h for _, y, _, h in boxes) - _HEADLINE
    right = max(x + w for x, _, w, _ in boxes) + _FRAME
    bottom = max(y + h for _, y, _, h in boxes) + _FRAME
    return Frame(group, *(round(number, 1) for number in (left, top, right - left, bottom - top)))


def _has_stranger(frame: Frame, places: _Places) -> bool:
    right, bottom = frame.left + frame.width, frame.top + frame.height
    return any(
        block.group != frame.group
        and frame.left < places.x[n] + block.width / 2
        and places.x[n] - block.width / 2 < right
        and frame.top < places.y[n] + block.height / 2
        and places.y[n] - block.height / 2 < bottom
        for n, block in enumerate(places.blocks)
    )
