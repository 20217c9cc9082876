"""Costs that no node can hold, capabilities that change, and nodes that are let go while runs go on."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

import handoff_lab as hl
from handoff_lab.telemetry.events import FUNCTION_WAIT
from tests.faults.marks import Marks
from tests.others import soon

pytestmark = pytest.mark.real


def on_a_gpu() -> hl.DAG:
    return hl.DAG("gpu").add(
        hl.Function("first", lambda: 20, duration=1),
        hl.Function("second", lambda n: n + 1, ["first"], cost={"gpu": 1}, duration=2),
    )


def waits(run: hl.Run) -> bool:
    return any(event.name == FUNCTION_WAIT for event in list(run.events))


def test_a_cost_that_fits_nowhere_waits_for_a_node_that_joins() -> None:
    with hl.Cluster({"alpha": {"cpu": 1}}) as cluster:
        with pytest.raises(hl.AllocationError, match="'second' costs gpu 1") as caught:
            cluster.submit(on_a_gpu())
        assert (caught.value.best_node, caught.value.shortfall) == ("alpha", {"gpu": 1})
        run = cluster.submit(on_a_gpu(), wait_for_capacity=True)
        soon(lambda: waits(run) and run.record.counts().get("done") == 1)
        assert run.allocations == {"first": "alpha"}
        assert run.plan is None
        cluster.add_node({"cpu": 1, "gpu": 1}, "beta")
        run.wait(60)
        assert run.plan is not None
        assert run.plan.makespan == 3
        assert run.results["second"] == 21
        assert run.allocations == {"first": "alpha", "second": "beta"}


def test_after_its_time_it_is_an_error_of_allocation() -> None:
    with hl.Cluster({"alpha": {"cpu": 1}}) as cluster:
        begun = time.monotonic()
        with pytest.raises(hl.AllocationError, match=r"waited 0.4 s for a node with .*gpu") as caught:
            cluster.execute(on_a_gpu(), wait_for_capacity=0.4)
        assert time.monotonic() - begun >= 0.4
        assert (caught.value.function, caught.value.cost) == ("second", {"gpu": 1})
        run = cluster.execute(on_a_gpu(), wait_for_capacity=0.1, raise_on_error=False, on_error="continue")
        assert isinstance(run.errors["second"], hl.AllocationError)
        assert run.results["first"] == 20


def test_capabilities_that_rise_start_what_waits_and_those_that_fall_end_nothing(marks: Marks) -> None:
    def hold(name: str) -> str:
        marks.leave(name)
        marks.wait(f"end {name}")
        return name

    dag = hl.DAG("changing").add(
        *(hl.Function(name, hold, extra_args=[name], cost={"gpu": 1}) for name in ("one", "two", "three"))
    )
    with hl.Cluster({"alpha": {"cpu": 4}}) as cluster:
        run = cluster.submit(dag, wait_for_capacity=True)
        soon(lambda: waits(run))
        cluster.update_node_resources("alpha", {"cpu": 4, "gpu": 2})
        soon(lambda: marks.count("one") and marks.count("two"))
        cluster.update_node_resources("alpha", {"cpu": 4, "gpu": 1})
        assert cluster.nodes["alpha"].used == {"gpu": 2}
        assert cluster.nodes["alpha"].available.get("gpu", 0) == 0  # not less
        marks.leave("end one")
        soon(lambda: run.record.counts().get("done") == 1)
        assert not marks.count("three")
        marks.leave("end two")
        marks.leave("end three")
        run.wait(60)
        assert run.attempts == {"one": 1, "two": 1, "three": 1}
        starts = {id: run.record.functions[id].started for id in run.functions}
        assert starts["three"] >= max(run.record.functions[id].ended or 0.0 for id in ("one", "two"))
        assert cluster.nodes["alpha"].used == {}


def test_a_node_that_is_drained_takes_nothing_with_it(marks: Marks) -> None:
    """Its results come along, of runs that are over too; what runs there ends first."""

    def large(fill: int) -> Any:
        return np.full(500_000, fill, dtype=np.uint8)

    def held(array: Any) -> int:
        marks.leave("held")
        marks.wait("go on")
        return int(array[0])

    def strategy(functions: Any, nodes: Any) -> dict[Any, str]:
        return {f.id: "beta" if f.id != "last" and "beta" in nodes else "alpha" for f in functions}

    before = hl.DAG("before").add(hl.Function("kept", large, extra_args=[7]))
    dag = hl.DAG("during").add(
        hl.Function("large", large, extra_args=[5]),
        hl.Function("held", held, ["large"]),
        hl.Function("waiting", lambda array, held: int(array[-1]) + held, ["large", "held"]),
        hl.Function("last", lambda n: n * 2, ["waiting"]),
    )
    with hl.Cluster({"alpha": {"cpu": 2}, "beta": {"cpu": 1}}) as cluster:
        over = cluster.execute(before, allocation_strategy=strategy)
        run = cluster.submit(dag, allocation_strategy=strategy)
        soon(lambda: marks.count("held"))
        marks.leave("go on")
        cluster.remove_node("beta")
        assert set(cluster.nodes) == {"alpha"}
        run.wait(60)
        assert run.results["last"] == 20
        assert run.results["large"].sum() == 5 * 500_000
        assert over.results["kept"].sum() == 7 * 500_000
        assert run.attempts == {"large": 1, "held": 1, "waiting": 1, "last": 1}
        assert (run.recomputed, over.recomputed) == (0, 0)
