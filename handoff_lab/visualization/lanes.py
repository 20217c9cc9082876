"""The drawing of a Gantt chart: lanes, bars, labels."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from matplotlib.axes import Axes
from matplotlib.patches import Patch

from handoff_lab.telemetry import FunctionStatus
from handoff_lab.visualization.data import Bar
from handoff_lab.visualization.figure import GRID, Chart, calm
from handoff_lab.visualization.palette import ALARM, BLANK, INK, QUIET, STATUS, NodeMark, NodeMarks, mix
from handoff_lab.visualization.sketch import joined, printable, shortened, title_of

Transfer: TypeAlias = tuple[str, float, float]  # target node, start, end

_WIDTH, _LANE, _HIGHEST = 9.6, 0.34, 30.0  # inches
_LETTER = 0.068  # inches, the usual width of one in a label
_MOST_LABELS = 250


@dataclass(frozen=True, slots=True)
class _Look:
    """How the bars of a status look."""

    share: float  # of white in the node's colour
    hatch: str = ""
    edge: str = ""
    linestyle: Literal["-", "--"] = "-"


_LOOKS: Mapping[FunctionStatus, _Look] = {
    FunctionStatus.DONE: _Look(0.35),
    FunctionStatus.RUNNING: _Look(0.7, linestyle="--"),
    FunctionStatus.FAILED: _Look(0.85, hatch="xxx", edge=ALARM),
    FunctionStatus.CANCELLED: _Look(0.85, hatch="..."),
}


def draw_lanes(
    marks: NodeMarks, actual: Sequence[Bar], planned: Sequence[Bar], transfers: Sequence[Transfer], title: str
) -> Chart:
    """Draw bars of what happened, of what was planned, and transfers, in lanes below each other."""
    rows = _Rows(marks, actual or planned, {target for target, _, _ in transfers})
    figure = Chart(_WIDTH, min(0.9 + _LANE * len(rows), _HIGHEST))
    axes = figure.subplots()
    calm(axes)
    end = max([bar.end for bar in (*actual, *planned)] + [until for _, _, until in transfers], default=1.0) or 1.0
    legend = [*_draw_actual(axes, rows, actual, 0.56 if planned else 0.72), *_draw_planned(axes, rows, planned, actual)]
    legend += _draw_transfers(axes, rows, transfers)
    _label_bars(axes, rows, actual or planned, end, -0.08 if actual and planned else 0.0)
    rows.label(axes)
    axes.set_xlim(0, end * 1.01)
    axes.set_ylim(max(len(rows), 1) - 0.5, -0.5)
    axes.set_xlabel("seconds from the start", fontsize=8, color=QUIET)
    axes.set_title(printable(title), fontsize=10, color=INK, loc="left", parse_math=False)
    if legend:
        axes.legend(
            handles=legend, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(legend), fontsize=8, frameon=False
        )
    return figure


class _Rows:
    """Which row of the chart is which lane of which node."""

    def __init__(self, marks: NodeMarks, bars: Iterable[Bar], receivers: set[str]) -> None:
        lanes: dict[str, set[int]] = {node: set() for node in marks}
        for bar in bars:
            lanes.setdefault(bar.node, set()).add(bar.lane)
        self.marks = marks
        self._rows: dict[tuple[str, int | None], int] = {}
        for node, used in lanes.items():
            for lane in sorted(used) or [0]:
                self._rows[node, lane] = len(self._rows)
            if node in receivers:
                self._rows[node, None] = len(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def of(self, node: str, lane: int | None) -> int:
        """The row of a lane; the first of its node when there is no such lane."""
        found = self._rows.get((node, lane))
        return found if found is not None else next(row for (name, _), row in self._rows.items() if name == node)

    def label(self, axes: Axes) -> None:
        """The node's letter and name beside its first row, a line above it."""
        first: dict[str, int] = {}
        for (node, _), row in self._rows.items():
            first.setdefault(node, row)
        names = [
            joined([self.marks[node].letter if node in self.marks else None, shortened(node, 20)], "  ")
            for node in first
        ]
        axes.set_yticks(list(first.values()), names, parse_math=False)
        for row in first.values():
            axes.axhline(row - 0.5, color=GRID, linewidth=0.6)


def _draw_actual(axes: Axes, rows: _Rows, bars: Sequence[Bar], height: float) -> list[Patch]:
    groups: dict[tuple[str, int, FunctionStatus], list[Bar]] = {}
    for bar in bars:
        groups.setdefault((bar.node, bar.lane, bar.status), []).append(bar)
    for (node, lane, status), group in groups.items():
        look = _LOOKS[status]
        colour = _colour(rows, node)
        axes.broken_barh(
            [(bar.start, bar.end - bar.start) for bar in group],
            (rows.of(node, lane) - 0.36, height),
            facecolor=mix(colour, BLANK, look.share),
            edgecolor=look.edge or mix(colour, INK, 0.25),
            hatch=look.hatch,
            linestyle=look.linestyle,
            linewidth=0.8,
        )
    seen = {bar.status for bar in bars} - {FunctionStatus.DONE}
    return [
        Patch(
            facecolor=BLANK,
            edgecolor=_LOOKS[status].edge or QUIET,
            hatch=_LOOKS[status].hatch,
            linestyle=_LOOKS[status].linestyle,
            label=f"{STATUS[status].sign} {status}",
        )
        for status in _LOOKS
        if status in seen
    ]


def _draw_planned(axes: Axes, rows: _Rows, planned: Sequence[Bar], actual: Sequence[Bar]) -> list[Patch]:
    """Hollow bars: below those of the same functions, or alone in full height."""
    if not planned:
        return []
    ran: dict[tuple[Hashable, str], int] = {(bar.function, bar.node): bar.lane for bar in actual}
    offset, height = (0.24, 0.16) if actual else (-0.36, 0.72)
    for bar in planned:
        row = rows.of(bar.node, ran.get((bar.function, bar.node), bar.lane))
        axes.broken_barh(
            [(bar.start, bar.end - bar.start)],
            (row + offset, height),
            facecolor=BLANK,
            edgecolor=mix(_colour(rows, bar.node), INK, 0.25),
            linewidth=0.9,
        )
    return [Patch(facecolor=BLANK, edgecolor=QUIET, label="planned")]


def _draw_transfers(axes: Axes, rows: _Rows, transfers: Sequence[Transfer]) -> list[Patch]:
    for target, start, end in transfers:
        axes.broken_barh(
            [(start, end - start)],
            (rows.of(target, None) - 0.18, 0.36),
            facecolor=BLANK,
            edgecolor=QUIET,
            hatch="/////",
            linewidth=0.6,
        )
    return [Patch(facecolor=BLANK, edgecolor=QUIET, hatch="/////", label="transfer")] if transfers else []


def _fitted(text: str, room: int) -> str:
    """``text`` in so many letters: its end, often a number, tells functions apart; nothing where too little is left.

    >>> _fitted("quality_3", 9), _fitted("quality_3", 7), _fitted("quality_3", 4)
    ('quality_3', 'qual…_3', '')
    """
    if len(text) <= room:
        return text
    return f"{text[: room - 3]}…{text[-2:]}" if room >= 6 else ""


def _label_bars(axes: Axes, rows: _Rows, bars: Sequence[Bar], end: float, rise: float) -> None:
    """The functions' names on the longest bars, where they fit."""
    letters_per_second = (_WIDTH - 1.6) / _LETTER / end
    for bar in sorted(bars, key=lambda bar: bar.start - bar.end)[:_MOST_LABELS]:
        sign = "" if bar.status in (FunctionStatus.DONE, FunctionStatus.WAITING) else f"{STATUS[bar.status].sign} "
        text = sign + title_of(bar.function)
        text = _fitted(text, int((bar.end - bar.start) * letters_per_second) - 1)
        if not text:
            continue
        axes.text(
            (bar.start + bar.end) / 2,
            rows.of(bar.node, bar.lane) + rise,
            text,
            fontsize=7.5,
            color=INK,
            horizontalalignment="center",
            verticalalignment="center",
            parse_math=False,
            clip_on=True,
            bbox=_LABEL_GROUND if bar.status is FunctionStatus.FAILED else None,
        )


_LABEL_GROUND = {"facecolor": BLANK, "edgecolor": "none", "pad": 1.0}


def _colour(rows: _Rows, node: str) -> str:
    mark: NodeMark | None = rows.marks.get(node)
    return mark.colour if mark else QUIET
