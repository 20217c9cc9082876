"""Tables of functions and nodes as HTML, which needs no style sheet to be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Protocol

from handoff_lab._units import format_amount, format_bytes, format_cost, format_seconds
from handoff_lab.allocation import Plan
from handoff_lab.telemetry import FunctionRecord, FunctionStatus, RunRecord
from handoff_lab.visualization.palette import STATUS, NodeMark, NodeMarks
from handoff_lab.visualization.sketch import joined, printable, shortened, title_of

_COLUMNS = ("function", "status", "node", "attempts", "start", "took", "result", "peak memory")
# Failures first: a long table is cut at its end.
_FIRST = (FunctionStatus.FAILED, FunctionStatus.RETRYING, FunctionStatus.RUNNING)


class NodeLike(Protocol):
    """The part of a node that its row needs."""

    @property
    def name(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def pid(self) -> int: ...
    @property
    def status(self) -> str: ...
    @property
    def capabilities(self) -> Mapping[str, float]: ...
    @property
    def used(self) -> Mapping[str, float]: ...


def functions_table(record: RunRecord, marks: NodeMarks, most: int) -> str:
    """What became of each function; beyond ``most`` rows they are only counted."""
    statuses = record.functions.statuses()
    shown = [id for id, _ in statuses]
    if len(statuses) > most:
        urgent = [id for id, status in statuses if status in _FIRST]
        shown = [*urgent, *(id for id, status in statuses if status not in _FIRST)][:most]
    rows = (_function_row(record.functions[id], record, marks) for id in shown)
    rest = f"<p>and {len(statuses) - len(shown)} more functions</p>" if len(statuses) > len(shown) else ""
    return table(_COLUMNS, rows) + rest


def nodes_table(nodes: Iterable[NodeLike]) -> str:
    """Who the nodes of a cluster are and how full they are."""
    nodes = list(nodes)
    marks = NodeMarks(node.name for node in nodes)
    rows = ([node_cell(node.name, marks), *map(text, _node_facts(node))] for node in nodes)
    return table(("node", "status", "claimed", "host", "pid"), rows)


def utilization_table(data: Mapping[str, Any], marks: NodeMarks) -> str:
    """How full each resource of each node was, of what `resource_utilization` says."""
    rows = (
        [
            node_cell(node, marks),
            text(resource),
            format_amount(resource, of_it["capability"]),
            format_amount(resource, of_it["peak"]),
            meter(of_it["busy"]),
        ]
        for node, resources in data["nodes"].items()
        for resource, of_it in resources.items()
    )
    return table(("node", "resource", "capability", "peak", "mean share claimed"), rows)


def plan_table(plan: Plan) -> str:
    """How many functions of a plan go to each node, and how full they keep it."""
    marks = NodeMarks(plan.capabilities)
    counts = Counter(plan.allocations[id] for id in plan.start)
    rows = (
        [
            node_cell(node, marks),
            str(counts[node]),
            text(", ".join(f"{name} {share:.0%}" for name, share in plan.utilization[node].items())),
        ]
        for node in marks
    )
    return table(("node", "functions", "mean share claimed"), rows)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are HTML already."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def text(value: str) -> str:
    """``value`` as HTML shows it."""
    return escape(printable(value))


def node_cell(node: str | None, marks: NodeMarks) -> str:
    """A node's letter and name."""
    if node is None:
        return ""
    mark = marks.get(node)
    return joined([badge(mark) if mark else None, text(shortened(node))], " ")


def badge(mark: NodeMark) -> str:
    """A node's letter on its colour."""
    style = f"background:{mark.colour};color:{mark.ink};padding:0 .35em;border-radius:.25em;font-weight:600"
    return f'<span style="{style}">{mark.letter}</span>'


def meter(share: float) -> str:
    """A share from 0 to 1 as a bar and a number."""
    return f'<meter min="0" max="1" value="{share:.3f}">{share:.0%}</meter> {share:.0%}'


def _function_row(function: FunctionRecord, record: RunRecord, marks: NodeMarks) -> list[str]:
    begun = None if function.started is None or record.started is None else function.started - record.started
    return [
        text(title_of(function.id)),
        f"{STATUS[function.status].sign} {function.status.value}",
        node_cell(function.node, marks),
        str(function.attempts or ""),
        _seconds(begun),
        _seconds(function.duration),
        _bytes(function.nbytes),
        _bytes(function.peak_memory),
    ]


def _node_facts(node: NodeLike) -> tuple[str, ...]:
    claimed = ", ".join(
        f"{name} {format_amount(name, node.used.get(name, 0.0))} of {format_amount(name, amount)}"
        for name, amount in node.capabilities.items()
    )
    return "● up" if node.status == "up" else "✗ down", claimed or format_cost({}), node.host, str(node.pid or "")


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else format_seconds(max(seconds, 0.0))


def _bytes(nbytes: int | None) -> str:
    return "" if nbytes is None else format_bytes(nbytes)
