"""HEFT, its timelines and the search that improves it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handoff_lab.allocation import Schedule, TimeOptimized, allocate
from handoff_lab.allocation.problem import Link, Problem
from handoff_lab.allocation.search import lower_bound
from handoff_lab.allocation.timeline import Timeline
from handoff_lab.graph import Argument, Function, collocated
from handoff_lab.resources import Resources

NODES = {
    "a": Resources({"cpu": 2, "memory": 1000}),
    "b": Resources({"cpu": 1, "memory": 4000}),
    "c": Resources({"cpu": 3.5, "memory": 1000, "gpu": 1}),
}


class TestPaper:
    """The worked example of the paper that HEFT comes from."""

    def test_heft_ends_at_80(self, paper_functions: list[Function], paper_nodes: dict[str, Resources]) -> None:
        schedule = TimeOptimized(bandwidth=1.0, search=False).schedule(paper_functions, paper_nodes)
        assert schedule.makespan == 80
        assert (schedule.nodes[10], schedule.start[10], schedule.end[10]) == ("p2", 73, 80)
        assert [id for id in schedule.nodes if schedule.nodes[id] == "p3"] == [1, 3, 5, 7]

    def test_search_ends_at_the_optimum(
        self, paper_functions: list[Function], paper_nodes: dict[str, Resources]
    ) -> None:
        schedule = TimeOptimized(bandwidth=1.0).schedule(paper_functions, paper_nodes)
        assert schedule.makespan == 73
        is_possible(paper_functions, paper_nodes, schedule, Link(1.0))

    def test_durations_override_those_of_the_functions(
        self, paper_functions: list[Function], paper_nodes: dict[str, Resources]
    ) -> None:
        nothing = dict.fromkeys(range(1, 11), 0.0)
        schedule = TimeOptimized(durations=nothing).schedule(paper_functions, paper_nodes)
        assert schedule.makespan == 0

    def test_priority_is_the_planned_start(
        self, paper_functions: list[Function], paper_nodes: dict[str, Resources]
    ) -> None:
        allocator = TimeOptimized(bandwidth=1.0)
        assert (
            allocator.allocate(paper_functions, paper_nodes).priority
            == allocator.schedule(paper_functions, paper_nodes).start
        )


def is_possible(functions: Sequence[Function], nodes: Mapping[str, Resources], schedule: Schedule, link: Link) -> None:
    """No function starts before its inputs are there, and no node ever holds more than it has."""
    for function in functions:
        for argument in function.arguments:
            arrives = schedule.end[argument.id]
            if schedule.nodes[argument.id] != schedule.nodes[function.id]:
                arrives += link.seconds(argument.nbytes or 0)
            assert schedule.start[function.id] >= arrives
    for moment in schedule.start.values():
        for node, has in nodes.items():
            running = [
                f
                for f in functions
                if schedule.nodes[f.id] == node and schedule.start[f.id] <= moment < schedule.end[f.id]
            ]
            assert len(running) <= max(1, int(has["cpu"]))
            assert sum((f.cost for f in running), Resources()).fits_in(has)
    assert schedule.makespan == max(schedule.end.values())


@st.composite
def graphs(draw: st.DrawFn) -> list[Function]:
    functions: list[Function] = []
    for id in range(draw(st.integers(1, 20))):
        sources = draw(st.lists(st.integers(0, id - 1), unique=True, max_size=3)) if id else []
        functions.append(
            Function(
                id,
                max,
                [Argument(source, nbytes=draw(st.integers(0, 50))) for source in sources],
                cost=draw(st.sampled_from([None, {"cpu": 0.5}, {"cpu": 1, "memory": 600}, {"memory": 999}])),
                node=draw(st.sampled_from([None, None, None, "a", *(collocated(other) for other in range(id)[-3:])])),
                duration=draw(st.sampled_from([None, 0, 0.1, 1, 2.5, {"a": 3, "b": 1}, {"c": 0.2}])),
            )
        )
    return functions


@given(functions=graphs(), link=st.builds(Link, st.sampled_from([None, 10.0]), st.sampled_from([0.0, 0.3])))
@settings(max_examples=80, deadline=None)
def test_schedules_are_possible_and_search_never_hurts(functions: list[Function], link: Link) -> None:
    heft = TimeOptimized(link.bandwidth, link.latency, search=False).schedule(functions, NODES)
    is_possible(functions, NODES, heft, link)
    searched = TimeOptimized(link.bandwidth, link.latency).schedule(functions, NODES)
    is_possible(functions, NODES, searched, link)
    bound = lower_bound(Problem.build(functions, NODES, link, {}))
    assert bound * (1 - 1e-9) <= searched.makespan <= heft.makespan


def test_a_node_of_several_cpus_runs_as_many_at_once() -> None:
    functions = [Function(i, max, duration=1) for i in range(8)]
    assert TimeOptimized().schedule(functions, {"n": Resources({"cpu": 4})}).makespan == 2


def test_claims_keep_functions_apart_that_slots_would_let_together() -> None:
    functions = [Function(i, max, duration=1, cost={"memory": 600}) for i in range(4)]
    assert TimeOptimized().schedule(functions, {"n": Resources({"cpu": 4, "memory": 1000})}).makespan == 4


def test_a_slow_link_keeps_a_chain_on_one_node() -> None:
    functions = [Function(i, max, [i - 1] if i else [], duration=1, output_size=1000) for i in range(4)]
    nodes = {"a": Resources({"cpu": 1}), "b": Resources({"cpu": 1})}
    assert len(set(allocate(TimeOptimized(bandwidth=10), functions, nodes).values())) == 1


def test_a_node_without_a_duration_is_taken_to_be_average() -> None:
    nodes = {"fast": Resources({"cpu": 1}), "new": Resources({"cpu": 1}), "slow": Resources({"cpu": 1})}
    schedule = TimeOptimized().schedule([Function("f", max, duration={"fast": 2, "slow": 4}, node="new")], nodes)
    assert schedule.makespan == 3


def test_the_slowest_way_goes_first() -> None:
    functions = [Function("short", max, duration=1), Function("long", max, duration=9), Function("end", max, ["long"])]
    schedule = TimeOptimized().schedule(functions, {"n": Resources({"cpu": 1})})
    assert schedule.start["long"] == 0


@pytest.mark.parametrize(
    "options", [{"bandwidth": 0}, {"bandwidth": -1}, {"bandwidth": "1MB"}, {"latency": -1}, {"latency": float("nan")}]
)
def test_links_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        TimeOptimized(**options)


@pytest.mark.parametrize("duration", [-1, float("nan"), "3", {"a": -1}])
def test_durations_that_make_no_sense_are_refused(duration: Any) -> None:
    with pytest.raises(ValueError, match=r"'f': duration.* must be a finite number"):
        TimeOptimized(durations={"f": duration})
    with pytest.raises(TypeError, match="mapping of function id to seconds"):
        TimeOptimized(durations=3)  # type: ignore[arg-type]


class TestGroups:
    """Collocated functions go where all of them end earliest, not where the first of them does."""

    THREE = (
        Function("first", max, cost={"cpu": 2}),
        *(Function(i, max, cost={"cpu": 2}, node=collocated("first")) for i in range(2)),
    )

    def test_a_node_that_holds_all_at_once_is_better(self) -> None:
        schedule = TimeOptimized().schedule(self.THREE, {"a": Resources({"cpu": 2}), "b": Resources({"cpu": 8})})
        assert (schedule.makespan, set(schedule.nodes.values())) == (1.0, {"b"})

    def test_unless_it_is_full_already(self) -> None:
        others = [Function("other", max, cost={"cpu": 4}, node="a")]
        schedule = TimeOptimized().schedule([*others, *self.THREE], dict.fromkeys("ab", Resources({"cpu": 6})))
        assert (schedule.makespan, schedule.nodes["first"]) == (1.0, "b")

    def test_all_of_the_work_counts_on_nodes_of_different_speed(self) -> None:
        slow = Function("slow", max, ["quick"], node=collocated("quick"), duration={"a": 9, "b": 2})
        quick = Function("quick", max, duration={"a": 1, "b": 2})
        heft = TimeOptimized(search=False)
        assert heft.schedule([quick, slow], dict.fromkeys("ab", Resources({"cpu": 2}))).makespan == 4

    def test_they_may_take_no_time(self) -> None:
        pair = [Function("x", max, duration=0), Function("y", max, duration=0, node=collocated("x"))]
        assert TimeOptimized().schedule(pair, NODES).makespan == 0

    def test_nodes_that_cannot_hold_them_do_not_count(self) -> None:
        pair = [Function("x", max, cost={"gpu": 1}), Function("y", max, cost={"gpu": 1}, node=collocated("x"))]
        assert TimeOptimized().schedule(pair, {"a": Resources({"cpu": 9}), "b": Resources({"gpu": 1})}).makespan == 2


class TestTimeline:
    def test_a_gap_that_is_long_enough_is_used(self) -> None:
        line = Timeline([1.0])
        line.add(0, 2, [(0, 1.0)])
        line.add(5, 9, [(0, 1.0)])
        assert line.earliest(0, 3, [(0, 1.0)]) == 2
        assert line.earliest(3, 2, [(0, 1.0)]) == 3
        assert line.earliest(0, 4, [(0, 1.0)]) == 9
        assert line.earliest(20, 4, [(0, 1.0)]) == 20

    @given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5), st.sampled_from([1, 2, 3])), max_size=25))
    def test_it_finds_what_trying_every_moment_finds(self, asked: list[tuple[int, int, int]]) -> None:
        line, used = Timeline([3.0, 4.0]), [[0, 0] for _ in range(300)]
        for ready, duration, amount in asked:
            start = line.earliest(ready, duration, [(0, 1.0), (1, float(amount))])
            expected = next(
                t
                for t in range(ready, 300)
                if all(used[at][0] < 3 and used[at][1] + amount <= 4 for at in range(t, t + max(1, duration)))
            )
            assert start == expected
            line.add(start, start + duration, [(0, 1.0), (1, float(amount))])
            for at in range(expected, expected + duration):
                used[at][0] += 1
                used[at][1] += amount


def test_search_compares_fewer_nodes_per_function_where_there_are_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts the looks at timelines, which bound the time that it takes."""
    looks = 0
    earliest = Timeline.earliest

    def counted(self: Timeline, ready: float, duration: float, need: Sequence[tuple[int, float]]) -> float:
        nonlocal looks
        looks += 1
        return earliest(self, ready, duration, need)

    monkeypatch.setattr(Timeline, "earliest", counted)
    nodes = {f"n{i:03}": Resources({"cpu": 1}) for i in range(100)}
    functions = [
        Function(
            i, max, [i - 10] if i >= 10 else [], duration={node: 5 + (3 * i + j) % 7 for j, node in enumerate(nodes)}
        )
        for i in range(500)
    ]
    TimeOptimized(bandwidth=1.0, latency=0.1).schedule(functions, nodes)
    assert looks < 200_000


def test_ten_thousand_functions_are_scheduled_in_near_linear_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts the pieces of timelines that are looked at, which a clock on a busy machine could not."""
    longest = 0
    add = Timeline.add

    def counted(self: Timeline, start: float, end: float, need: Sequence[tuple[int, float]]) -> None:
        nonlocal longest
        add(self, start, end, need)
        longest = max(longest, len(self._times))

    monkeypatch.setattr(Timeline, "add", counted)
    functions = [Function(i, max, [i - 50] if i >= 50 else [], duration=1 + i % 7) for i in range(10_000)]
    schedule = TimeOptimized().schedule(functions, {f"n{i}": Resources({"cpu": 2}) for i in range(10)})
    assert len(schedule.nodes) == 10_000
    assert longest < 200
