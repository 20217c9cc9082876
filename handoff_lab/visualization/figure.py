"""A matplotlib figure of our own make: it shows itself in a notebook without pyplot, and knows how to be quiet."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from handoff_lab.visualization.palette import INK, QUIET

GRID = "#D0D7DE"
_DPI = 100
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9.0,
    "hatch.linewidth": 0.8,
    "svg.fonttype": "none",  # text stays text: it can be found and read aloud
}


class Chart(Figure):
    """A ``matplotlib.figure.Figure`` that no pyplot knows of, so nothing needs to close it."""

    def __init__(self, width: float, height: float) -> None:
        super().__init__(figsize=(width, height), dpi=_DPI, layout="constrained")

    def svg(self, ground: str = "white") -> str:
        """The SVG of it on a ``ground`` of a colour or ``"none"``, without a document around it."""
        data = BytesIO()
        with _drawing():
            self.savefig(data, format="svg", metadata={"Date": None}, facecolor=ground)
        text = data.getvalue().decode()
        return text[text.index("<svg") :]

    def png(self) -> bytes:
        """The PNG of it, with two pixels for each of the screen's."""
        data = BytesIO()
        with _drawing():
            self.savefig(data, format="png", dpi=2 * _DPI, facecolor="white")
        return data.getvalue()

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        width, height = self.get_size_inches() * _DPI
        return self.png(), {"width": round(width), "height": round(height)}


@contextmanager
def _drawing() -> Iterator[None]:
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # An id may be in a script that the font lacks; a box in its place needs no warning.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        yield


def calm(axes: Axes) -> None:
    """No frame but the ground line, a faint grid behind."""
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    axes.tick_params(colors=QUIET, labelcolor=INK, length=0, labelsize=8)
    axes.grid(axis="x", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_facecolor("none")
