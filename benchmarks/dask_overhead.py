"""What handoff_lab adds to Dask: the same functions on the same workers, as plain ``client.submit`` and as a DAG.

``python benchmarks/dask_overhead.py --help``. Both are on the clock from the first function handed over until the last
results are here; the two take turns, and the medians count.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import distributed
from engines.handoff import as_function
from report import machine, number, table
from workloads import Graph, Vertex, chain, fan_out, layered, sinks

from handoff_lab import DAG, Cluster


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    logging.getLogger("distributed").setLevel(logging.ERROR)
    n = options.functions
    works: dict[str, Graph] = {
        f"{n:,} that cost nothing": fan_out(n),
        f"{n:,} that claim a cpu": fan_out(n, claim=True),
        f"a chain of {n // 10:,}": chain(n // 10),
        f"{n // 500:,} layers of 50": layered(max(2, n // 500), 50),
        f"{n // 20:,} of 10 ms": _sleepers(n // 20, 0.01),
        f"{n // 100:,} of 100 ms": _sleepers(n // 100, 0.1),
    }
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        memory_limit=0,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        resources={"cpu": 1},
    ) as dask:
        seconds = measure(dask, works, options.repeat)
    rows = [["", "client.submit", "handoff_lab", "ratio"]]
    for name, (plain, ours) in seconds.items():
        rows.append([name, f"{number(plain)} s", f"{number(ours)} s", number(ours / plain)])
    print("\n".join(table(rows)))
    if options.json:
        outcome = {"machine": machine(), "dask": distributed.__version__, "seconds": seconds}
        options.json.write_text(json.dumps(outcome, indent=1), encoding="utf-8")
    return 0


def measure(dask: Any, works: dict[str, Graph], repeat: int) -> dict[str, tuple[float, float]]:
    """Seconds of each work, plain and ours."""
    with (
        distributed.Client(dask) as client,
        tempfile.TemporaryDirectory(prefix="bench-") as logs,
        Cluster(backend="dask", client=client, log_directory=logs) as cluster,
    ):
        engines = (partial(_plain, client), partial(_ours, cluster))
        for engine in engines:
            engine(fan_out(100))
            engine(chain(10))
        seconds = {}
        for name, graph in works.items():
            rounds = [[_timed(engine, graph) for engine in engines] for _ in range(repeat)]
            plain, ours = (statistics.median(column) for column in zip(*rounds, strict=True))
            seconds[name] = plain, ours
        return seconds


def _timed(engine: Callable[[Graph], list[Any]], graph: Graph) -> float:
    before = time.perf_counter()
    results = engine(graph)
    seconds = time.perf_counter() - before
    assert results == _expected(graph), "a wrong result is no result"
    return seconds


def _plain(client: Any, graph: Graph) -> list[Any]:
    futures: list[Any] = []
    for vertex in graph:
        inputs = [futures[parent] for parent in vertex.parents]
        resources = {"cpu": 1} if vertex.claim else None
        futures.append(client.submit(vertex.code, *inputs, *vertex.extra, pure=False, resources=resources))
    return list(client.gather([futures[i] for i in sinks(graph)]))


def _ours(cluster: Cluster, graph: Graph) -> list[Any]:
    dag = DAG("benchmark").add(*map(as_function, range(len(graph)), graph))
    run = cluster.execute(dag, allocation_strategy="locality")
    return [run.results[i] for i in sinks(graph)]


def _expected(graph: Graph) -> list[Any]:
    values: list[Any] = []
    for vertex in graph:
        inputs = (values[parent] for parent in vertex.parents)
        values.append(vertex.extra[0] if vertex.code is _sleep else vertex.code(*inputs, *vertex.extra))
    return [values[i] for i in sinks(graph)]


def _sleepers(count: int, seconds: float) -> Graph:
    return [Vertex(_sleep, extra=(i, seconds)) for i in range(count)]


def _sleep(value: int, seconds: float) -> int:
    time.sleep(seconds)
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--functions", type=int, default=10_000, help="in the largest graphs (default: 10,000)")
    parser.add_argument("--repeat", type=int, default=3, help="times that each is run (default: 3)")
    parser.add_argument("--json", type=Path, help="where to write the medians")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
