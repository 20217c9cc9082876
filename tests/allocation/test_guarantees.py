"""What holds for every strategy, and what is refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handoff_lab._errors import AllocationError, UnknownStrategyError
from handoff_lab.allocation import STRATEGIES, Allocation, Allocator, TimeOptimized, allocate, resolve_allocator
from handoff_lab.graph import Collocated, Function, collocated
from handoff_lab.resources import Resources

NODES = {
    "alpha": Resources({"cpu": 2, "memory": 4000}),
    "beta": Resources({"cpu": 4, "memory": 1000, "gpu": 1}),
    "gamma": Resources({"cpu": 1, "memory": 500}),
}

# Each of these fits alpha or beta; all but the last fit both.
COSTS = [None, {"cpu": 0.5}, {"cpu": 2}, {"cpu": 1, "memory": 700}, {"memory": 400}]


@st.composite
def graphs(draw: st.DrawFn) -> list[Function]:
    """Functions in topological order, some pinned, some collocated, all of which fit alpha and beta."""
    functions: list[Function] = []
    for id in range(draw(st.integers(1, 25))):
        ids = range(id)
        place = st.sampled_from([None, None, "alpha", "beta", *(collocated(other) for other in [*ids[-5:], 999])])
        functions.append(
            Function(
                id,
                max,
                draw(st.lists(st.sampled_from([*ids, "an input"]), unique=True, max_size=3)),
                cost=draw(st.sampled_from(COSTS)),
                node=draw(place),
                duration=draw(st.none() | st.floats(0, 9) | st.just({"alpha": 1.0, "beta": 2.0})),
                output_size=draw(st.none() | st.integers(0, 10**9)),
            )
        )
    return functions


def holds(functions: Sequence[Function], nodes: Mapping[str, Resources], allocation: Allocation) -> None:
    by_id = {function.id: function for function in functions}
    assert set(allocation) == set(allocation.priority) == set(by_id)
    for function in functions:
        node = allocation[function.id]
        assert function.cost.fits_in(nodes[node])
        if isinstance(function.node, str):
            assert node == function.node
        if isinstance(function.node, Collocated) and function.node.id in by_id:
            assert node == allocation[function.node.id]


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(functions=graphs())
@settings(max_examples=60, deadline=None)
def test_every_strategy_obeys_pins_collocations_and_capabilities(strategy: str, functions: list[Function]) -> None:
    holds(functions, NODES, allocate(strategy, functions, NODES))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_collocated_with_one_that_is_not_run_lie_together(strategy: str) -> None:
    functions = [
        Function("a", max, node=collocated("left out"), cost={"cpu": 2}),
        Function("x", max, cost={"cpu": 2}),
        Function("b", max, node=collocated("left out"), cost={"cpu": 2}),
    ]
    allocation = allocate(strategy, functions, {"n": Resources({"cpu": 2}), "m": Resources({"cpu": 2})})
    assert allocation["a"] == allocation["b"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_same_question_gets_the_same_answer(strategy: str) -> None:
    functions = [Function(i, max, [i - 1] if i % 3 else [], cost={"cpu": 1 + i % 2}, duration=i % 5) for i in range(30)]
    nodes = {"alpha": Resources({"cpu": 2}), "beta": Resources({"cpu": 4})}
    first = allocate(strategy, functions, nodes)
    again = allocate(strategy, functions, dict(reversed(nodes.items())))
    assert dict(first) == dict(again)
    assert first.priority == again.priority


def test_priority_is_the_place_in_the_dag_unless_the_allocator_says() -> None:
    functions = [Function("a", max), Function("b", max), Function("c", max)]

    def mine(functions: Sequence[Function], capabilities: Mapping[str, Resources]) -> Allocation:
        return Allocation(dict.fromkeys("abc", "alpha"), {"b": -1.0})

    assert allocate(mine, functions, NODES).priority == {"a": 0.0, "b": -1.0, "c": 2.0}


@pytest.mark.parametrize("priority", [None, "1", float("nan"), float("inf"), pytest.param(10**400, id="huge")])
def test_a_priority_is_a_finite_number(priority: Any) -> None:
    functions = [Function("a", max), Function("b", max)]
    answer = Allocation(dict.fromkeys("ab", "alpha"), {"b": priority})
    with pytest.raises(AllocationError, match=r"'b': was given the priority .* finite number"):
        allocate(lambda functions, capabilities: answer, functions, NODES)


class TestWhatFitsNowhere:
    def test_names_the_cost_and_what_the_best_node_lacks(self) -> None:
        functions = [Function("small", max, cost={"cpu": 1}), Function("big", max, cost={"cpu": 6, "memory": 900})]
        with pytest.raises(AllocationError) as caught:
            allocate("first_available", functions, NODES)
        error = pickle.loads(pickle.dumps(caught.value))
        assert (error.function, error.cost, error.best_node) == ("big", {"cpu": 6, "memory": 900}, "beta")
        assert error.shortfall == {"cpu": 2}
        assert "'beta' comes closest and lacks cpu 2" in str(error)

    def test_best_is_the_node_that_lacks_the_smallest_share(self) -> None:
        nodes = {"a": Resources({"cpu": 2, "memory": 100}), "b": Resources({"cpu": 1, "memory": 990})}
        with pytest.raises(AllocationError) as caught:
            allocate("locality", [Function("f", max, cost={"cpu": 2, "memory": 1000})], nodes)
        assert caught.value.best_node == "b"

    def test_without_nodes(self) -> None:
        with pytest.raises(AllocationError, match="no nodes"):
            allocate("load_balanced", [Function("f", max, cost={"cpu": 1})], {})

    def test_the_allocator_is_not_asked(self) -> None:
        def never(functions: object, capabilities: object) -> dict[object, str]:
            raise AssertionError

        with pytest.raises(AllocationError, match="'big' costs"):
            allocate(never, [Function("big", max, cost={"gpu": 2})], NODES)

    def test_a_pin_to_a_node_that_is_not_there(self) -> None:
        with pytest.raises(AllocationError, match=r"'f': is pinned to 'delta'.*'alpha', 'beta', 'gamma'"):
            allocate("first_available", [Function("f", max, node="delta")], NODES)

    def test_a_pin_to_a_node_that_cannot_hold_it(self) -> None:
        with pytest.raises(AllocationError, match="pinned to 'gamma', which lacks cpu 1") as caught:
            allocate("first_available", [Function("f", max, node="gamma", cost={"cpu": 2})], NODES)
        assert caught.value.shortfall == {"cpu": 1}

    def test_a_partner_of_a_pinned_function_that_does_not_fit_there(self) -> None:
        functions = [Function("f", max, node="gamma"), Function("g", max, node=collocated("f"), cost={"cpu": 2})]
        with pytest.raises(AllocationError, match=r"'g': .* bound by collocation to 'gamma'"):
            allocate("first_available", functions, NODES)

    def test_partners_that_no_node_holds_both(self) -> None:
        functions = [
            Function("f", max, cost={"memory": 3000}),
            Function("g", max, node=collocated("f"), cost={"gpu": 1}),
        ]
        with pytest.raises(AllocationError, match="'f': is collocated with 'g'") as caught:
            allocate("first_available", functions, NODES)
        assert caught.value.cost == {"memory": 3000, "gpu": 1}


class TestAnswersThatBreakARule:
    FUNCTIONS = (
        Function("free", max, cost={"cpu": 2}),
        Function("pinned", max, node="alpha"),
        Function("partner", max, node=collocated("free")),
    )
    GOOD: ClassVar = {"free": "beta", "pinned": "alpha", "partner": "beta"}

    def test_the_good_answer_is_taken(self) -> None:
        assert dict(allocate(lambda functions, nodes: self.GOOD, self.FUNCTIONS, NODES)) == self.GOOD

    @pytest.mark.parametrize(
        ("change", "named", "why"),
        [
            ({"free": None}, "free", "given no node"),
            ({"free": "delta"}, "free", "'delta', which is not there"),
            ({"free": ["beta"]}, "free", "not there"),
            ({"free": "gamma", "partner": "gamma"}, "free", "more than 'gamma' has"),
            ({"pinned": "beta"}, "pinned", "bound to 'alpha', but the allocator gave it to 'beta'"),
            ({"partner": "alpha"}, "partner", "collocated with 'free' on 'beta'"),
        ],
    )
    def test_a_bad_one_names_the_function(self, change: dict[str, str], named: str, why: str) -> None:
        with pytest.raises(AllocationError, match=why) as caught:
            allocate(lambda functions, nodes: {**self.GOOD, **change}, self.FUNCTIONS, NODES)
        assert caught.value.function == named

    def test_a_node_that_the_allocator_made_up_is_not_there(self) -> None:
        def ghost(functions: Sequence[Function], capabilities: Any) -> dict[object, str]:
            capabilities["ghost"] = Resources({"cpu": 9})
            return {function.id: "ghost" for function in functions}

        with pytest.raises(AllocationError, match="'ghost', which is not there"):
            allocate(ghost, [Function("f", max)], dict(NODES))

    def test_an_allocator_may_use_up_what_it_was_given(self) -> None:
        def greedy(functions: Any, capabilities: Any) -> dict[object, str]:
            answer: dict[object, str] = {}
            while functions:
                function = functions.pop()
                node = next(node for node in capabilities if function.cost.fits_in(capabilities[node]))
                capabilities[node] -= function.cost
                answer[function.id] = node
            return answer

        functions = [Function("f", max, cost={"cpu": 2}), Function("g", max, cost={"cpu": 2})]
        nodes = {"n": Resources({"cpu": 4})}
        assert dict(allocate(greedy, functions, nodes)) == {"f": "n", "g": "n"}
        assert (len(functions), nodes) == (2, {"n": Resources({"cpu": 4})})

    def test_what_an_allocator_raises_is_the_cause(self) -> None:
        def broken(functions: object, capabilities: object) -> dict[object, str]:
            raise KeyError("oops")

        with pytest.raises(AllocationError, match="the allocator raised KeyError: 'oops'") as caught:
            allocate(broken, self.FUNCTIONS, NODES)
        assert isinstance(caught.value.__cause__, KeyError)

    @pytest.mark.parametrize("answer", [None, ["beta"]])
    def test_an_answer_is_a_mapping(self, answer: object) -> None:
        with pytest.raises(AllocationError, match="not a mapping"):
            allocate(lambda functions, nodes: answer, self.FUNCTIONS, NODES)  # type: ignore[arg-type, return-value]


class LastByName:
    """An allocator as a user writes it."""

    def allocate(self, functions: Sequence[Function], capabilities: Mapping[str, Resources]) -> dict[object, str]:
        return {function.id: max(capabilities) for function in functions}


@pytest.mark.parametrize("given_as", [LastByName(), LastByName, LastByName().allocate], ids=["object", "class", "call"])
def test_custom_allocators_come_in_three_ways(given_as: Allocator | Callable[..., Mapping[object, str]]) -> None:
    assert allocate(given_as, [Function("f", max)], NODES)["f"] == "gamma"


def test_names_are_resolved_and_misspelt_ones_explained() -> None:
    assert isinstance(resolve_allocator("time_optimized"), TimeOptimized)
    with pytest.raises(UnknownStrategyError, match="did you mean 'time_optimized'") as caught:
        resolve_allocator("time_optimised")
    assert pickle.loads(pickle.dumps(caught.value)).known == STRATEGIES
    with pytest.raises(TypeError, match="no allocator"):
        resolve_allocator(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_nothing_to_allocate(strategy: str) -> None:
    assert dict(allocate(strategy, [], {})) == {}
