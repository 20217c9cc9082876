"""How cost grows with the number of functions and of nodes: ``python benchmarks/scale.py --help``.

Functions on two real nodes, 10,000 simulated nodes with the real scheduler in virtual time, and 200 real agents. Each
size is measured in a fresh process.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from choices import names_among
from processes import adopt_orphans, ask, byte_code_folder
from report import machine, number, table

UNITS = {
    "submit_s": "s from submit to its return; of simulated chunks: CPU time",
    "first_start_s": "s from submit to the first start",
    "done_s": "s from submit to the end",
    "us_per_function": "µs per function, to the end",
    "rate": "functions/s",
    "us_per_chunk": "µs of the scheduler's CPU time per chunk, to the end",
    "chunk_rate": "chunks/s of the scheduler's CPU time",
    "item_rate": "items/s of the same, ten to a chunk",
    "bytes_per_chunk": "bytes held for a chunk after submission: function, program, state (tracemalloc)",
    "bytes_per_item": "the same per item, ten to a chunk",
    "rss_mb": "MB that the process grew by that",
    "lost": "nodes lost",
    "replan_median_ms": "ms of CPU time from the news of a loss to the commands that follow: median",
    "replan_p95_ms": "95th percentile",
    "replan_max_ms": "worst",
    "again": "attempts beyond one for each function",
    "joins_s": "s of CPU time for all joins",
    "join_median_ms": "ms of CPU time for a join: median",
    "join_p95_ms": "95th percentile",
    "join_max_ms": "worst: the first, which is given all that waits",
    "all_busy_s": "virtual s until every node had something to do",
    "end_s": "virtual s until the end",
    "core": "% of a core that the scheduler needs to keep up with the nodes",
    "joined_s": "s from the start of the agents until all have joined",
    "noticed_ms": "ms from SIGKILL of an agent to the news of its loss, median of 5",
    "coordinator_mb": "MB of the coordinator's process after that run",
    "coordinator_files": "open files of that process: connections and pipes",
    "agent_mb": "MB of an agent with its zygote and slot, shared pages in parts",
    "gone_s": "s from the cluster's end until no process of the agents is left",
    "peak_mb": "MB, at most, of the process",
}


@dataclass(frozen=True, slots=True)
class Size:
    title: str
    command: tuple[str, ...]
    functions: int


def _functions(kind: str, functions: int, nodes: int) -> Size:
    title = f"{functions:,} on {nodes:,} {'nodes' if kind == 'kernels' else 'simulated nodes'}"
    return Size(title, ("scaling.py", kind, str(functions), str(nodes)), functions)


def _chunks(kind: str, chunks: int, nodes: int) -> Size:
    title = f"{chunks:,} chunks on {nodes:,} simulated nodes"
    return Size(title, ("virtual.py", kind, str(nodes), str(chunks)), chunks)


def _agents(count: int, functions: int) -> Size:
    return Size(f"{functions:,} on {count:,} agents", ("agents.py", str(count), str(functions)), functions)


Tables: TypeAlias = Mapping[str, Sequence[Size]]

FULL: Tables = {
    "sizes": [
        *(_functions("kernels", n, 2) for n in (1_000, 10_000, 100_000, 1_000_000)),
        *(_functions("simulated", 100_000, n) for n in (100, 10_000)),
    ],
    "burst": [_chunks("burst", n, 10_000) for n in (100_000, 1_000_000)],
    "memory": [_chunks("memory", 100_000, 10_000)],
    "losses": [_chunks("losses", n, 10_000) for n in (100_000, 1_000_000)],
    "herd": [_chunks("herd", 100_000, 10_000)],
    "agents": [_agents(n, 20_000) for n in (20, 50, 100, 200)],
}
QUICK: Tables = {
    "sizes": [_functions("kernels", 50, 2), _functions("simulated", 200, 20)],
    "burst": [_chunks("burst", 100, 20)],
    "memory": [_chunks("memory", 100, 20)],
    "losses": [_chunks("losses", 500, 100)],
    "herd": [_chunks("herd", 200, 50)],
    "agents": [_agents(6, 100)],
}


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    adopt_orphans()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    tables = QUICK if options.quick else FULL
    results: dict[str, dict[str, dict[str, float]]] = {name: {} for name in options.only}
    try:
        with byte_code_folder() as byte_code:
            for name in options.only:
                for size in tables[name]:
                    if size.functions <= options.most:
                        print(size.title, file=sys.stderr, flush=True)
                        results[name][size.title] = _measure(size, byte_code)
    finally:  # after an interrupt, or a size that failed: what there is
        _report(results, options.json)
    return 0


def _report(results: Mapping[str, Mapping[str, Mapping[str, float]]], output: Path | None) -> None:
    for name, sizes in results.items():
        if sizes:
            print(_as_text(name, sizes))
    if output is not None:
        content = {"machine": machine(), "units": UNITS, **results}
        output.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _measure(size: Size, byte_code: Path) -> dict[str, float]:
    found: dict[str, Any] = ask(size.command, byte_code)
    return {name: float(value) for name, value in found.items()}


def _as_text(name: str, sizes: Mapping[str, Mapping[str, float]]) -> str:
    figures = [figure for figure in UNITS if any(figure in values for values in sizes.values())]
    rows = [[name, *figures]]
    rows += [[title, *(number(values.get(figure)) for figure in figures)] for title, values in sizes.items()]
    return "\n".join([*table(rows), "", *(f"{figure}: {UNITS[figure]}" for figure in figures), ""])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure how cost grows with the number of functions and of nodes.")
    parser.add_argument("--most", type=int, default=1_000_000, metavar="N", help="leave out larger sizes")
    parser.add_argument("--only", type=names_among(FULL), default=list(FULL), metavar="TABLE,...", help=", ".join(FULL))
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that it works, not how fast")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write what was measured and the machine there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
