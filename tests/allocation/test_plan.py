"""Plans: what bounds a run, and how busy its nodes are."""

from __future__ import annotations

import pickle
from itertools import pairwise

import pytest

from handoff_lab.allocation import Plan, TimeOptimized
from handoff_lab.graph import DAG, Function
from handoff_lab.resources import Resources

NODES = {"a": Resources({"cpu": 2, "memory": 1000}), "b": Resources({"cpu": 1})}


def plan(dag: DAG, times: dict[object, tuple[str, float, float]]) -> Plan:
    return Plan.from_times(
        dag,
        {id: node for id, (node, _, _) in times.items()},
        {id: start for id, (_, start, _) in times.items()},
        {id: end for id, (_, _, end) in times.items()},
        NODES,
    )


def test_the_critical_path_follows_the_input_that_came_last() -> None:
    dag = DAG("join").add(
        Function("quick", lambda: 1), Function("slow", lambda: 1), Function("join", max, ["quick", "slow"])
    )
    made = plan(dag, {"quick": ("a", 0, 1), "slow": ("a", 0, 3), "join": ("b", 3, 5)})
    assert made.critical_path == ("slow", "join")
    assert made.makespan == 5
    assert made.dag_name == "join"


def test_the_critical_path_follows_who_left_the_node() -> None:
    dag = DAG().add(
        Function("source", lambda: 1), Function("first", max, ["source"]), Function("second", max, ["source"])
    )
    made = plan(dag, {"source": ("a", 0, 1), "first": ("b", 1, 4), "second": ("b", 4, 6)})
    assert made.critical_path == ("source", "first", "second")


def test_an_input_that_was_on_its_way_is_still_what_was_waited_for() -> None:
    dag = DAG().add(Function("far", lambda: 1), Function("near", lambda: 1), Function("use", max, ["far"]))
    made = plan(dag, {"far": ("a", 0, 1), "near": ("b", 0, 2.5), "use": ("b", 3, 4)})
    assert made.critical_path == ("far", "use")


def test_inline_functions_are_seen_through() -> None:
    dag = DAG().add(
        Function("source", lambda: 1),
        Function("inner", lambda x: x, ["source"], type="inline"),
        Function("outer", lambda x: x, ["inner"], type="inline"),
        Function("use", max, ["outer"]),
    )
    assert plan(dag, {"source": ("a", 0, 1), "use": ("a", 1, 2)}).critical_path == ("source", "use")


def test_functions_that_take_no_time_end_the_walk_all_the_same() -> None:
    dag = DAG().add(Function("x", lambda: 1), Function("y", max, ["x"]), Function("z", lambda: 1))
    assert plan(dag, {"x": ("a", 0, 0), "y": ("a", 0, 0), "z": ("a", 0, 0)}).makespan == 0
    made = plan(dag, {"x": ("a", 0, 1e-15), "y": ("a", 1e-15, 2), "z": ("b", 2, 2 + 1e-15)})
    assert made.critical_path[-1] in {"y", "z"}


def test_functions_that_take_no_time_are_part_of_the_path() -> None:
    dag = DAG().add(Function("b", max, ["a"]), Function("a", lambda: 1), Function("c", max, ["a", "b"]))
    assert plan(dag, dict.fromkeys("abc", ("a", 0, 0))).critical_path == ("a", "b", "c")
    assert plan(dag, {"a": ("a", 0, 2), "b": ("a", 2, 2), "c": ("b", 2, 2)}).critical_path == ("a", "b", "c")


def test_utilization_is_the_share_that_is_claimed_on_average() -> None:
    dag = DAG().add(
        Function("half", lambda: 1, cost={"cpu": 1, "memory": 500}), Function("full", lambda: 1, cost={"cpu": 2})
    )
    made = plan(dag, {"half": ("a", 0, 2), "full": ("a", 2, 4)})
    assert made.utilization == {"a": {"cpu": 0.75, "memory": 0.25}, "b": {"cpu": 0.0}}


def test_nothing_ran() -> None:
    made = plan(DAG(), {})
    assert (made.makespan, made.critical_path) == (0.0, ())


def test_its_text_is_one_short_line() -> None:
    dag = DAG("one").add(Function("x", lambda: 1))
    assert repr(plan(dag, {"x": ("a", 0, 2.5)})) == "<Plan of 'one': 2.50 s; 1 function on 2 nodes>"


def test_it_survives_pickling() -> None:
    dag = DAG().add(Function("x", len, cost={"cpu": 1}))
    made = plan(dag, {"x": ("a", 0, 1)})
    assert pickle.loads(pickle.dumps(made)) == made


@pytest.mark.parametrize("search", [False, True])
def test_the_critical_path_of_a_schedule_has_no_gaps(
    paper_functions: list[Function], paper_nodes: dict[str, Resources], search: bool
) -> None:
    schedule = TimeOptimized(search=search).schedule(paper_functions, paper_nodes)
    made = Plan.from_times(DAG().add(*paper_functions), schedule.nodes, schedule.start, schedule.end, paper_nodes)
    path = made.critical_path
    assert made.start[path[0]] == 0
    assert made.end[path[-1]] == made.makespan == schedule.makespan
    assert all(made.end[one] == made.start[other] for one, other in pairwise(path))
