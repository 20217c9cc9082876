"""What makes allocation quick changes none of its answers: each shortcut against the long way."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Hashable, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handoff_lab._errors import AllocationError
from handoff_lab.allocation import allocate, locality, shortlist
from handoff_lab.allocation.cost_optimized import _Packing
from handoff_lab.allocation.loads import Emptiest, NodeLoad
from handoff_lab.graph import Function
from handoff_lab.resources import Resources

NODES = {
    "local": Resources({"cpu": 1, "memory": 900}),
    **{f"n{place}": Resources({"cpu": 1 + place % 3, "memory": 1000, "gpu": place % 2}) for place in range(6)},
}
COSTS = [None, {"cpu": 1}, {"cpu": 0.5, "memory": 300}, {"memory": 700}, {"gpu": 1}, {"cpu": 3}]


@st.composite
def graphs(draw: st.DrawFn) -> list[Function]:
    """Functions in topological order, a few pinned, with and without sizes."""
    sized = draw(st.booleans())
    return [
        Function(
            id,
            max,
            draw(st.lists(st.sampled_from(range(id)), unique=True, max_size=3)) if id else [],
            cost=draw(st.sampled_from(COSTS)),
            node=draw(st.sampled_from([None] * 9 + ["n5"])),
            output_size=draw(st.sampled_from([None, 10, 1000])) if sized else None,
        )
        for id in range(draw(st.integers(1, 40)))
    ]


def same_either_way(
    monkeypatch: pytest.MonkeyPatch,
    strategy: str,
    functions: Sequence[Function],
    target: object,
    name: str,
    way: object,
) -> None:
    quick = _answer(strategy, functions)
    with monkeypatch.context() as patch:
        patch.setattr(target, name, way)
        assert _answer(strategy, functions) == quick


def _answer(strategy: str, functions: Sequence[Function]) -> dict[Hashable, str] | str:
    try:
        return dict(allocate(strategy, functions, NODES))
    except AllocationError as error:
        return str(error)


unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(functions=graphs())
@unhurried
def test_locality_leaves_out_only_nodes_that_are_no_better(
    monkeypatch: pytest.MonkeyPatch, functions: list[Function]
) -> None:
    monkeypatch.setattr(locality, "_FEW", 0)
    monkeypatch.setattr(locality, "_KEPT", 2)
    same_either_way(monkeypatch, "locality", functions, locality, "_FEW", 100)


def test_what_passes_nothing_takes_no_share_of_those_that_do() -> None:
    there = {"a": Resources({"cpu": 1}), "b": Resources({"cpu": 1})}
    alone = [Function(f"alone {i}", max, cost={"cpu": 1}) for i in range(20)]
    passing = [Function(i, max, cost={"cpu": 1}) for i in range(4)]
    allocation = allocate("locality", [*alone, *passing, Function("end", max, list(range(4)))], there)
    assert sorted(allocation[i] for i in range(4)) == ["a", "a", "b", "b"]
    assert [allocation[function.id] for function in alone].count("a") == 10


def test_locality_takes_little_memory_on_many_nodes() -> None:
    layer, nodes = 1500, {f"n{place}": Resources({"cpu": 1}) for place in range(3000)}
    functions = [Function(i, max, [i - layer] if i >= layer else [], cost={"cpu": 1}) for i in range(2 * layer)]
    tracemalloc.start()
    try:
        allocation = allocate("locality", functions, nodes)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(set(allocation.values())) == layer
    assert peak < 10 * 10**6


@given(functions=graphs())
@unhurried
def test_what_goes_where_the_one_before_went_would_have_gone_there(
    monkeypatch: pytest.MonkeyPatch, functions: list[Function]
) -> None:
    same_either_way(monkeypatch, "cost_optimized", functions, _Packing, "_as_before", lambda self, demand: None)


@given(functions=graphs())
@unhurried
def test_first_available_tries_nodes_in_handoffs_order(functions: list[Function]) -> None:
    if isinstance(quick := _answer("first_available", functions), dict):
        assert quick == _by_the_book(functions)


def _by_the_book(functions: Sequence[Function]) -> dict[Hashable, str]:
    order, left, nodes = list(NODES), dict(NODES), {}
    for function in sorted(functions, key=lambda function: function.node is None):
        if function.node is None:
            room = [node for node in order if function.cost.fits_in(left[node])]
            if not room:
                left = dict(NODES)
                room = [node for node in order if function.cost.fits_in(left[node])]
            node = room[0]
            if function.cost:
                order.remove(node)
                order.insert(0, node)
        else:
            node = str(function.node)
        left[node] -= function.cost
        nodes[function.id] = node
    return nodes


@given(given_first=st.lists(st.sampled_from(sorted(NODES)), max_size=60), cost=st.sampled_from([{}, {"cpu": 0.5}]))
def test_the_emptiest_is_found_whatever_was_given_to_the_nodes(given_first: list[str], cost: dict[str, float]) -> None:
    loads = {node: NodeLoad(has) for node, has in NODES.items()}
    demand = Resources(cost)
    emptiest = Emptiest(sorted(NODES), loads, 0, demand, 1)
    for node in given_first:
        expected = min(sorted(NODES), key=lambda node: loads[node].after_one(0, demand, 1))
        assert emptiest.find() == (expected, loads[expected].after_one(0, demand, 1))
        loads[node].add_one(0, demand, 1)
        loads[expected].add_one(1, demand, 1)  # at another depth, which makes no difference


class TestManyNodes:
    """`time_optimized` compares a few nodes for each function where there are too many pairs."""

    @pytest.fixture(autouse=True)
    def _always(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shortlist, "_EXACT", 0)

    def test_a_fan_out_uses_all_nodes_alike(self) -> None:
        there = {f"n{place}": Resources({"cpu": 2}) for place in range(50)}
        allocation = allocate("time_optimized", [Function(i, max, cost={"cpu": 1}) for i in range(400)], there)
        assert {list(allocation.values()).count(node) for node in there} == {8}

    def test_a_chain_stays_where_its_results_are(self) -> None:
        there = {f"n{place:02}": Resources({"cpu": 1}) for place in range(20)}
        functions = [Function(i, max, [i - 2] if i > 1 else [], output_size=10**8) for i in range(60)]
        allocation = allocate("time_optimized", functions, there)
        assert all(allocation[i] == allocation[i % 2] for i in range(60))
        assert allocation[0] != allocation[1]

    @given(functions=graphs())
    @unhurried
    def test_each_function_fits_where_it_goes(self, functions: list[Function]) -> None:
        answer = _answer("time_optimized", functions)
        if isinstance(answer, dict):
            assert all(function.cost.fits_in(NODES[answer[function.id]]) for function in functions)


Break = Callable[[dict[Hashable, str]], None]


@pytest.mark.parametrize(
    ("fault", "story"),
    [
        (lambda answer: answer.update({70: "n0"}), "70: costs cpu 3, more than 'n0' has"),
        (lambda answer: answer.update({70: "nowhere"}), "70: was given node 'nowhere', which is not there"),
        (lambda answer: answer.update({70: ["n2"]}), "70: was given node"),
        (lambda answer: answer.pop(70), "70: was given no node"),
        (lambda answer: answer.update({0: "n2"}), "0: is bound to 'n5', but the allocator gave it to 'n2'"),
    ],
)
def test_one_bad_answer_among_many_of_a_kind_is_found(fault: Break, story: str) -> None:
    functions = [Function(0, max, node="n5"), *(Function(i, max, cost={"cpu": 3}) for i in range(1, 100))]
    answer: dict[Hashable, str] = {0: "n5", **dict.fromkeys(range(1, 100), "n2")}
    fault(answer)
    with pytest.raises(AllocationError) as caught:
        allocate(lambda functions, capabilities: answer, functions, NODES)
    assert story in str(caught.value)
