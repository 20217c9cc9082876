"""Graphviz source to SVG, by the best means there is: ``dot``, pygraphviz, or plain boxes in rows."""

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

from handoff_lab.visualization import plain
from handoff_lab.visualization.sketch import Sketch, printable

HINT = "Install Graphviz for better pictures: apt install graphviz, brew install graphviz, or pip install pygraphviz."

_log = logging.getLogger(__name__)
_TIMEOUT_S = 15
# pygraphviz holds the GIL while it lays out, and a crash in its C code must not reach this process.
_PYGRAPHVIZ = (
    "import sys, pygraphviz; graph = pygraphviz.AGraph(string=sys.stdin.buffer.read().decode());"
    "graph.layout('dot'); sys.stdout.buffer.write(graph.draw(format='svg'))"
)


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture, and how to get a better one, if there is a way."""

    svg: str
    hint: str = ""


@lru_cache(maxsize=16)
def draw(source: str, sketch: Sketch) -> Drawing:
    """Draw Graphviz ``source``, or the ``sketch`` that it was made of where there is no Graphviz."""
    for command in _commands():
        svg = _run(command, source)
        if svg is not None:
            return Drawing(_tidied(svg, sketch.name))
    hint = "" if shutil.which("dot") else HINT
    return Drawing(plain.draw(sketch, hint), hint)


def _commands() -> list[Sequence[str]]:
    commands: list[Sequence[str]] = []
    dot = shutil.which("dot")
    if dot is not None:
        commands.append([dot, "-Tsvg"])
    elif find_spec("pygraphviz") is not None:
        commands.append([sys.executable, "-c", _PYGRAPHVIZ])
    return commands


def _run(command: Sequence[str], source: str) -> str | None:
    try:
        done = subprocess.run(command, input=source.encode(), capture_output=True, timeout=_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or b""
        _log.warning("%s could not draw a graph: %s %s", command[0], error, said.decode(errors="replace").strip())
        return None
    return done.stdout.decode()


def _tidied(svg: str, name: str) -> str:
    """The SVG element alone, without Graphviz's own keys as titles: they would hide the tooltips."""
    svg = re.sub(r"<title>.*?</title>\n?|<!--.*?-->\n?", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    label = escape(printable(name))
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}" style="max-width:100%;height:auto"', 1)
