"""Plans: the real scheduler's run, predicted."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handoff_lab._errors import AllocationError, MissingFunctionError
from handoff_lab.allocation import STRATEGIES, Plan, TimeOptimized
from handoff_lab.graph import DAG, Argument, Function
from handoff_lab.planning import plan
from handoff_lab.resources import Resources

TWO = {"n": {"cpu": 1}, "m": {"cpu": 1}}

# Topcuoglu, Hariri and Wu (2002), figure 2 and table 1.
SECONDS = {
    1: (14, 16, 9), 2: (13, 19, 18), 3: (11, 13, 19), 4: (13, 8, 17), 5: (12, 13, 10),
    6: (13, 16, 9), 7: (7, 15, 11), 8: (5, 11, 14), 9: (18, 12, 20), 10: (21, 7, 16),
}  # fmt: skip
BYTES = {
    (1, 2): 18, (1, 3): 12, (1, 4): 9, (1, 5): 11, (1, 6): 14, (2, 8): 19, (2, 9): 16, (3, 7): 23,
    (4, 8): 27, (4, 9): 23, (5, 9): 13, (6, 8): 15, (7, 10): 17, (8, 10): 11, (9, 10): 13,
}  # fmt: skip
THREE = {name: {"cpu": 1} for name in ("p1", "p2", "p3")}


class TestPaper:
    """The worked example of the HEFT paper."""

    @pytest.fixture(params=[None, {"cpu": 1}], ids=["without cost", "one cpu each"])
    def dag(self, request: pytest.FixtureRequest) -> DAG:
        return DAG("heft").add(
            *(
                Function(
                    id,
                    max,
                    [Argument(source, nbytes=nbytes) for (source, target), nbytes in BYTES.items() if target == id],
                    duration=dict(zip(THREE, seconds, strict=True)),
                    cost=request.param,
                )
                for id, seconds in SECONDS.items()
            )
        )

    def test_it_comes_out_at_80(self, dag: DAG) -> None:
        heft = TimeOptimized(bandwidth=1.0, search=False)
        prediction = plan(dag, THREE, allocation_strategy=heft, bandwidth=1.0)
        schedule = heft.schedule(list(dag.functions.values()), {name: Resources(has) for name, has in THREE.items()})
        assert prediction.makespan == schedule.makespan == 80
        assert prediction.allocations == schedule.nodes
        assert (prediction.start, prediction.end) == (schedule.start, schedule.end)
        assert prediction.critical_path == (1, 2, 9, 10)

    def test_search_makes_it_shorter(self, dag: DAG) -> None:
        assert plan(dag, THREE, bandwidth=1.0).makespan < 80


def test_transfers_take_time_between_nodes_only() -> None:
    dag = DAG().add(
        Function("a", list, node="n", duration=1.0, output_size=10.0),
        Function("near", list, ["a"], node="n", duration=1.0),
        Function("far", list, ["a"], node="m", duration=1.0),
        Function("less", list, [Argument("a", nbytes=5)], node="m", duration=1.0),
    )
    free = plan(dag, TWO)
    assert (free.start["near"], free.start["far"]) == (1.0, 1.0)
    slow = plan(dag, TWO, bandwidth=2.0, latency=0.5)
    assert (slow.start["near"], slow.start["less"], slow.start["far"]) == (1.0, 4.0, 6.5)


def test_durations_override_the_functions_own() -> None:
    dag = DAG().add(Function("a", list, duration=5.0), Function("b", list, ["a"], duration={"n": 2.0, "m": 4.0}))
    assert plan(dag, {"n": {"cpu": 1}}).end == {"a": 5.0, "b": 7.0}
    assert plan(dag, {"k": {"cpu": 1}}).end["b"] == 8.0  # the mean of what is known
    assert plan(dag, {"n": {"cpu": 1}}, durations={"a": 1.0, "b": {"n": 0.5}}).makespan == 1.5


def test_a_function_of_unknown_duration_takes_a_second() -> None:
    assert plan(DAG().add(Function("a", list)), TWO).makespan == 1.0


def test_claims_bound_what_runs_at_the_same_time() -> None:
    dag = DAG().add(*(Function(i, list, cost={"cpu": 1, "gpu": 1}) for i in range(4)))
    prediction = plan(dag, {"n": {"cpu": 4, "gpu": 2}})
    assert prediction.makespan == 2.0
    assert prediction.utilization == {"n": {"cpu": 0.5, "gpu": 1.0}}


def test_a_cluster_will_do_for_nodes() -> None:
    cluster = SimpleNamespace(nodes={"n": SimpleNamespace(capabilities={"cpu": 2})})
    prediction = plan(DAG("d").add(Function("a", list)), cluster)
    assert isinstance(prediction, Plan)
    assert (prediction.capabilities, prediction.dag_name) == ({"n": Resources({"cpu": 2})}, "d")


def test_serializers_take_their_part_in_it_unseen() -> None:
    dag = DAG().add(
        Function("a", list, node="n", duration=1.0),
        Function(
            "b", list, [Argument("a", serialize=lambda value, source, target: value, nbytes=8)], node="m", duration=1.0
        ),
    )
    prediction = plan(dag, TWO, bandwidth=4.0)
    assert prediction.start == {"a": 0.0, "b": 3.0}


def test_inputs_and_inline_functions_are_no_part_of_it() -> None:
    dag = DAG().add(Function("x", type="input"), Function("i", list, ["x"], type="inline"), Function("a", list, ["i"]))
    assert plan(dag, TWO).start == {"a": 0.0}


class TestInlineFunctions:
    """Strategies and transfers see the edges that go through them."""

    @pytest.fixture
    def dag(self) -> DAG:
        return DAG().add(
            Function("a", list, duration=2.0, output_size=1000),
            Function("i", list, ["a"], type="inline"),
            Function("j", list, ["i"], type="inline"),
            Function("b", list, ["j"], duration={"n": 2.0, "m": 1.9}),
        )

    @pytest.mark.parametrize("strategy", ["time_optimized", "locality"])
    def test_a_function_stays_with_the_result_that_it_needs_through_them(self, dag: DAG, strategy: str) -> None:
        prediction = plan(dag, TWO, allocation_strategy=strategy, bandwidth=10.0)
        assert prediction.makespan <= 4.0

    def test_allocators_are_given_what_they_need_for_args(self, dag: DAG) -> None:
        seen: dict[object, tuple[object, ...]] = {}

        def allocator(functions: Sequence[Function], capabilities: object) -> dict[object, str]:
            seen.update({function.id: function.dependencies for function in functions})
            return dict.fromkeys(seen, "n")

        plan(dag, TWO, allocation_strategy=allocator)
        assert seen == {"a": (), "b": ("a",)}

    def test_the_bytes_of_their_edges_count(self) -> None:
        dag = DAG().add(
            Function("a", list, node="n", output_size=10),
            Function("i", list, [Argument("a", nbytes=500)], type="inline"),
            Function("b", list, ["i"], node="m"),
        )
        assert plan(dag, TWO, bandwidth=100.0).start["b"] == 1.0 + 5.0


def test_timeouts_end_nothing() -> None:
    dag = DAG().add(Function("a", list, duration=10.0, timeout=5.0), Function("b", list, ["a"], timeout=0.5))
    prediction = plan(dag, TWO)
    assert (prediction.start, prediction.makespan) == ({"a": 0.0, "b": 10.0}, 11.0)


class TestArgumentsThatMakeNoSense:
    DAG = DAG().add(Function("a", list, output_size=10), Function("b", list, ["a"]))

    def refused(self, error: type[Exception], match: str, nodes: Any = TWO, **options: Any) -> None:
        for strategy in ("first_available", "time_optimized"):
            with pytest.raises(error, match=match):
                plan(self.DAG, nodes, allocation_strategy=strategy, **options)

    def test_durations_of_no_function(self) -> None:
        self.refused(
            MissingFunctionError, "function 'aa', needed by 'durations', .*did you mean 'a'", durations={"aa": 3}
        )

    @pytest.mark.parametrize("duration", [-5, float("nan"), float("inf"), "3", {"n": -1}])
    def test_durations_that_are_none(self, duration: object) -> None:
        self.refused(ValueError, "'a': duration.* must be a finite number", durations={"a": duration})

    @pytest.mark.parametrize("bandwidth", [0, -1, float("nan"), "1MB"])
    def test_bandwidth(self, bandwidth: object) -> None:
        self.refused(ValueError, "bandwidth is .* bytes per second", bandwidth=bandwidth)

    @pytest.mark.parametrize("latency", [-3, float("nan"), float("inf"), None])
    def test_latency(self, latency: object) -> None:
        self.refused(ValueError, "latency is .* zero or more", latency=latency)

    @pytest.mark.parametrize("nodes", [[{"cpu": 1}], 2])
    def test_nodes(self, nodes: object) -> None:
        self.refused(TypeError, "give a cluster, or capabilities by name", nodes=nodes)


def test_nothing_to_run_takes_no_time() -> None:
    assert plan(DAG(), TWO).makespan == 0.0


def test_what_cannot_run_is_refused() -> None:
    with pytest.raises(AllocationError, match="gpu"):
        plan(DAG().add(Function("a", list, cost={"gpu": 1})), TWO)
    with pytest.raises(MissingFunctionError):
        plan(DAG().add(Function("a", list, ["missing"])), TWO)


@st.composite
def dags(draw: st.DrawFn) -> DAG:
    dag = DAG()
    for i in range(draw(st.integers(1, 12))):
        above = draw(st.lists(st.integers(0, i - 1), unique=True, max_size=3)) if i else []
        dag.add(
            Function(
                i,
                list,
                above,
                duration=draw(st.sampled_from((0.0, 0.5, 1.0, 3.0))),
                output_size=draw(st.sampled_from((None, 0, 4, 20))),
                cost=draw(st.sampled_from((None, {"cpu": 1}, {"cpu": 0.5, "memory": 600}))),
            )
        )
    return dag


@settings(max_examples=60, deadline=None)
@given(dag=dags(), strategy=st.sampled_from(STRATEGIES), bandwidth=st.sampled_from((None, 10.0)))
def test_a_plan_is_possible(dag: DAG, strategy: str, bandwidth: float | None) -> None:
    nodes: dict[str, Any] = {"n": {"cpu": 2, "memory": 1000}, "m": {"cpu": 1, "memory": 700}}
    prediction = plan(dag, nodes, allocation_strategy=strategy, bandwidth=bandwidth, latency=0.25)
    assert set(prediction.start) == set(dag.functions)
    for id, function in dag.functions.items():
        assert prediction.end[id] == prediction.start[id] + function.duration  # type: ignore[operator]
        for producer in function.dependencies:
            way = 0.0
            if prediction.allocations[producer] != prediction.allocations[id]:
                way = 0.25 + ((dag[producer].output_size or 0) / bandwidth if bandwidth else 0.0)
            assert prediction.start[id] >= prediction.end[producer] + way
    for moment in prediction.start.values():
        for node, has in nodes.items():
            held = [
                id
                for id in prediction.start
                if prediction.allocations[id] == node and prediction.start[id] <= moment < prediction.end[id]
            ]
            assert len(held) <= has["cpu"]
            assert sum((dag[id].cost for id in held), Resources()).fits_in(Resources(has))
