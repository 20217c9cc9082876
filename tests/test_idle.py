"""A cluster that has nothing to do takes no more than its heartbeats: nothing polls."""

from __future__ import annotations

import time
from operator import sub
from pathlib import Path

import psutil
import pytest

import handoff_lab as hl

WATCHED_S = 3.0
SHARE = 0.03  # of a core for a node with its slots and kernel; a busy machine makes everything dearer
WAKE_UPS = 50  # a second, in all threads of one process: of heartbeats to two nodes, there and back, come 20


@pytest.mark.real
def test_an_idle_cluster_rests(tmp_path: Path) -> None:
    with hl.Cluster({"a": {"cpu": 1}, "b": {"cpu": 1}}, log_directory=tmp_path) as cluster:
        for node in cluster.nodes:
            cluster.run_cell(node, "0", lambda message: None)
            cluster.execute(hl.DAG("once").add(hl.Function("once", abs, extra_args=[1], node=node)))
        nodes = [[agent, *agent.children(recursive=True)] for agent in _agents(cluster)]
        for _ in range(3):  # a busy machine makes everything dearer: the best of three
            share, wakes = watched(nodes)
            if share < SHARE and wakes < WAKE_UPS:
                break
    assert share < SHARE
    assert wakes < WAKE_UPS


def watched(nodes: list[list[psutil.Process]]) -> tuple[float, float]:
    """The most that a node took of a core, and how often a process woke up in a second at most."""
    everyone = [psutil.Process(), *(process for node in nodes for process in node)]
    cpu_before, wakes_before, begun = list(map(cpu_s, nodes)), list(map(wake_ups, everyone)), time.monotonic()
    time.sleep(WATCHED_S)  # the measurement itself
    cpu, wakes, seconds = list(map(cpu_s, nodes)), list(map(wake_ups, everyone)), time.monotonic() - begun
    return max(map(sub, cpu, cpu_before)) / seconds, max(map(sub, wakes, wakes_before)) / seconds


def _agents(cluster: hl.Cluster) -> list[psutil.Process]:
    return [psutil.Process(node.pid) for node in cluster.nodes.values()]


def cpu_s(family: list[psutil.Process]) -> float:
    return sum(int(field(task, "schedstat").split()[0]) for process in family for task in tasks(process)) / 1e9


def wake_ups(process: psutil.Process) -> int:
    lines = [line for task in tasks(process) for line in field(task, "status").splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))


def tasks(process: psutil.Process) -> list[Path]:
    return list(Path(f"/proc/{process.pid}/task").iterdir())


def field(task: Path, name: str) -> str:
    return (task / name).read_text(encoding="utf-8")
