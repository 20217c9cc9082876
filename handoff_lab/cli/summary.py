"""What a run came to, as tables of text."""

from __future__ import annotations

import reprlib

from handoff_lab._units import format_bytes, format_cost, format_seconds
from handoff_lab.cli.table import table
from handoff_lab.run import Run


def functions_table(run: Run) -> str:
    """Where each function ran, what it cost and how long it took."""
    rows = [
        (
            function.id,
            function.node or "-",
            format_cost(run.record.costs.get(function.id, {})),
            function.status,
            function.attempts or "-",
            "-" if function.duration is None else format_seconds(function.duration),
            "-" if function.nbytes is None else format_bytes(function.nbytes),
        )
        for function in run.record.functions.values()
    ]
    return table(("function", "node", "cost", "status", "attempts", "time", "result"), rows)


def nodes_table(run: Run) -> str:
    """What each node has, and how much of the run it did."""
    rows = []
    for name, capabilities in run.record.capabilities.items():
        done = [f for f in run.record.functions.values() if f.node == name]
        busy = sum(f.duration or 0.0 for f in done)
        rows.append((name, format_cost(capabilities), len(done), format_seconds(busy)))
    return table(("node", "has", "functions", "busy"), rows)


def closing_line(run: Run) -> str:
    """The run in one sentence."""
    took = format_seconds(run.record.duration or 0.0)
    moved = format_bytes(run.bytes_moved)
    told = run.record.summary()
    return f"run {run.id} of {run.dag_id!r}: {run.status} in {took}; {told}; {moved} moved between nodes"


def results(run: Run) -> str:
    """The values that no other function of the run took, each on a line and cut short."""
    ran = {id for id in run.dag if id in run.record.functions or id in run.results}
    last = [id for id in run.dag if id in run.results and ran.isdisjoint(run.dag.dependents(id))]
    return "\n".join(f"{id} = {reprlib.repr(run.results[id])}" for id in last)
