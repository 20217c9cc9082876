"""Processes whose interpreter stands still in a long call of C code, and are none the worse for it."""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable

import pytest

import handoff_lab as hl
from handoff_lab.telemetry.events import NODE_DOWN, NODE_UP

pytestmark = pytest.mark.real
HERE = sys.modules[__name__]

# Longer than any patience of ours: what is tested is that time passes.
HELD_S = 8
BESIDE = 20


def holding(seconds: int) -> Callable[[], int]:
    """A function that holds the GIL."""
    return lambda: ctypes.PyDLL(None).sleep(seconds)


def pause(before: None = None) -> None:
    time.sleep(0.01)


def test_a_node_whose_functions_hold_the_gil_lives_and_works_on() -> None:
    dag = hl.DAG("held").add(
        hl.Function("slot", holding(HELD_S), node="alpha"),
        hl.Function("kernel", holding(HELD_S), node="alpha", runs_in="kernel"),
        *(hl.Function(("near", i), pause, node="alpha") for i in range(BESIDE)),
        *(hl.Function(("far", i), pause, node="beta") for i in range(BESIDE)),
    )
    with hl.Cluster({"alpha": {"cpu": 3}, "beta": {"cpu": 1}}, by_value=[HERE]) as cluster:
        before = {name: node.pid for name, node in cluster.nodes.items()}
        run = cluster.execute(dag)
        assert run.results["slot"] == run.results["kernel"] == 0
        assert set(run.attempts.values()) == {1}
        assert not {event.name for event in run.events} & {NODE_DOWN, NODE_UP}
        assert {name: node.pid for name, node in cluster.nodes.items()} == before
        functions = run.record.functions
        held_until = min(functions[name].ended or 0 for name in ("slot", "kernel"))
        done = [functions[side, i].ended or held_until for side in ("near", "far") for i in range(BESIDE)]
        assert max(done) < held_until


def test_a_notebook_that_holds_the_gil_keeps_its_nodes() -> None:
    with hl.Cluster({"alpha": {"cpu": 1}, "beta": {"cpu": 1}}, by_value=[HERE]) as cluster:
        before = {name: node.pid for name, node in cluster.nodes.items()}
        dag = hl.DAG("chain").add(hl.Function(0, pause))
        dag.add(*(hl.Function(i, pause, [i - 1], node=("alpha", "beta")[i % 2]) for i in range(1, 50)))
        run = cluster.submit(dag)
        holding(2)()  # several heartbeats, which the coordinator's thread can neither send nor answer
        assert run.wait(60).status == "done"
        assert not {event.name for event in run.events} & {NODE_DOWN, NODE_UP}
        assert set(run.attempts.values()) == {1}
        assert {name: node.pid for name, node in cluster.nodes.items()} == before
