"""Where the time of our own engine goes: CPU per function in each process and thread, and what they do.

``python benchmarks/costs.py --help``. With ``--profile`` the coordinator runs under cProfile, which makes it slower,
and agents and slots are watched by py-spy where that is installed.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import io
import pstats
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil
from engines.handoff import as_function
from report import number, table
from workloads import Graph, chain, fan_out, layered, tree

from handoff_lab import DAG, Cluster

SHAPES: dict[str, Callable[[int], Graph]] = {
    "fan-out": fan_out,
    "chain": chain,
    "layered": lambda n: layered(max(1, n // 50), 50),
    "tree": tree,
}
NODES = {"a": {"cpu": 1}, "b": {"cpu": 1}}
TOP = 15  # functions of a profile


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    graph = SHAPES[options.shape](options.functions)
    with tempfile.TemporaryDirectory(prefix="bench-") as logs, Cluster(NODES, log_directory=logs) as cluster:
        for node in cluster.nodes:  # kernels that are still starting would be counted
            cluster.run_cell(node, "0", lambda message: None)
        _run(cluster, graph)
        print(_costs(cluster, graph, options.repeat))
        if options.profile:
            print(_coordinator_profile(cluster, graph, options.repeat))
            for role in ("agents", "slots"):
                print(_watched(cluster, graph, role, options.seconds))
    return 0


def _costs(cluster: Cluster, graph: Graph, repeat: int) -> str:
    roles = _roles(cluster)
    before = _cpu_us(roles)
    wall = sum(_run(cluster, graph) for _ in range(repeat))
    after = _cpu_us(roles)
    functions = len(graph) * repeat
    rows = [["", "µs per function"], ["wall", number(1e6 * wall / functions)]]
    rows += [[role, number((after[role] - before[role]) / functions)] for role in roles]
    title = f"{repeat} times {len(graph):,} functions: {functions / wall:,.0f} per second"
    return "\n".join([title, "", *table(rows)])


def _run(cluster: Cluster, graph: Graph) -> float:
    """Seconds of one run."""
    dag = DAG("costs").add(*map(as_function, range(len(graph)), graph))
    gc.collect()
    began = time.monotonic()
    cluster.execute(dag, allocation_strategy="locality")
    return time.monotonic() - began


def _roles(cluster: Cluster) -> dict[str, list[Path]]:
    """The tasks (threads, as Linux has them) of each part of the engine."""
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    roles: dict[str, list[Path]] = {"main thread": [], "coordinator's thread": [], "its other threads": []}
    for task in _tasks(psutil.Process().pid):
        roles[_role(names.get(int(task.name), ""))].append(task)
    return {**roles, **{role: [task for pid in pids for task in _tasks(pid)] for role, pids in _pids(cluster).items()}}


def _role(thread: str) -> str:
    if thread == "MainThread":
        return "main thread"
    return "coordinator's thread" if thread.endswith("coordinator") else "its other threads"


def _pids(cluster: Cluster) -> dict[str, list[int]]:
    """A slot is a child of a zygote, which is the child of the agent that has the agent's command line."""
    agents = [psutil.Process(node.pid) for node in cluster.nodes.values()]
    zygotes = [child for agent in agents for child in agent.children() if child.cmdline() == agent.cmdline()]
    slots = [slot.pid for zygote in zygotes for slot in zygote.children()]
    return {"agents": [agent.pid for agent in agents], "slots": slots}


def _tasks(pid: int) -> list[Path]:
    return list(Path(f"/proc/{pid}/task").iterdir())


def _cpu_us(roles: Mapping[str, Sequence[Path]]) -> dict[str, float]:
    return {
        role: sum(int((task / "schedstat").read_text().split()[0]) for task in tasks if task.exists()) / 1e3
        for role, tasks in roles.items()
    }


def _coordinator_profile(cluster: Cluster, graph: Graph, repeat: int) -> str:
    profile = cProfile.Profile()
    cluster._coordinator.call(profile.enable)
    for _ in range(repeat):
        _run(cluster, graph)
    cluster._coordinator.call(profile.disable)
    text = io.StringIO()
    pstats.Stats(profile, stream=text).strip_dirs().sort_stats("tottime").print_stats(TOP)
    return f"\nCoordinator's thread:\n{text.getvalue().strip()}"


def _watched(cluster: Cluster, graph: Graph, role: str, seconds: float) -> str:
    """What py-spy sees in one of the processes while the graph runs again and again."""
    program = shutil.which("py-spy", path=f"{Path(sys.executable).parent}:{Path('/usr/bin')}")
    if program is None:
        return f"\nOne of the {role}: py-spy is not installed"
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        output = Path(folder) / "stacks"
        words = ["record", "--format", "raw", "--rate", "500", "--nonblocking", "--duration", str(round(seconds))]
        pid = _pids(cluster)[role][0]
        command = [program, *words, "--pid", str(pid), "--output", str(output)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as spy:
            while spy.poll() is None:
                _run(cluster, graph)
        lines = output.read_text(encoding="utf-8").splitlines() if output.exists() else []
    own: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        own[stack.rpartition(";")[2]] += int(count)
    total = max(1, own.total())
    rows = [
        [f"one of the {role}", "% of its time"],
        *([name, number(100 * n / total)] for name, n in own.most_common(TOP)),
    ]
    return "\n" + "\n".join(table(rows))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Show where the time of handoff_lab's own engine goes.")
    parser.add_argument("--shape", choices=SHAPES, default="fan-out")
    parser.add_argument("--functions", type=int, default=10_000, metavar="N")
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="runs that are counted")
    parser.add_argument("--profile", action="store_true", help="also what the processes do")
    parser.add_argument("--seconds", type=float, default=5.0, metavar="S", help="that py-spy watches each process")
    return parser


if __name__ == "__main__":
    sys.exit(main())
