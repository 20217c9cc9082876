"""A picture of a graph without Graphviz: boxes in rows by depth, joined by curves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

from handoff_lab.visualization.fold import depths
from handoff_lab.visualization.palette import INK, QUIET, NodeMark
from handoff_lab.visualization.sketch import Arrow, Box, Sketch, joined, printable

_HEIGHT, _GAP, _ROW, _PAD, _LINE = 42, 18, 84, 12, 18
_LETTER = 0.56  # the usual width of one, in font sizes
_BADGE = 16
_FONT = "Helvetica,Arial,sans-serif"
_DASHES = {"dashed": "5 3", "dotted": "1 3"}


@dataclass(frozen=True, slots=True)
class _Place:
    x: float
    y: float
    width: float

    @property
    def middle(self) -> float:
        return self.x + self.width / 2

    def area(self, text: str) -> tuple[int, int, int, int, str]:
        return round(self.x), round(self.y), round(self.x + self.width), round(self.y + _HEIGHT), text


class Plain(NamedTuple):
    """The SVG of a picture, and left, top, right, bottom and tooltip of each of its boxes."""

    svg: str
    areas: tuple[tuple[int, int, int, int, str], ...]


def draw(sketch: Sketch, hint: str = "") -> Plain:
    """Draw ``sketch``, with ``hint`` below it."""
    places = _places(sketch)
    notes = [note for note in (_legend(sketch), sketch.caption, hint) if note]
    bottom = max((place.y + _HEIGHT for place in places.values()), default=0) + _PAD
    right = max([*(p.x + p.width for p in places.values()), *(_PAD + _text_width(n, 10) for n in notes), 100])
    width, height = f"{right + _PAD:.0f}", f"{bottom + _LINE * len(notes):.0f}"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{_text(sketch.name)}" width="{width}" '
        f'height="{height}" viewBox="0 0 {width} {height}" font-family="{_FONT}" style="max-width:100%;height:auto">'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0 8 4 0 8z" fill="{QUIET}"/></marker></defs>'
    )
    arrows = [_arrow(arrow, places[arrow.tail], places[arrow.head]) for arrow in sketch.arrows]
    boxes = [_box(box, places[box.key]) for box in sketch.boxes]
    lines = [_words(_PAD, bottom + _LINE * row + 6, note, 10, QUIET, "start") for row, note in enumerate(notes)]
    areas = tuple(places[box.key].area(box.tooltip or box.title) for box in sketch.boxes)
    return Plain("\n".join([head, *arrows, *boxes, *lines, "</svg>"]), areas)


def _places(sketch: Sketch) -> dict[str, _Place]:
    """Rows by depth; within a row, boxes stand in the order of the middles of what they come from."""
    needs: dict[str, list[str]] = {box.key: [] for box in sketch.boxes}
    for arrow in sketch.arrows:
        if arrow.directed:
            needs[arrow.head].append(arrow.tail)
    rows: dict[int, list[Box]] = {}
    depth = depths(needs)
    for box in sketch.boxes:
        rows.setdefault(depth[box.key], []).append(box)
    widest = max((_row_width(row) for row in rows.values()), default=0)
    places: dict[str, _Place] = {}
    for number in sorted(rows):
        row = sorted(rows[number], key=lambda box: _wanted(needs[box.key], places))
        x = _PAD + (widest - _row_width(row)) / 2
        for box in row:
            places[box.key] = _Place(x, _PAD + number * _ROW, _width(box))
            x += _width(box) + _GAP
    return places


def _wanted(needs: list[str], places: Mapping[str, _Place]) -> float:
    middles = [places[need].middle for need in needs if need in places]
    return sum(middles) / len(middles) if middles else 0.0


def _row_width(row: list[Box]) -> float:
    return sum(_width(box) for box in row) + _GAP * (len(row) - 1)


def _width(box: Box) -> float:
    words = max(_text_width(box.title, 12), _text_width(box.note, 9.5), 40)
    return words + 20 + (_BADGE + 8 if box.mark else 0)


def _text_width(text: str, size: float) -> float:
    return len(text) * size * _LETTER


def _box(box: Box, place: _Place) -> str:
    radius = 8 if "rounded" in box.style else 0
    shift = (_BADGE + 8) / 2 if box.mark else 0
    parts = [
        f"<title>{_text(box.tooltip or box.title)}</title>",
        f'<rect x="{place.x:.1f}" y="{place.y:.1f}" width="{place.width:.1f}" height="{_HEIGHT}" rx="{radius}" '
        f'fill="{box.fill}" stroke="{box.line}" stroke-width="{box.width + box.double:g}"{_dash(box.style)}/>',
        _badge(box.mark, place) if box.mark else "",
        _words(place.middle + shift, place.y + (18 if box.note else 26), box.title, 12, INK),
        _words(place.middle + shift, place.y + 33, box.note, 9.5, INK) if box.note else "",
    ]
    return f"<g>{''.join(parts)}</g>"


def _badge(mark: NodeMark, place: _Place) -> str:
    x, y = place.x + 8, place.y + (_HEIGHT - _BADGE) / 2
    square = f'<rect x="{x:.1f}" y="{y:.1f}" width="{_BADGE}" height="{_BADGE}" rx="3" fill="{mark.colour}"/>'
    return square + _words(x + _BADGE / 2, y + 11.5, mark.letter, 9, mark.ink)


def _arrow(arrow: Arrow, tail: _Place, head: _Place) -> str:
    x, y, to_x, to_y = tail.middle, tail.y + _HEIGHT, head.middle, head.y
    if arrow.directed:
        bend = (to_y - y) / 2
        path = f"M{x:.1f} {y:.1f}C{x:.1f} {y + bend:.1f} {to_x:.1f} {to_y - bend:.1f} {to_x:.1f} {to_y:.1f}"
    else:
        path = f"M{x + 12:.1f} {y:.1f}L{to_x + 12:.1f} {to_y:.1f}"
    tip = ' marker-end="url(#tip)"' if arrow.directed else ""
    weight = 1 if arrow.count == 1 else 2
    line = (
        f'<path d="{path}" fill="none" stroke="{QUIET}" stroke-width="{weight}"{_dash(arrow.style)}{tip}>'
        f"<title>{_text(arrow.tooltip)}</title></path>"
    )
    circles = [(x, y + 4)] * arrow.tail_mark + [(to_x, to_y - 11)] * arrow.head_mark
    return line + "".join(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="none" stroke="{QUIET}"/>' for a, b in circles)


def _legend(sketch: Sketch) -> str:
    shown = joined((f"{mark.letter} = {mark.name}" for mark in sketch.nodes[:12]), ", ")
    return shown + (", …" if len(sketch.nodes) > 12 else "")


def _words(x: float, y: float, text: str, size: float, colour: str, anchor: str = "middle") -> str:
    style = f'font-size="{size:g}" text-anchor="{anchor}" fill="{colour}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{_text(text)}</text>'


def _dash(style: str) -> str:
    return next((f' stroke-dasharray="{dash}"' for name, dash in _DASHES.items() if name in style), "")


def _text(text: str) -> str:
    return escape(printable(text))
