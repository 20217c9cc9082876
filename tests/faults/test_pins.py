"""Functions that are pinned to a node that dies: they fail by its name, or wait for it."""

from __future__ import annotations

import os
import signal
import time

import pytest

import handoff_lab as hl
from handoff_lab.telemetry.events import FUNCTION_WAIT, NODE_DOWN
from tests.faults.conftest import begun
from tests.faults.marks import Marks
from tests.others import soon

pytestmark = pytest.mark.real
NODES = {"alpha": {"cpu": 2}, "beta": {"cpu": 2}}


def pinned(marks: Marks) -> hl.DAG:
    """``held`` runs on beta until it is lost, or until it is tried there again."""

    def held() -> str:
        if marks.leave("held") == 0:
            marks.wait("never")
        return "made"

    return hl.DAG("pinned").add(
        hl.Function("held", held, node="beta"),
        hl.Function("near", lambda made: made, ["held"], node=hl.collocated("held")),
        hl.Function("free", lambda: "free", node="alpha"),
    )


def kill(cluster: hl.Cluster, name: str) -> float:
    before = time.monotonic()
    os.kill(cluster.nodes[name].pid, signal.SIGKILL)
    return before


def test_the_loss_fails_what_is_pinned_by_name_and_at_once(marks: Marks) -> None:
    with hl.Cluster(NODES) as cluster:
        run = cluster.submit(pinned(marks), on_error="continue")
        soon(lambda: marks.count("held"))
        killed = kill(cluster, "beta")
        with pytest.raises(hl.NodeLostError, match=r"'beta' is gone .*, to which it is pinned") as caught:
            run.wait(60)
        assert time.monotonic() - killed < 10  # at once, as a busy machine counts
        assert (caught.value.node, caught.value.function) == ("beta", "held")
        assert run.record.counts() == {"failed": 1, "skipped": 1, "done": 1}
        assert run.results["free"] == "free"
        assert NODE_DOWN in [event.name for event in run.events]  # the run ended by it, and tells so


def test_it_waits_for_its_node_and_goes_on_there(marks: Marks) -> None:
    with hl.Cluster(NODES) as cluster:
        run = cluster.submit(pinned(marks), wait_for_node=True)
        soon(lambda: marks.count("held") and begun(run, "held")() and "free" in run.results)
        kill(cluster, "beta")
        soon(lambda: any(event.name == FUNCTION_WAIT for event in list(run.events)))
        assert run.status == "running"
        cluster.add_node({"cpu": 2}, "beta")
        run.wait(60)
        assert run.attempts == {"held": 2, "near": 1, "free": 1}
        assert run.allocations == {"held": "beta", "near": "beta", "free": "alpha"}
        assert run.results["near"] == "made"


def test_after_its_time_it_fails(marks: Marks) -> None:
    with hl.Cluster(NODES) as cluster:
        run = cluster.submit(pinned(marks), wait_for_node=0.5)
        soon(lambda: marks.count("held"))
        killed = kill(cluster, "beta")
        with pytest.raises(hl.NodeLostError, match=r"did not come within 0\.5 s") as caught:
            run.wait(60)
        assert 0.5 <= time.monotonic() - killed < 30
        assert caught.value.node == "beta"
        cluster.execute(hl.DAG("after").add(hl.Function("f", int)))


def test_a_group_moves_together(marks: Marks) -> None:
    def held() -> int:
        if marks.leave("held") == 0:
            marks.wait("never")
        return os.getppid()

    dag = hl.DAG("group").add(
        hl.Function("held", held, cost={"gpu": 1}),
        hl.Function("near", lambda made: (made, os.getppid()), ["held"], node=hl.collocated("held")),
    )
    nodes = {"alpha": {"cpu": 1}, "beta": {"cpu": 1, "gpu": 1}, "gamma": {"cpu": 1, "gpu": 1}}
    with hl.Cluster(nodes) as cluster:
        run = cluster.submit(dag)
        soon(lambda: marks.count("held") and begun(run, "held")())
        first = run.allocations["held"]
        kill(cluster, first)
        run.wait(60)
        (second,) = {"beta", "gamma"} - {first}
        assert run.allocations == {"held": second, "near": second}
        assert run.attempts == {"held": 2, "near": 1}
        made, near = run.results["near"]
        assert made == near
