"""A run on one HTML page that needs no network: graph, charts, tables, errors, environment."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import cast

from handoff_lab._units import format_bytes, format_cost, format_seconds
from handoff_lab._version import __version__
from handoff_lab.telemetry import FunctionRecord, FunctionStatus, RunRecord
from handoff_lab.visualization.charts import gantt, utilization
from handoff_lab.visualization.data import resource_utilization
from handoff_lab.visualization.palette import STATUS, NodeMarks
from handoff_lab.visualization.run_graph import execution_graph
from handoff_lab.visualization.sketch import shortened, title_of
from handoff_lab.visualization.sources import AnyRun, lacks_of, nodes_of, record_of
from handoff_lab.visualization.tables import functions_table, table, text, utilization_table

_MOST_ROWS = 2000
_MOST_LOGS = 200
_LONGEST_LOG = 20_000
_SIGNS = {
    "running": STATUS[FunctionStatus.RUNNING].sign,
    "done": STATUS[FunctionStatus.DONE].sign,
    "failed": STATUS[FunctionStatus.FAILED].sign,
    "cancelled": STATUS[FunctionStatus.CANCELLED].sign,
}


def report(run: AnyRun, path: str | PathLike[str]) -> Path:
    """Write what happened in a run to one HTML file; it opens anywhere, without a network.

    Parameters
    ----------
    run
        A run, while it goes on or after; or its record.
    path
        The file; directories above it are made.

    Returns
    -------
    Path
        The file that was written.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page(run), encoding="utf-8")
    return target


def page(run: AnyRun) -> str:
    """The HTML that `report` writes."""
    record = record_of(run)
    marks = NodeMarks(nodes_of(record))
    title = text(f"{record.dag_id} · run {record.id}")
    sections = [
        _section("Graph", _picture(execution_graph(run).svg())),
        _section("Timeline", _picture(_svg(gantt(run)))),
        _section("Utilisation", _picture(_svg(utilization(run))) + utilization_table(resource_utilization(run), marks)),
        _section("Functions", functions_table(record, marks, _MOST_ROWS)),
        _section("Errors", _errors(record)),
        _section("Logs", _logs(record)),
        _section("Environment", _environment(record, lacks_of(run))),
    ]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">'
        f"<style>{_CSS}</style></head>\n<body><header>{_headline(record)}{_tiles(record)}</header>\n"
        f"<main>{''.join(sections)}</main></body></html>\n"
    )


def _svg(figure: object) -> str:
    from handoff_lab.visualization.figure import Chart

    return cast("Chart", figure).svg(ground="none")


def _section(title: str, content: str) -> str:
    return f"<section><h2>{title}</h2>{content}</section>\n" if content else ""


def _picture(svg: str) -> str:
    return f'<div class="picture">{svg}</div>'


def _headline(record: RunRecord) -> str:
    status = f'<span class="status {record.status}">{_SIGNS[record.status]} {record.status}</span>'
    return f"<h1>{text(record.dag_id)} {status}</h1><p>run {text(record.id)}, {_date(record.started)}</p>"


def _tiles(record: RunRecord) -> str:
    functions = list(record.functions.values())
    done = sum(function.status in (FunctionStatus.DONE, FunctionStatus.CACHED) for function in functions)
    retries = sum(max(0, function.attempts - 1) for function in functions)
    tiles = {
        "took": format_seconds(record.last_time - (record.started or record.last_time)),
        "functions done": f"{done} of {len(functions)}",
        "retries": str(retries),
        "nodes": str(len(record.capabilities)),
        "moved between nodes": format_bytes(record.transfers.nbytes),
        "strategy": text(str(record.strategy or "none")),
    }
    if record.recomputed:
        tiles["recomputed after losses"] = f"{record.recomputed}, in {format_seconds(record.recomputed_seconds)}"
    items = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in tiles.items())
    return f"<dl>{items}</dl>"


def _errors(record: RunRecord) -> str:
    failed = [f for f in list(record.functions.values()) if f.status is FunctionStatus.FAILED]
    parts = [_error(function) for function in failed]
    ended_well = [
        f"<li>{text(title_of(attempt.function))}, attempt {attempt.number}: {text(attempt.error or '')}</li>"
        for attempt in list(record.attempts)
        if attempt.status is FunctionStatus.FAILED
        and record.functions[attempt.function].status is not FunctionStatus.FAILED
    ]
    if ended_well:
        parts.append(f"<p>Failed, and tried again:</p><ul>{''.join(ended_well)}</ul>")
    return "".join(parts)


def _error(function: FunctionRecord) -> str:
    where = f" on {text(function.node)}" if function.node else ""
    tries = f", {function.attempts} attempts" if function.attempts > 1 else ""
    head = f"<strong>{text(title_of(function.id))}</strong>{where}{tries}: {text(shortened(function.error or '', 200))}"
    return _unfolding(head, function.traceback or function.error or "", opened=True)


def _logs(record: RunRecord) -> str:
    written = [function for function in list(record.functions.values()) if function.log]
    parts = [_unfolding(text(title_of(f.id)), f.log[-_LONGEST_LOG:]) for f in written[:_MOST_LOGS]]
    if len(written) > _MOST_LOGS:
        parts.append(f"<p>and {len(written) - _MOST_LOGS} more functions that wrote something</p>")
    return "".join(parts)


def _unfolding(head: str, body: str, opened: bool = False) -> str:
    return f"<details{' open' if opened else ''}><summary>{head}</summary><pre>{text(body)}</pre></details>"


def _environment(record: RunRecord, lacks: str) -> str:
    facts: Iterable[tuple[str, str]] = [
        *((f"node {node}", format_cost(has)) for node, has in record.capabilities.items()),
        *([("the backend", lacks)] if lacks else []),
        ("handoff_lab", __version__),
        ("Python", platform.python_version()),
        ("system", platform.platform()),
    ]
    return table(("what", "value"), ([text(name), text(value)] for name, value in facts))


def _date(moment: float | None) -> str:
    if moment is None:
        return "not started"
    return datetime.fromtimestamp(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


# In the dark, pictures turn their lightness round and keep their hues.
_CSS = """
:root { --ground: #fff; --card: #f6f8fa; --ink: #24292f; --quiet: #57606a; --line: #d0d7de; --alarm: #a84300; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #0d1117; --card: #161b22; --ink: #e6edf3; --quiet: #9198a1; --line: #30363d; --alarm: #ff9a5c; }
  .picture svg { filter: invert(.9) hue-rotate(180deg); }
}
* { box-sizing: border-box; }
body { background: var(--ground); color: var(--ink); margin: 0 auto; max-width: 1040px; padding: 2rem 1.5rem 4rem;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.6rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2.5rem 0 .75rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line); }
header p { color: var(--quiet); margin: .2rem 0 1.2rem; }
.status { font-size: .95rem; font-weight: 600; padding: .15em .6em; border: 1.5px solid currentColor;
  border-radius: 1em; vertical-align: .2em; white-space: nowrap; }
.status.failed, .status.cancelled { color: var(--alarm); border-style: double; border-width: 3px; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: .75rem; margin: 0; }
dl div { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .6rem .7rem; }
dt { color: var(--quiet); font-size: .8rem; }
dd { margin: 0; font-size: .92rem; font-weight: 600; overflow-wrap: anywhere; }
.picture { overflow-x: auto; text-align: center; margin-bottom: 1rem; }
.picture svg { max-width: 100%; height: auto; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
th { color: var(--quiet); font-weight: 600; }
td { font-variant-numeric: tabular-nums; }
meter { width: 8em; vertical-align: middle; }
details { background: var(--card); border: 1px solid var(--line); border-radius: 8px; margin: .5rem 0; }
summary { cursor: pointer; padding: .5rem .8rem; overflow-wrap: anywhere; }
pre { margin: 0; padding: .6rem .8rem; border-top: 1px solid var(--line); overflow-x: auto;
  font: .82rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
@media print { details > pre { white-space: pre-wrap; } }
"""
