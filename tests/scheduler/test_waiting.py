"""What fits on no node fails or, where its run says so, waits for a node to come or to have more."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handoff_lab._errors import AllocationError
from handoff_lab.graph import DAG, Argument, Function, collocated
from handoff_lab.messages import AttemptId, FailureKind
from handoff_lab.resources import Resources
from handoff_lab.scheduler import State

TWO = {"n": {"cpu": 2}, "m": {"cpu": 2}}
DONE, FAILED, SKIPPED = State.DONE, State.FAILED, State.SKIPPED
GPU = {"gpu": 1}


def pinned(**options: Any) -> DAG:
    return DAG().add(
        Function("pinned", list, node="n", **options), Function("child", list, ["pinned"]), Function("free", list)
    )


def lose(simulation: Any, time: float, name: str = "n") -> None:
    simulation.backend.at(time, lambda: simulation.backend.lose_node(name, "SIGKILL"))


def add(simulation: Any, time: float, name: str = "n", capabilities: Mapping[str, float] = TWO["n"]) -> None:
    simulation.backend.at(time, lambda: simulation.backend.add_node(name, capabilities, {}))


def awaited(simulation: Any) -> list[tuple[object, str]]:
    return [(report.metadata["function"], report.metadata["awaited"]) for report in simulation.told("wait")]


class TestForNode:
    def test_a_pinned_function_goes_on_when_its_node_is_there_again(self, simulate: Any) -> None:
        simulation = simulate(TWO, duration=3.0)
        simulation.begin(pinned(), wait_for_node_s=10.0)
        lose(simulation, 1.0)
        add(simulation, 8.0)
        simulation.run()
        assert simulation.ended["run"].status == "done"
        assert simulation.spans()["pinned"] == (8, 11)
        assert simulation.attempts() == {"pinned": 2, "child": 1, "free": 1}
        assert awaited(simulation) == [("pinned", "node 'n'")]
        simulation.check_end()

    def test_after_its_time_it_fails_by_name(self, simulate: Any) -> None:
        simulation = simulate(TWO, duration=3.0)
        simulation.begin(pinned(), wait_for_node_s=10.0, on_error="continue")
        lose(simulation, 1.0)
        add(simulation, 11.5)
        simulation.run()
        assert simulation.states() == {"pinned": FAILED, "child": SKIPPED, "free": DONE}
        ended = simulation.ended["run"]
        assert (ended.status, ended.node, ended.failure.kind) == ("failed", "n", FailureKind.NODE)
        assert ended.failure.message == (
            "node 'n' is gone (SIGKILL), to which it is pinned, and did not come within 10 s"
        )
        assert simulation.told("run", "stop")[0].measurements["duration"] == 11
        simulation.check_end()

    def test_each_loss_gives_it_the_whole_time(self, simulate: Any) -> None:
        simulation = simulate(TWO, duration=3.0)
        simulation.begin(pinned(), wait_for_node_s=10.0)
        for time in (1.0, 11.0):
            lose(simulation, time)
            add(simulation, time + 9.0)
        simulation.run()
        assert simulation.spans()["pinned"] == (20, 23)
        simulation.check_end()

    def test_it_may_wait_for_ever(self, simulate: Any) -> None:
        simulation = simulate(TWO, duration=3.0)
        simulation.begin(pinned(), wait_for_node_s=inf)
        lose(simulation, 1.0)
        simulation.run()
        assert "run" not in simulation.ended
        add(simulation, 1e6)
        simulation.run()
        assert simulation.ended["run"].status == "done"
        simulation.check_end()

    def test_it_waits_from_the_start_for_a_node_that_was_never_there(self, simulate: Any) -> None:
        simulation = simulate({"m": {"cpu": 2}})
        with pytest.raises(AllocationError, match="pinned to 'n', which is not there"):
            simulation.begin(pinned())
        simulation.begin(pinned(), wait_for_node_s=5.0)
        assert simulation.told("run", "start")[0].metadata["allocations"] == {"child": "m", "free": "m"}
        add(simulation, 4.0)
        simulation.run()
        assert simulation.spans()["pinned"] == (4, 5)
        simulation.check_end()

    def test_one_that_never_comes_is_named(self, simulate: Any) -> None:
        simulation = simulate({"m": {"cpu": 2}})
        simulation.begin(pinned(), wait_for_node_s=5.0)
        simulation.run()
        ended = simulation.ended["run"]
        assert (ended.node, ended.failure.kind) == ("n", FailureKind.NODE)
        assert ended.failure.message.startswith("node 'n' is not there, to which it is pinned")
        simulation.check_end()

    def test_one_that_waits_to_be_tried_again_keeps_its_delay(self, simulate: Any) -> None:
        """Its node goes and comes back while it is delayed."""
        simulation = simulate(TWO, fails={"pinned": [FailureKind.EXCEPTION]})
        simulation.begin(pinned(retry_delay=10.0), wait_for_node_s=3.0)
        lose(simulation, 2.0)
        add(simulation, 4.0)
        simulation.run()
        assert simulation.spans()["pinned"] == (11, 12)
        simulation.check_end()

    def test_a_cancelled_one_does_not_wait(self, simulate: Any) -> None:
        simulation = simulate(TWO, duration=3.0)
        simulation.begin(pinned(), wait_for_node_s=10.0)
        lose(simulation, 1.0)
        simulation.backend.at(2.0, lambda: simulation.cancel("run"))
        add(simulation, 4.0)
        simulation.run()
        assert simulation.ended["run"].status == "cancelled"
        assert simulation.attempts()["pinned"] == 1
        simulation.check_end()

    def test_what_is_serialized_for_it_waits_too(self, simulate: Any) -> None:
        simulation = simulate({"m": {"cpu": 2}})
        dag = DAG().add(Function("a", list), Function("b", list, [Argument("a", serialize=list)], node="n"))
        simulation.begin(dag, wait_for_node_s=9.0)
        add(simulation, 5.0)
        simulation.run()
        assert simulation.spans() == {"a": (0, 1), "a for b": (5, 6), "b": (6, 7)}
        simulation.check_end()


class TestGroups:
    def test_a_group_with_a_pinned_root_waits_and_goes_on_together(self, simulate: Any) -> None:
        simulation = simulate(TWO, duration=3.0)
        dag = DAG().add(Function("root", list, node="n"), Function("near", list, ["root"], node=collocated("root")))
        simulation.begin(dag, wait_for_node_s=10.0)
        lose(simulation, 1.0)
        add(simulation, 8.0)
        simulation.run()
        assert simulation.runs["run"].node == ["n", "n"]
        assert simulation.spans() == {"root": (8, 11), "near": (11, 14)}
        simulation.check_end()

    @pytest.mark.parametrize("patience", [0.0, 5.0])
    def test_it_fails_together(self, simulate: Any, patience: float) -> None:
        simulation = simulate(TWO, duration=3.0)
        dag = DAG().add(
            Function("root", list, node="n"), Function("near", list, node=collocated("root")), Function("free", list)
        )
        simulation.begin(dag, wait_for_node_s=patience, on_error="continue")
        lose(simulation, 1.0)
        simulation.run()
        assert simulation.states() == {"root": FAILED, "near": FAILED, "free": DONE}
        messages = {failure.failure.message for failure in simulation.runs["run"].failures.values()}
        assert len(messages) == 1
        assert "'n'" in messages.pop()
        simulation.check_end()

    def test_a_group_of_which_one_fits_nowhere_waits_whole(self, simulate: Any) -> None:
        simulation = simulate({"n": {"cpu": 2}, "m": {"cpu": 2, "gpu": 1}}, duration=3.0)
        dag = DAG().add(Function("a", list, cost=GPU), Function("b", list, node=collocated("a"), cost={"cpu": 2}))
        simulation.begin(dag, wait_for_capacity_s=10.0)
        lose(simulation, 1.0, "m")
        add(simulation, 5.0, "o", {"cpu": 2, "gpu": 1})
        simulation.run()
        assert simulation.ended["run"].status == "done"
        assert simulation.runs["run"].node == ["o", "o"]
        simulation.check_end()


class TestForCapacity:
    def test_a_node_that_joins_starts_what_waits(self, simulate: Any) -> None:
        simulation = simulate(TWO)
        dag = DAG().add(Function("small", list), Function("big", list, ["small"], cost=GPU))
        with pytest.raises(AllocationError):
            simulation.begin(dag)
        simulation.begin(dag, wait_for_capacity_s=10.0)
        add(simulation, 7.0, "g", {"cpu": 1, "gpu": 1})
        simulation.run()
        assert simulation.spans() == {"small": (0, 1), "big": (7, 8)}
        assert awaited(simulation) == [("big", f"a node with {Resources(GPU)}")]
        simulation.check_end()

    def test_capabilities_that_are_raised_start_it_too(self, simulate: Any) -> None:
        simulation = simulate(TWO)
        simulation.begin(DAG().add(Function("big", list, cost=GPU, node="n")), wait_for_capacity_s=10.0)
        simulation.backend.at(2.0, lambda: simulation.backend.set_capabilities("m", {"cpu": 2, "gpu": 1}))
        simulation.backend.at(4.0, lambda: simulation.backend.set_capabilities("n", {"cpu": 2, "gpu": 1}))
        simulation.run()
        assert simulation.spans() == {"big": (4, 5)}
        assert awaited(simulation) == [("big", f"node 'n' to have {Resources(GPU)}")]
        simulation.check_end()

    def test_after_its_time_it_is_an_error_of_allocation(self, simulate: Any) -> None:
        simulation = simulate(TWO)
        simulation.begin(DAG().add(Function("big", list, cost=GPU), Function("small", list)), wait_for_capacity_s=10.0)
        simulation.run()
        ended = simulation.ended["run"]
        assert (ended.status, ended.failure.kind) == ("failed", FailureKind.CAPACITY)
        assert ended.failure.message == f"waited 10 s for a node with {Resources(GPU)}; add one, or lower the cost"
        assert simulation.backend.now == 10
        simulation.check_end()

    def test_the_loss_of_the_only_node_that_could_hold_it(self, simulate: Any) -> None:
        simulation = simulate({"n": {"gpu": 1}, "m": {"cpu": 2}}, duration=4.0)
        simulation.begin(DAG().add(Function("f", list, cost=GPU)), wait_for_capacity_s=10.0)
        lose(simulation, 1.0)
        add(simulation, 3.0, "g", {"gpu": 1})
        simulation.run()
        assert simulation.spans() == {"f": (3, 7)}
        assert simulation.runs["run"].node == ["g"]
        simulation.check_end()

    def test_a_cluster_without_nodes(self, simulate: Any, chain: DAG) -> None:
        simulation = simulate({})
        simulation.begin(chain, wait_for_capacity_s=inf)
        add(simulation, 3.0)
        simulation.run()
        assert simulation.spans() == {"a": (3, 4), "b": (4, 5), "c": (5, 6)}
        simulation.check_end()

    def test_one_wait_does_not_stand_for_the_other(self, simulate: Any) -> None:
        simulation = simulate({"m": {"cpu": 2}})
        with pytest.raises(AllocationError):
            simulation.begin(pinned(), wait_for_capacity_s=5.0)
        with pytest.raises(AllocationError):
            simulation.begin(DAG().add(Function("big", list, cost=GPU)), wait_for_node_s=5.0)
        simulation.begin(pinned(cost=GPU), wait_for_node_s=5.0)
        add(simulation, 1.0)  # it comes without a gpu
        simulation.run()
        assert simulation.ended["run"].failure.message.startswith("node 'n' has too little, to which it is pinned")
        assert simulation.told("run", "stop")[0].measurements["duration"] == 1
        simulation.check_end()


class TestDraining:
    def test_results_that_are_brought_away_are_not_lost(self, simulate: Any, chain: DAG) -> None:
        simulation = simulate(TWO)
        simulation.begin(chain, allocator=lambda functions, nodes: dict.fromkeys("abc", max(nodes)))
        simulation.run()
        assert simulation.scheduler.results_on("n") == [AttemptId("run", i, 1) for i in range(3)]
        assert all(simulation.scheduler.keep(key) for key in simulation.scheduler.results_on("n"))
        assert not simulation.scheduler.keep(AttemptId("gone", 0, 1))
        assert simulation.scheduler.results_on("n") == []
        simulation.backend.remove_node("n")
        simulation.run()
        assert [simulation.scheduler.holder("run", i) for i in range(3)] == [
            (AttemptId("run", i, 1), "") for i in range(3)
        ]
        simulation.check_end()

    def test_a_pinned_function_waits_until_the_node_takes_functions_again(self, simulate: Any) -> None:
        simulation = simulate({"n": {"cpu": 1}, "m": {"cpu": 1}})
        dag = DAG().add(*(Function(i, list, cost={"cpu": 1}, node="n") for i in range(2)))
        simulation.begin(dag, wait_for_node_s=9.0)
        simulation.backend.at(0.5, lambda: simulation.drain("n"))
        simulation.backend.at(5.0, lambda: simulation.undrain("n"))
        simulation.run()
        assert sorted(simulation.spans().values()) == [(0, 1), (5, 6)]
        simulation.check_end()


def test_a_result_that_can_never_be_had_is_not_made_for_ever(simulate: Any) -> None:
    """Another node cannot fetch it, although the one that made it is there."""
    simulation = simulate({"n": {"cpu": 1}})
    dag = DAG().add(Function("a", list), Function("b", list, ["a"], node="n"), Function("free", list))
    simulation.begin(dag, on_error="continue")
    told = simulation._watch

    def forget(events: Any, commands: Any) -> None:
        told(events, commands)
        for key in simulation.backend.results():
            if key.function == 0:
                simulation.backend.lose_result(key)

    simulation._watch = forget
    simulation.run()
    assert simulation.states() == {"a": FAILED, "b": SKIPPED, "free": DONE}
    assert simulation.attempts()["a"] == 4
    assert "made 4 times on 'n' and could not be had from there" in simulation.ended["run"].failure.message
    simulation.check_end()


changes = st.tuples(
    st.floats(0, 12), st.sampled_from(("n", "m", "o")), st.sampled_from((0.0, 0.5, 1.0, 2.0, 3.0, None))
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    costs=st.lists(st.sampled_from((0.3, 0.5, 1.0, 1.5, 2.0)), min_size=1, max_size=15),
    script=st.lists(changes, max_size=12),
    patience=st.sampled_from((0.0, 3.0, inf)),
)
def test_claims_are_never_negative_nor_above_what_there_was(
    simulate: Any, costs: list[float], script: list[tuple[float, str, float | None]], patience: float
) -> None:
    """Capabilities rise and fall, nodes come and go: `CheckedSimulation` compares claims with what runs, each time."""
    most: dict[str, float] = {"n": 2.0, "m": 1.0}
    simulation = simulate({name: {"cpu": cpu} for name, cpu in most.items()})

    def change(name: str, cpu: float | None) -> None:
        backend = simulation.backend
        most[name] = max(most.get(name, 0.0), cpu or 0.0)
        if name not in backend.nodes():
            backend.add_node(name, {"cpu": cpu or 2.0}, {})
            most[name] = max(most[name], 2.0)
        elif cpu is None:
            backend.lose_node(name, "SIGKILL")
        else:
            backend.set_capabilities(name, {"cpu": cpu})

    for time, name, cpu in script:
        simulation.backend.at(time, lambda name=name, cpu=cpu: change(name, cpu))
    for name in ("n", "m", "o"):  # what was lowered comes back, or functions would wait for ever, as they should
        simulation.backend.at(50.0, lambda name=name: change(name, 4.0))
    dag = DAG().add(*(Function(i, list, cost={"cpu": cost}) for i, cost in enumerate(costs)))
    while not simulation.scheduler.nodes:
        simulation.backend.step()
    simulation.begin(dag, wait_for_capacity_s=patience, on_error="continue")
    while simulation.backend.step():
        for name, node in simulation.scheduler.nodes.items():
            assert 0 <= node.claimed.get("cpu", 0.0) <= most[name]
    simulation.check_end()
