"""The picture of a run: its graph, with what became of each function."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import replace
from functools import cached_property

from handoff_lab._units import format_bytes, format_seconds
from handoff_lab.graph import Function
from handoff_lab.telemetry import FunctionRecord, FunctionStatus, RunRecord
from handoff_lab.visualization.dag_graph import fold_box, function_tooltip, only, sketch_graph, styled
from handoff_lab.visualization.fold import Fold, fold, is_big
from handoff_lab.visualization.palette import ALARM, BLANK, QUIET, STATUS, NodeMark, NodeMarks
from handoff_lab.visualization.picture import Picture
from handoff_lab.visualization.sketch import Box, Sketch, joined, shortened, title_of
from handoff_lab.visualization.sources import AnyRun, dag_of, nodes_of, record_of

# What a fold shows of its members: the first of these that any of them is.
URGENCY = (
    FunctionStatus.FAILED,
    FunctionStatus.RETRYING,
    FunctionStatus.RUNNING,
    FunctionStatus.CANCELLED,
    FunctionStatus.QUEUED,
    FunctionStatus.SKIPPED,
    FunctionStatus.WAITING,
    FunctionStatus.DONE,
    FunctionStatus.CACHED,
)
_UNTOUCHED = frozenset({FunctionStatus.WAITING, FunctionStatus.QUEUED, FunctionStatus.SKIPPED})


def execution_graph(run: AnyRun) -> Picture:
    """Draw a run: the graph with each function's status, node, duration and attempts.

    Parameters
    ----------
    run
        A run, while it goes on or after; or its record, which knows no edges.

    Returns
    -------
    graphviz.Digraph
        Also shows itself where Graphviz is not installed.
    """
    return Picture.of(sketch_run(run))


def sketch_run(run: AnyRun) -> Sketch:
    """What `execution_graph` draws."""
    record, dag = record_of(run), dag_of(run)
    marks = NodeMarks(nodes_of(record))
    caption = run_line(record)
    if dag is None:
        return _without_edges(record, marks, caption)

    def box_of(function: Function, key: str) -> Box:
        found = record.functions.get(function.id)
        if found is None:
            return styled(Box(key, title_of(function.id), function.type, function_tooltip(function)), function)
        box = _function_box(found, key, _mark(found, marks))
        tooltip = joined([function_tooltip(function), _story(found)], "\n")
        return replace(box, tooltip=tooltip, group=function.group)

    return sketch_graph(dag, box_of, _FoldBoxes(record, marks), marks, caption)


def run_line(record: RunRecord) -> str:
    """A run in one line.

    >>> run_line(RunRecord(dag_id="sum", status="done", started=1.0, ended=3.5))
    'sum · done · 2.50 s'
    """
    counts = ", ".join(f"{count} {status}" for status, count in record.counts().items())
    duration = record.duration
    return joined([record.dag_id, record.status, counts, None if duration is None else format_seconds(duration)])


def _without_edges(record: RunRecord, marks: NodeMarks, caption: str) -> Sketch:
    needs = dict.fromkeys(record.functions, ())
    boxes: Iterable[Box]
    if is_big(needs):
        folds = fold(needs, {}).folds
        fold_of = _FoldBoxes(record, marks)
        boxes = (fold_of(part, f"n{number}") for number, part in enumerate(folds))
    else:
        functions = record.functions.values()
        boxes = (_function_box(f, f"n{number}", _mark(f, marks)) for number, f in enumerate(functions))
    return Sketch(record.dag_id, tuple(boxes), nodes=tuple(marks.values()), caption=caption)


def _function_box(function: FunctionRecord, key: str, mark: NodeMark | None) -> Box:
    sign = STATUS[function.status]
    fill = mark.tint if mark and function.status not in _UNTOUCHED else BLANK
    line = ALARM if function.status is FunctionStatus.FAILED else mark.colour if mark else QUIET
    return Box(
        key=key,
        title=title_of(function.id),
        note=f"{sign.sign} {_note(function)}",
        tooltip=joined([title_of(function.id), _story(function)], "\n"),
        mark=mark,
        shape=sign.shape,
        style=sign.style,
        width=sign.width,
        double=sign.double,
        fill=fill,
        line=line,
    )


class _FoldBoxes:
    """Boxes of folds, made of what is told of all functions at once: a big run's records are not made for them."""

    def __init__(self, record: RunRecord, marks: NodeMarks) -> None:
        self._record = record
        self._marks = marks

    def __call__(self, folded: Fold, key: str) -> Box:
        members = [id for id in folded.members if id in self._statuses]
        counts = Counter(map(self._statuses.__getitem__, members))
        nodes = set(map(self._nodes.get, members))
        note = joined(f"{STATUS[status].sign} {counts[status]} {status}" for status in URGENCY if counts[status])
        mark = only([None if node is None else self._marks.get(node) for node in nodes]) if nodes else None
        box = fold_box(folded, key, mark, note, len(members))
        status = next((status for status in URGENCY if counts[status]), None)
        if status is None:
            return box
        sign = STATUS[status]
        line = ALARM if status is FunctionStatus.FAILED else box.line
        return replace(box, shape=sign.shape, style=sign.style, double=sign.double, line=line)

    @cached_property
    def _statuses(self) -> dict[Hashable, FunctionStatus]:
        return dict(self._record.functions.statuses())

    @cached_property
    def _nodes(self) -> dict[Hashable, str]:
        return self._record.functions.nodes()


def _mark(function: FunctionRecord, marks: NodeMarks) -> NodeMark | None:
    return marks.get(function.node) if function.node is not None else None


def _note(function: FunctionRecord) -> str:
    duration = function.duration
    word = None if function.status is FunctionStatus.DONE else function.status.value
    return joined(
        [
            word,
            shortened(function.error_type, 24) if function.error_type else None,
            None if duration is None else format_seconds(duration),
            f"{function.attempts} attempts" if function.attempts > 1 else None,
        ]
    )


def _story(function: FunctionRecord) -> str:
    duration = function.duration
    return joined(
        [
            function.status.value + (f" on node {function.node}" if function.node else ""),
            None if duration is None else f"took {format_seconds(duration)}",
            f"attempts: {function.attempts}" if function.attempts else None,
            None if function.nbytes is None else f"result: {format_bytes(function.nbytes)}",
            None if function.peak_memory is None else f"peak memory: {format_bytes(function.peak_memory)}",
            shortened(function.error, 120) if function.error else None,
            f"because {title_of(function.because)} failed" if function.because is not None else None,
        ],
        "\n",
    )
