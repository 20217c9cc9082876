"""Where the boxes of a graph lie and how its lines run, in pixels, for those who draw it themselves.

Graphviz says it; where there is none, where it takes too long, and for graphs that it would make a tower of,
`columns.place` does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from math import dist
from typing import Any

from handoff_lab.visualization import columns, layout
from handoff_lab.visualization.columns import Block, Frame, Line, Placement, needs_of
from handoff_lab.visualization.fold import Direction, crossed, depths, direction

_INCH = 72  # points of Graphviz; one is drawn as one pixel
_PAD = 8.0
_PASSING = 17.0  # height of a line between boxes
_TALL = 2.5  # times as high as wide
_CROWDED = 2000  # levels that the lines cross together; beyond, dot tries half as hard and takes half as long
_TOO_CROWDED = 6000
_HASTE = "mclimit=0.1 nslimit=1 nslimit1=1"


def place(blocks: Sequence[Block], lines: Sequence[Line], groups: Sequence[str] = ()) -> Placement:
    """Lay out a graph whose ``blocks`` are in topological order; ``groups`` has the names of their groups."""
    needs = needs_of(blocks, lines)
    rankdir, load = direction(needs), crossed(needs)
    if not blocks or load > _TOO_CROWDED or (rankdir == "LR" and _is_tower(*_expected(blocks, needs))):
        return columns.place(blocks, lines)
    drawn = layout.graphviz(_source(blocks, lines, groups, rankdir, load > _CROWDED), "json0")
    placed = None if drawn is None else _read(json.loads(drawn), blocks, lines, rankdir)
    if placed is None or (rankdir == "LR" and _is_tower(placed.width, placed.height)):
        return columns.place(blocks, lines)
    return placed


def _is_tower(width: float, height: float) -> bool:
    """Whether a screen would show either a part or nothing legible."""
    return height > _TALL * width


def _expected(blocks: Sequence[Block], needs: Mapping[int, list[int]]) -> tuple[float, float]:
    """About the width and height that Graphviz needs from left to right."""
    depth = depths(needs)
    heights = [0.0] * (max(depth.values()) + 1)
    for number, of_it in needs.items():
        heights[depth[number]] += columns.ROW
        for need in of_it:
            for passed in range(depth[need] + 1, depth[number]):
                heights[passed] += _PASSING
    return len(heights) * (columns.GAP + sum(block.width for block in blocks) / len(blocks)), max(heights)


def _source(
    blocks: Sequence[Block], lines: Sequence[Line], groups: Sequence[str], rankdir: Direction, crowded: bool
) -> str:
    """Boxes go by their numbers, and groups by letters as many as theirs: nothing that a user wrote gets in."""
    members: dict[int, list[int]] = {}
    for number, block in enumerate(blocks):
        if block.group >= 0:
            members.setdefault(block.group, []).append(number)
    boxes = (
        f"{number} [width={block.width / _INCH:.4f} height={block.height / _INCH:.4f}]"
        for number, block in enumerate(blocks)
    )
    frames = (
        f'subgraph cluster_{group} {{ label="{"n" * len(groups[group])}"; {"; ".join(map(str, of_it))} }}'
        for group, of_it in members.items()
    )
    arrows = (f"{line.tail} -> {line.head} [id={number}]" for number, line in enumerate(lines) if line.directed)
    tail, head = ("e", "w") if rankdir == "LR" else ("s", "n")
    style = (
        f"graph [rankdir={rankdir} nodesep=0.22 ranksep=0.55 fontsize=11 labeljust=l {_HASTE if crowded else ''}]\n"
        f'node [shape=box fixedsize=true label=""]\nedge [arrowhead=none tailport={tail} headport={head}]'
    )
    return "\n".join(["digraph {", style, *boxes, *frames, *arrows, "}"])


def _read(drawn: dict[str, Any], blocks: Sequence[Block], lines: Sequence[Line], rankdir: Direction) -> Placement:
    """A placement of Graphviz's JSON, whose y grows upwards."""
    _, _, width, height = _numbers(drawn["bb"])
    middles = [(0.0, 0.0)] * len(blocks)
    frames = []
    for item in drawn["objects"]:
        if "bb" in item:
            left, low, right, high = _numbers(item["bb"])
            group = int(item["name"].removeprefix("cluster_"))
            frames.append(Frame(group, *_pixels(left, height - high), round(right - left, 1), round(high - low, 1)))
        else:
            x, y = _numbers(item["pos"])
            middles[int(item["name"])] = _pixels(x, height - y)
    splines = {int(edge["id"]): edge["pos"] for edge in drawn.get("edges", ())}
    return Placement(
        width=round(width + 2 * _PAD, 1),
        height=round(height + 2 * _PAD, 1),
        middles=tuple(middles),
        paths=tuple(_paths(blocks, lines, rankdir, middles, splines, height)),
        frames=tuple(frames),
    )


def _paths(
    blocks: Sequence[Block],
    lines: Sequence[Line],
    rankdir: Direction,
    middles: Sequence[tuple[float, float]],
    splines: Mapping[int, str],
    height: float,
) -> Iterator[str]:
    """Lines to the next level as plain bends; those that pass something as Graphviz leads them."""
    along = 0 if rankdir == "LR" else 1
    levels = {place: level for level, place in enumerate(sorted({middle[along] for middle in middles}))}
    for number, line in enumerate(lines):
        tail, head = middles[line.tail], middles[line.head]
        if not line.directed:
            yield columns.tie(tail, head)
        elif levels[head[along]] - levels[tail[along]] != 1:
            yield _spline(splines[number], height, tail, head)
        elif rankdir == "LR":
            x, to_x = tail[0] + blocks[line.tail].width / 2, head[0] - blocks[line.head].width / 2
            yield f"M{x:.1f} {tail[1]:.1f}{columns.bend(x, tail[1], to_x, head[1])}"
        else:
            y, to_y = tail[1] + blocks[line.tail].height / 2, head[1] - blocks[line.head].height / 2
            half = (y + to_y) / 2
            yield f"M{tail[0]:.1f} {y:.1f}C{tail[0]:.1f} {half:.1f} {head[0]:.1f} {half:.1f} {head[0]:.1f} {to_y:.1f}"


def _spline(points: str, height: float, tail: tuple[float, float], head: tuple[float, float]) -> str:
    """Graphviz's control points: one, then three for each curve."""
    places = [_pixels(x, height - y) for x, y in map(_numbers, points.split())]
    if dist(places[0], head) + dist(places[-1], tail) < dist(places[0], tail) + dist(places[-1], head):
        places.reverse()  # dot turns lines round that its groups make it draw backwards
    start, *rest = (f"{x:g} {y:g}" for x, y in places)
    return f"M{start}C{' '.join(rest)}"


def _pixels(x: float, y: float) -> tuple[float, float]:
    return round(x + _PAD, 1), round(y + _PAD, 1)


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(number) for number in text.split(","))
