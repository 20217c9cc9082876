"""Every figure of ``qualities.py``, taken once, in a process of its own: ``quality.py quick|full OUTPUT``."""

from __future__ import annotations

import gc
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil
from workloads import identity

from handoff_lab import DAG, Cluster, DAGWidget, Function, Node, Run

NODES = {"a": {"cpu": 1}, "b": {"cpu": 1}}
NOWHERE = "/dev/null"  # no directory: a log there is given up at once
BUSY_CELL = "while True: pass"
STEPS = 10_000  # of the busy loop between two looks at the run


@dataclass(frozen=True, slots=True)
class Sizes:
    naps: int = 2_000
    fan_out: int = 10_000
    pairs: int = 5  # of a fan-out that is watched and one that is not
    idle_s: float = 5.0
    settle_s: float = 2.0  # what was just busy has come to rest


QUICK = Sizes(naps=50, fan_out=100, pairs=1, idle_s=1.2, settle_s=0.1)  # a node looks after itself once a second


def measure(sizes: Sizes) -> dict[str, float]:
    began = time.monotonic()
    with Cluster(NODES) as cluster:
        agents = time.monotonic() - began
        _seconds(cluster, _fan_out(1))
        first = time.monotonic() - began
        with ThreadPoolExecutor() as threads:
            list(threads.map(lambda node: cluster.run_cell(node, "0", _ignore), NODES))
        shells = time.monotonic() - began
        _seconds(cluster, _fan_out(sizes.fan_out))
        node_load, own_load = _idle(cluster, sizes)
        naps = _naps(sizes.naps)
        quiet = _seconds(cluster, naps)
        return {
            "agents-ready": agents,
            "first-result": first,
            "shells-ready": shells,
            "busy-notebook": _seconds(cluster, naps, compute_until_over) / quiet,
            "busy-kernel": _beside_a_cell(cluster, _naps(sizes.naps, node="a")),
            "watched": _watched(sizes),
            "idle-node": node_load,
            "idle-coordinator": own_load,
        }


def compute_until_over(run: Run) -> None:
    """What a notebook's main thread might do."""
    while run.status == "running":
        total = 0
        for i in range(STEPS):
            total += i


def _beside_a_cell(cluster: Cluster, dag: DAG) -> float:
    """Times as long while a cell computes in the kernel of node a."""
    quiet = _seconds(cluster, dag)
    cell = threading.Thread(target=cluster.run_cell, args=("a", BUSY_CELL, _ignore))
    cell.start()
    try:
        return _seconds(cluster, dag) / quiet
    finally:
        cluster.interrupt_cell("a")
        cell.join()


def _watched(sizes: Sizes) -> float:
    """Times as long with run log and widget: the median of pairs that are taken in turns."""
    dag = _fan_out(sizes.fan_out)
    with ExitStack() as stack:
        alone = stack.enter_context(Cluster(NODES, log_directory=NOWHERE))
        logged = stack.enter_context(Cluster(NODES))
        for cluster in (alone, logged):
            _seconds(cluster, dag)
        return statistics.median(_seconds_watched(logged, dag) / _seconds(alone, dag) for _ in range(sizes.pairs))


def _seconds_watched(cluster: Cluster, dag: DAG) -> float:
    """From submit to the end of a run that a widget shows; it is closed later."""
    with ExitStack() as stack:
        return _seconds(cluster, dag, lambda run: stack.callback(DAGWidget(run).close))


def _idle(cluster: Cluster, sizes: Sizes) -> tuple[float, float]:
    """Percent of a core: of a node, and of this process."""
    time.sleep(sizes.settle_s)
    families = [[agent, *agent.children(recursive=True)] for agent in map(_agent, cluster.nodes.values())]
    families.append([psutil.Process()])  # the coordinator's
    before, began = [_cpu_s(family) for family in families], time.monotonic()
    time.sleep(sizes.idle_s)
    elapsed = time.monotonic() - began
    *nodes, own = [100 * (_cpu_s(family) - was) / elapsed for family, was in zip(families, before, strict=True)]
    return max(nodes), own


def _agent(node: Node) -> psutil.Process:
    return psutil.Process(node.pid)


def _cpu_s(family: Sequence[psutil.Process]) -> float:
    """CPU seconds of all threads, to the nanosecond."""
    tasks = [task for process in family for task in Path(f"/proc/{process.pid}/task").iterdir()]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def _fan_out(n: int) -> DAG:
    return DAG("fan-out").add(*[Function(i, identity, extra_args=(i,)) for i in range(n)])


def _naps(n: int, node: str | None = None) -> DAG:
    """Functions of 1 ms that take no core, so that all that is measured is what keeps them waiting."""
    return DAG("naps").add(*[Function(i, time.sleep, extra_args=(0.001,), node=node) for i in range(n)])


def _seconds(cluster: Cluster, dag: DAG, meanwhile: Callable[[Run], object] = Run.wait) -> float:
    """From submit to the end of a run."""
    gc.collect()
    began = time.monotonic()
    run = cluster.submit(dag, allocation_strategy="locality")
    meanwhile(run)
    run.wait()
    took = time.monotonic() - began
    if run.status != "done":
        raise ValueError(f"a run {run.status}")
    return took


def _ignore(message: Mapping[str, object]) -> None:
    pass


if __name__ == "__main__":
    size, output = sys.argv[1:]
    figures = measure(QUICK if size == "quick" else Sizes())
    Path(output).write_text(json.dumps(figures), encoding="utf-8")
