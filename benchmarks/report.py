"""What comes out: the medians, the ratios, the machine, as Markdown tables and as JSON."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import indent
from typing import Any

import psutil
from engines.registry import ENGINES, OURS
from figures import FIGURES


@dataclass(slots=True)
class Outcome:
    """What came of an engine; samples by figure."""

    note: str = "measured"  # or why it was not
    samples: dict[str, list[float]] = field(default_factory=dict)

    @property
    def medians(self) -> dict[str, float]:
        return {name: statistics.median(values) for name, values in self.samples.items()}


def machine() -> dict[str, Any]:
    return {
        "cpu": _cpu_model(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }


def ratios(outcomes: Mapping[str, Outcome]) -> dict[str, dict[str, float]]:
    """How many times better ours is than each peer, by peer and figure."""
    ours = outcomes[OURS].medians
    return {
        name: {
            figure: FIGURES[figure].ratio(ours[figure], median)
            for figure, median in outcome.medians.items()
            if figure in ours
        }
        for name, outcome in outcomes.items()
        if name != OURS
    }


def as_json(outcomes: Mapping[str, Outcome], settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "machine": machine(),
        "settings": dict(settings),
        "versions": {name: ENGINES[name].version for name in outcomes},
        "units": {figure.name: figure.unit for figure in FIGURES.values()},
        "engines": {
            name: {"note": outcome.note, "medians": outcome.medians, "samples": outcome.samples}
            for name, outcome in outcomes.items()
        },
        "ratios": ratios(outcomes),
    }


def as_text(outcomes: Mapping[str, Outcome], figures: Sequence[str]) -> str:
    here = machine()
    lines = [
        f"{here['cpu']}, {here['cpus']} cpus, {here['memory_gb']} GB; {here['system']}; Python {here['python']}; "
        f"load {here['load']:.1f}",
        "",
        *(f"- {_titled(name)}: {indent(outcome.note, '  ').lstrip()}" for name, outcome in outcomes.items()),
        "",
        "Medians:",
        "",
        *_columns({name: outcome.medians for name, outcome in outcomes.items()}, figures),
    ]
    compared = ratios(outcomes)
    if compared:
        lines += ["", f"How many times better {ENGINES[OURS].title} is than:", "", *_columns(compared, figures)]
    return "\n".join(lines)


def _columns(columns: Mapping[str, Mapping[str, float]], figures: Sequence[str]) -> list[str]:
    """A row for each figure, a column for each engine that gave any."""
    names = [name for name, values in columns.items() if values]
    rows = [["", *(ENGINES[name].title for name in names)]]
    rows += [
        [f"{figure} ({FIGURES[figure].unit})", *(number(columns[name].get(figure)) for name in names)]
        for figure in figures
    ]
    return table(rows)


def table(rows: Sequence[list[str]]) -> list[str]:
    """Rows of cells as Markdown; the first is the head."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return ["| " + " | ".join(map(_pad, row, widths, range(len(row)))) + " |" for row in (rows[0], rule, *rows[1:])]


def _pad(cell: str, width: int, column: int) -> str:
    return cell.rjust(width) if column else cell.ljust(width)


def number(value: float | None) -> str:
    """Three digits are more than a run on a busy machine can promise."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _titled(name: str) -> str:
    entry = ENGINES[name]
    return f"{entry.title} {entry.version}" if entry.version else entry.title


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
