"""A sketch as a Graphviz graph that shows itself in a notebook, with or without the ``dot`` program."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha256
from html import escape
from math import log2
from typing import Any

import graphviz

from handoff_lab.visualization import layout
from handoff_lab.visualization.fold import Direction, direction
from handoff_lab.visualization.palette import INK, QUIET, NodeMark
from handoff_lab.visualization.sketch import Arrow, Box, Sketch, printable

_FONT = "Helvetica,Arial,sans-serif"
_NOTE = "#4B545D"
_MARGIN = "0.12,0.06"
# Paper has no scroll bar: what is too wide would be cut there.
_ON_PAPER = (
    "<style>@media print { .handoff-picture { overflow: visible !important } "
    ".handoff-picture img { max-width: 100% !important; height: auto } }</style>"
)
_ROOMY = {"ellipse", "octagon"}  # shapes that leave room around a label by themselves
_MOST_IN_LEGEND = 12


class Picture(graphviz.Digraph):
    """A ``graphviz.Digraph`` that falls back on other ways to draw itself where ``dot`` is missing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sketch = Sketch("")  # what one that was put together by hand shows without Graphviz

    @classmethod
    def of(cls, sketch: Sketch) -> Picture:
        """Draw ``sketch``."""
        picture = cls(
            name="handoff",
            graph_attr=_graph_attributes(sketch),
            node_attr={"fontname": _FONT, "fontsize": "12", "fontcolor": INK, "height": "0.4"},
            edge_attr={"color": QUIET, "arrowsize": "0.7", "fontname": _FONT, "fontsize": "9", "fontcolor": QUIET},
        )
        picture.sketch = sketch
        for number, (name, boxes) in enumerate(sketch.groups.items()):
            picture.subgraph(_cluster(number, name, boxes))
        for box in sketch.boxes:
            if box.group is None:
                _add_box(picture, box)
        for arrow in sketch.arrows:
            _add_arrow(picture, arrow)
        return picture

    def svg(self) -> str:
        """The SVG of it, without a document around it."""
        return layout.draw(self.source, self.sketch).svg

    def __repr__(self) -> str:
        return f"<picture of {self.sketch.name!r}: {len(self.sketch.boxes)} boxes, {len(self.sketch.arrows)} arrows>"

    def html(self) -> str:
        """An image that says more where the pointer rests; it outlives what cleans HTML of strange elements."""
        return image(layout.draw(self.source, self.sketch), self.sketch.name)

    def _repr_mimebundle_(
        self,
        include: Iterable[str] | None = None,  # IPython takes what it wants
        exclude: Iterable[str] | None = None,
        **_: Any,
    ) -> dict[str, bytes | str]:
        return {"text/plain": repr(self), "text/html": self.html(), "image/svg+xml": self.svg()}


def image(drawing: layout.Drawing, name: str) -> str:
    """A drawing as an image of HTML that holds its own data."""
    data = b64encode(drawing.svg.encode()).decode()
    map_name = f"handoff-{sha256(data.encode()).hexdigest()[:12]}"
    areas = "".join(
        f'<area shape="rect" coords="{area.left},{area.top},{area.right},{area.bottom}" title="{escape(area.text)}">'
        for area in drawing.areas
    )
    shown = (
        f'<img alt="{_text(name)}" usemap="#{map_name}" style="max-width:none" src="data:image/svg+xml;base64,{data}">'
    )
    places = f'<map name="{map_name}">{areas}</map>'
    return f'{_ON_PAPER}<div class="handoff-picture" style="overflow-x:auto">{shown}{places}</div>'


def _graph_attributes(sketch: Sketch) -> dict[str, str]:
    attributes = {
        "bgcolor": "transparent",
        "rankdir": _direction(sketch),
        "nodesep": "0.25",
        "ranksep": "0.45",
        "pad": "0.1",
        "fontname": _FONT,
        "fontsize": "10",
        "fontcolor": QUIET,
        "tooltip": _plain(sketch.name),
    }
    if sketch.nodes or sketch.caption:
        attributes |= {"label": _legend(sketch), "labelloc": "b"}
    return attributes


def _direction(sketch: Sketch) -> Direction:
    needs: dict[str, list[str]] = {box.key: [] for box in sketch.boxes}
    for arrow in sketch.arrows:
        if arrow.directed:
            needs[arrow.head].append(arrow.tail)
    return direction(needs)


def _cluster(number: int, name: str, boxes: list[Box]) -> graphviz.Digraph:
    cluster: graphviz.Digraph = graphviz.Digraph(
        name=f"cluster_{number}",
        graph_attr={
            "label": _html(name),
            "tooltip": _plain(name),
            "style": "rounded",
            "color": QUIET,
            "penwidth": "0.6",
            "labeljust": "l",
        },
    )
    for box in boxes:
        _add_box(cluster, box)
    return cluster


def _add_box(graph: graphviz.Digraph, box: Box) -> None:
    graph.node(
        box.key,
        label=_label(box),
        tooltip=_plain(box.tooltip or box.title),
        shape=box.shape,
        style=box.style,
        peripheries="2" if box.double else "1",
        margin="0,0" if box.shape in _ROOMY else _MARGIN,
        fillcolor=box.fill,
        color=box.line,
        penwidth=f"{box.width:g}",
    )


def _add_arrow(graph: graphviz.Digraph, arrow: Arrow) -> None:
    attributes = {"style": arrow.style, "tooltip": _plain(arrow.tooltip), "edgetooltip": _plain(arrow.tooltip)}
    if not arrow.directed:
        attributes |= {"dir": "none", "constraint": "false"}
    elif arrow.tail_mark or arrow.head_mark:
        attributes["dir"] = "both"
        attributes["arrowtail"] = "odot" if arrow.tail_mark else "none"
        attributes["arrowhead"] = "normalodot" if arrow.head_mark else "normal"
    if arrow.count > 1:
        attributes |= {"label": f" ×{arrow.count}", "penwidth": f"{1 + log2(arrow.count) / 4:.2f}"}
    graph.edge(arrow.tail, arrow.head, **attributes)


def _label(box: Box) -> str:
    span = ' ROWSPAN="2"' if box.note else ""
    letter = f"<TD{span}>{_badge(box.mark)}</TD>" if box.mark else ""
    note = f'<FONT POINT-SIZE="9" COLOR="{_NOTE}">{_text(box.note)}</FONT>'
    below = f"</TR><TR><TD>{note}</TD>" if box.note else ""
    return f"<{_table(f'{letter}<TD>{_text(box.title)}</TD>{below}')}>"


def _legend(sketch: Sketch) -> str:
    shown = sketch.nodes[:_MOST_IN_LEGEND]
    cells = "".join(f"<TD>{_badge(mark)}</TD><TD>{_text(mark.name)}  </TD>" for mark in shown)
    if len(sketch.nodes) > len(shown):
        cells += f"<TD>and {len(sketch.nodes) - len(shown)} more nodes</TD>"
    if sketch.caption:
        cells += f"<TD>{_text(sketch.caption)}</TD>"
    return f"<{_table(cells)}>"


def _badge(mark: NodeMark) -> str:
    letter = f'<FONT POINT-SIZE="9" COLOR="{mark.ink}"><B>{mark.letter}</B></FONT>'
    size = f'FIXEDSIZE="TRUE" WIDTH="{9 + 7 * len(mark.letter)}" HEIGHT="16"'
    return _table(f"<TD {size}>{letter}</TD>", f'CELLPADDING="0" BGCOLOR="{mark.colour}" STYLE="ROUNDED"')


def _table(cells: str, attributes: str = 'CELLPADDING="2"') -> str:
    return f'<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" {attributes}><TR>{cells}</TR></TABLE>'


def _html(text: str) -> str:
    return f"<{_text(text)}>"


def _text(text: str) -> str:
    # Graphviz looks for its own escapes, such as \N, in markup too.
    return escape(printable(text)).replace("\\", "\\\\") or " "


def _plain(text: str) -> str:
    """``text`` for an attribute that Graphviz takes as text: no escapes, no entities, no markup."""
    # How often Graphviz looks for escapes in tooltips depends on its version: none survives as a look-alike.
    entities = printable(text).replace("&", "&amp;").replace("\\", "⧵").replace("\n", "&#10;")
    return graphviz.nohtml(entities)
