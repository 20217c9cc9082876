"""One size, measured once, in a process of its own: ``scaling.py kernels|simulated FUNCTIONS NODES OUTPUT``."""

from __future__ import annotations

import gc
import json
import resource
import sys
import time
from pathlib import Path

from workloads import identity

from handoff_lab import DAG, Cluster, Function
from handoff_lab.scheduler import RunOptions, compile_program
from handoff_lab.testing import SimulatedBackend, Simulation


def kernels(functions: int, nodes: int) -> dict[str, float]:
    """A fan-out of no-ops on real nodes."""
    with Cluster({f"n{i}": {"cpu": 1} for i in range(nodes)}) as cluster:
        for name in cluster.nodes:  # kernels start beside the first functions
            cluster.run_cell(name, "pass", lambda message: None)
        for _ in range(3):
            cluster.execute(_fan_out(1_000), allocation_strategy="locality")
        dag = _fan_out(functions)
        gc.collect()
        wall, began = time.time(), time.monotonic()
        run = cluster.submit(dag, allocation_strategy="locality")
        submitted = time.monotonic() - began
        run.wait()
        done = time.monotonic() - began
        outcome = _outcome(functions, done)  # first: to look at attempts takes memory
        starts = (attempt.started for attempt in run.record.attempts if attempt.started is not None)
        return {"submit_s": submitted, "first_start_s": min(starts) - wall, **outcome}


def simulated(functions: int, nodes: int) -> dict[str, float]:
    """A fan-out on as many nodes as there may be; what is measured is the scheduler."""
    program = compile_program(_fan_out(functions), run="r")
    simulation = Simulation(SimulatedBackend({f"n{i}": {"cpu": 1} for i in range(nodes)}, keep_ledgers=True))
    gc.collect()
    began = time.monotonic()
    simulation.submit(program, RunOptions(allocator="load_balanced"))
    submitted = time.monotonic() - began
    simulation.run()
    done = time.monotonic() - began
    if simulation.ended["r"].status != "done":
        raise ValueError("the simulated run failed")
    return {"submit_s": submitted, **_outcome(functions, done)}


def _fan_out(n: int) -> DAG:
    return DAG("fan-out").add(*[Function(i, identity, extra_args=(i,)) for i in range(n)])


def _outcome(functions: int, done_s: float) -> dict[str, float]:
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return {
        "done_s": done_s,
        "us_per_function": 1e6 * done_s / functions,
        "rate": functions / done_s,
        "peak_mb": peak_mb,
    }


if __name__ == "__main__":
    kind, functions, nodes, output = sys.argv[1:]
    measure = {"kernels": kernels, "simulated": simulated}[kind]
    Path(output).write_text(json.dumps(measure(int(functions), int(nodes))), encoding="utf-8")
