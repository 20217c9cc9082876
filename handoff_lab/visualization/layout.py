"""Graphviz, by the best means there is: ``dot`` or pygraphviz; and SVG of it, or of plain boxes in rows without it."""

from __future__ import annotations

import logging
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from importlib.util import find_spec
from xml.etree import ElementTree as ET

from handoff_lab.visualization import plain
from handoff_lab.visualization.sketch import Sketch, printable

HINT = "Install Graphviz for better pictures: apt install graphviz, brew install graphviz, or pip install pygraphviz."

_log = logging.getLogger(__name__)
_TIMEOUT_S = 3  # a notebook waits for it; graphs that are not folded take dot a fifth of that
# pygraphviz holds the GIL while it lays out, and a crash in its C code must not reach this process.
_PYGRAPHVIZ = """
import sys, pygraphviz
graph = pygraphviz.AGraph(string=sys.stdin.buffer.read().decode())
graph.layout("dot")
for format in sys.argv[1:]:
    sys.stdout.buffer.write(graph.draw(format=format))
"""


@dataclass(frozen=True, slots=True)
class Area:
    """A rectangle of a picture, in pixels, that has something to say."""

    left: int
    top: int
    right: int
    bottom: int
    text: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture, and what to say where."""

    svg: str
    areas: tuple[Area, ...] = ()


def draw(source: str, sketch: Sketch) -> Drawing:
    """Draw Graphviz ``source``, or the ``sketch`` that it was made of where there is no Graphviz."""
    output = graphviz(source, "svg", "cmapx")
    if output is not None:
        svg, _, image_map = output.partition("</svg>")
        return Drawing(_tidied(svg + "</svg>", sketch.name), _areas(image_map))
    drawn = plain.draw(sketch, "" if shutil.which("dot") else HINT)
    return Drawing(drawn.svg, tuple(Area(*area) for area in drawn.areas))


def graphviz(source: str, *formats: str) -> str | None:
    """What Graphviz makes of ``source`` in each of ``formats``, one behind the other; None where it cannot."""
    for command in _commands(formats):
        try:
            return _run(command, source)
        except (OSError, subprocess.SubprocessError) as error:
            said = getattr(error, "stderr", None) or b""
            _log.warning("%s could not draw a graph: %s %s", command[0], error, said.decode(errors="replace").strip())
    return None


def _commands(formats: Sequence[str]) -> list[tuple[str, ...]]:
    dot = shutil.which("dot")
    if dot is not None:
        return [(dot, *(f"-T{format}" for format in formats))]
    if find_spec("pygraphviz") is not None:
        return [(sys.executable, "-c", _PYGRAPHVIZ, *formats)]
    return []


@lru_cache(maxsize=16)
def _run(command: tuple[str, ...], source: str) -> str:
    done = subprocess.run(command, input=source.encode(), capture_output=True, timeout=_TIMEOUT_S, check=True)
    return done.stdout.decode()


def _tidied(svg: str, name: str) -> str:
    """The SVG element alone, without Graphviz's own keys as titles: they would hide the tooltips."""
    svg = re.sub(r"<title>.*?</title>\n?|<!--.*?-->\n?", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    label = escape(printable(name))
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}" style="max-width:100%;height:auto"', 1)


def _areas(image_map: str) -> tuple[Area, ...]:
    """What Graphviz says of its nodes' places."""
    areas = []
    # XML would turn the line breaks of a title into spaces.
    image_map = re.sub('"[^"]*"', lambda quoted: quoted[0].replace("\n", "&#10;"), image_map)
    for area in ET.fromstring(image_map).iter("area"):  # noqa: S314 (Graphviz wrote it)
        if area.get("id", "").startswith("node"):
            numbers = [int(number) for number in area.get("coords", "").split(",")]
            xs, ys = numbers[::2], numbers[1::2]
            areas.append(Area(min(xs), min(ys), max(xs), max(ys), area.get("title", "")))
    return tuple(areas)
