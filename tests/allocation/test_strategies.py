"""What sets each strategy apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import pytest

from handoff_lab.allocation import STRATEGIES, Allocation, allocate, resolve_allocator
from handoff_lab.allocation.first_available import FirstAvailable
from handoff_lab.graph import Argument, Function, collocated
from handoff_lab.resources import Resources


def nodes(**capabilities: Mapping[str, float]) -> dict[str, Resources]:
    return {name: Resources(has) for name, has in capabilities.items()}


def fan(count: int, cost: dict[str, float] | None = None, **options: object) -> list[Function]:
    return [Function(f"f{place:03}", max, cost=cost, **options) for place in range(count)]  # type: ignore[arg-type]


def per_node(allocation: Allocation) -> dict[str, int]:
    return dict(Counter(allocation.values()))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_three_in_a_row_of_cpu_2_fit_a_node_of_cpu_4(strategy: str) -> None:
    functions = [
        Function("a", max, cost={"cpu": 2}),
        Function("b", max, ["a"], cost={"cpu": 2}),
        Function("c", max, ["b"], cost={"cpu": 2}),
    ]
    assert per_node(allocate(strategy, functions, nodes(only={"cpu": 4}))) == {"only": 3}


class TestFirstAvailable:
    """Handoff's order; the first scenario is that of its own resource test."""

    NODES = nodes(node1={"cpu": 2, "memory": 1000}, node2={"cpu": 4, "memory": 2000})

    def test_handoffs_own_example(self) -> None:
        functions = [
            Function("fn1", max, cost={"cpu": 1}),
            Function("fn2", max, cost={"cpu": 3}),
            Function("fn3", max, cost={"memory": 1500}),
        ]
        allocation = allocate("first_available", functions, self.NODES)
        assert dict(allocation) == {"fn1": "node1", "fn2": "node2", "fn3": "node2"}

    def test_it_spills_to_the_next_node_and_stays_there(self) -> None:
        functions = [*fan(3, {"cpu": 1}), Function("free", max)]
        allocation = allocate("first_available", functions, self.NODES)
        assert list(allocation.values()) == ["node1", "node1", "node2", "node2"]

    def test_this_node_comes_first(self) -> None:
        here = {**self.NODES, "zeta": Resources({"cpu": 1})}
        assert allocate("first_available", fan(1), here)["f000"] == "node1"
        assert allocate(FirstAvailable("zeta"), fan(1), here)["f000"] == "zeta"
        local = {"alpha": Resources({"cpu": 1}), "local": Resources({"cpu": 1})}
        assert allocate("first_available", fan(1), local)["f000"] == "local"

    def test_pinned_functions_take_their_share_before_the_others(self) -> None:
        functions = [Function("first", max, cost={"cpu": 1}), Function("pinned", max, cost={"cpu": 2}, node="node1")]
        assert allocate("first_available", functions, self.NODES)["first"] == "node2"

    def test_the_cost_of_a_group_is_placed_together(self) -> None:
        functions = [
            Function("a", max, cost={"cpu": 1}),
            Function("b", max, cost={"cpu": 1}, node=collocated("a")),
            Function("c", max, cost={"cpu": 1}, node=collocated("b")),
        ]
        assert per_node(allocate("first_available", functions, self.NODES)) == {"node2": 3}

    def test_when_all_are_full_functions_take_turns_where_each_fits(self) -> None:
        functions = [
            *fan(6, {"cpu": 1}),
            Function("late", max, cost={"cpu": 3}),
            Function("last", max, cost={"cpu": 1}),
        ]
        allocation = allocate("first_available", functions, nodes(a={"cpu": 2}, b={"cpu": 4}))
        assert allocation["late"] == "b"
        assert allocation["last"] == "b"

    def test_a_full_node_is_looked_at_once_in_a_round(self, monkeypatch: pytest.MonkeyPatch) -> None:
        looks = 0
        fits_in = Resources.fits_in

        def counted(self: Resources, other: Resources) -> bool:
            nonlocal looks
            looks += 1
            return fits_in(self, other)

        monkeypatch.setattr(Resources, "fits_in", counted)
        there = nodes(**{f"n{place:03}": {"cpu": 1} for place in range(100)})
        allocation = FirstAvailable().allocate(fan(200, {"cpu": 1}), there)
        assert set(per_node(allocation).values()) == {2}
        assert looks < 1000


class TestLoadBalanced:
    def test_shares_follow_capacity(self) -> None:
        there = nodes(big={"cpu": 8}, small={"cpu": 2})
        assert per_node(allocate("load_balanced", fan(100, {"cpu": 1}), there)) == {"big": 80, "small": 20}

    def test_functions_without_a_cost_are_balanced_by_cpus(self) -> None:
        there = nodes(big={"cpu": 8}, small={"cpu": 2})
        assert per_node(allocate("load_balanced", fan(100), there)) == {"big": 80, "small": 20}

    def test_the_fullest_resource_counts(self) -> None:
        there = nodes(lean={"cpu": 40, "memory": 1000}, rich={"cpu": 40, "memory": 9000})
        shares = per_node(allocate("load_balanced", fan(10, {"memory": 900}), there))
        assert shares["rich"] == 9

    def test_pins_count_as_load(self) -> None:
        functions = [*fan(4, {"cpu": 1}), Function("pinned", max, cost={"cpu": 4}, node="a")]
        allocation = allocate("load_balanced", functions, nodes(a={"cpu": 4}, b={"cpu": 4}))
        assert {allocation[f.id] for f in functions[:-1]} == {"b"}


class TestCostOptimized:
    def test_fewest_nodes_hold_what_runs_side_by_side(self) -> None:
        costs = [1, 2, 3, 2]
        functions = [Function(place, max, cost={"cpu": cpu}) for place, cpu in enumerate(costs)]
        there = nodes(**{f"n{place}": {"cpu": 4} for place in range(5)})
        allocation = allocate("cost_optimized", functions, there)
        assert len(per_node(allocation)) == 2
        for node in set(allocation.values()):
            assert sum(costs[id] for id in allocation if allocation[id] == node) == 4  # type: ignore[call-overload]

    def test_a_chain_holds_one_node(self) -> None:
        functions = [Function(i, max, [i - 1] if i else [], cost={"cpu": 2}) for i in range(20)]
        there = nodes(big={"cpu": 8}, small={"cpu": 2}, other={"cpu": 2})
        assert per_node(allocate("cost_optimized", functions, there)) == {"other": 20}

    def test_a_gpu_node_is_kept_for_gpu_work(self) -> None:
        functions = [*fan(8, {"cpu": 1}), Function("train", max, cost={"cpu": 1, "gpu": 1}), Function("free", max)]
        allocation = allocate("cost_optimized", functions, nodes(a_gpu={"cpu": 4, "gpu": 2}, plain={"cpu": 2}))
        assert allocation["train"] == "a_gpu"
        assert per_node(allocation) == {"a_gpu": 1, "plain": 9}

    def test_unless_no_other_node_can_hold_it(self) -> None:
        allocation = allocate(
            "cost_optimized", fan(1, {"cpu": 4}), nodes(gpu={"cpu": 4, "gpu": 1, "fpga": 1}, fpga={"cpu": 8, "fpga": 1})
        )
        assert per_node(allocation) == {"fpga": 1}


class TestLocality:
    NODES = nodes(a={"cpu": 2}, b={"cpu": 2})

    def moved(self, functions: Sequence[Function], allocation: Allocation) -> float:
        return sum(
            argument.nbytes or 0
            for function in functions
            for argument in function.arguments
            if allocation[argument.id] != allocation[function.id]
        )

    def test_a_function_goes_to_its_larger_input(self) -> None:
        functions = [
            Function("small", max, node="a", output_size=10),
            Function("large", max, node="b", output_size=10**9),
            Function("join", max, ["small", "large"]),
        ]
        assert allocate("locality", functions, self.NODES)["join"] == "b"

    def test_the_bytes_of_an_edge_count_more_than_those_of_the_result(self) -> None:
        functions = [
            Function("small", max, node="a", output_size=10),
            Function("large", max, node="b", output_size=10**9),
            Function("join", max, ["small", Argument("large", nbytes=1)]),
        ]
        assert allocate("locality", functions, self.NODES)["join"] == "a"

    def test_a_producer_goes_to_its_pinned_consumer(self) -> None:
        functions = [Function("make", max, output_size=10**9), Function("use", max, ["make"], node="b")]
        assert allocate("locality", functions, self.NODES)["make"] == "b"

    def test_what_was_moved_once_is_there(self) -> None:
        functions = [
            Function("data", max, node="a", output_size=100),
            Function("first", max, ["data"], node="b", output_size=1),
            Function("second", max, ["data", "first"]),
        ]
        assert allocate("locality", functions, self.NODES)["second"] == "b"

    def test_independent_chains_spread_and_stay(self) -> None:
        functions = [
            Function(f"{chain}{place}", max, [Argument(f"{chain}{place - 1}", nbytes=100)] if place else [])
            for place in range(5)
            for chain in "wxyz"
        ]
        allocation = allocate("locality", functions, self.NODES)
        assert self.moved(functions, allocation) == 0
        assert per_node(allocation) == {"a": 10, "b": 10}

    def test_inputs_of_a_join_lie_together_while_there_is_room(self) -> None:
        there = nodes(a={"cpu": 4}, b={"cpu": 4})
        functions = [*fan(4, output_size=100), Function("join", max, [f"f{i:03}" for i in range(4)])]
        assert len(per_node(allocate("locality", functions, there))) == 1

    def test_without_sizes_a_fan_out_uses_every_node(self) -> None:
        functions = [Function("source", max), *(Function(i, max, ["source"]) for i in range(8))]
        shares = per_node(allocate("locality", functions, self.NODES))
        assert sorted(shares.values()) == [4, 5]

    def test_it_moves_fewer_bytes_than_the_others(self) -> None:
        functions = [
            Function(
                (layer, i),
                max,
                [Argument((layer - 1, j), nbytes=1 + 7 * i % 5) for j in (i, (i + 1) % 6)] if layer else [],
            )
            for layer in range(5)
            for i in range(6)
        ]
        moved = {name: self.moved(functions, allocate(name, functions, self.NODES)) for name in STRATEGIES}
        assert moved["locality"] < min(moved["load_balanced"], moved["time_optimized"])


class TestLargeResults:
    """Functions that pass 100 MB land together when costs allow."""

    PAIRS = 4
    FUNCTIONS = (
        *(Function(f"make{i}", max, cost={"cpu": 1}, output_size=100e6, duration=1.0) for i in range(PAIRS)),
        *(Function(f"use{i}", max, [f"make{i}"], cost={"cpu": 1}, duration=1.0) for i in reversed(range(PAIRS))),
    )

    @pytest.mark.parametrize("strategy", ["locality", "load_balanced", "time_optimized"])
    def test_they_land_together_and_all_nodes_are_used(self, strategy: str) -> None:
        allocation = allocate(strategy, self.FUNCTIONS, nodes(a={"cpu": 2}, b={"cpu": 2}))
        assert all(allocation[f"make{i}"] == allocation[f"use{i}"] for i in range(self.PAIRS))
        assert per_node(allocation) == {"a": self.PAIRS, "b": self.PAIRS}

    @pytest.mark.parametrize("strategy", ["locality", "load_balanced", "time_optimized"])
    def test_but_not_where_there_is_no_room_for_one_of_them(self, strategy: str) -> None:
        functions = [
            Function("make", max, cost={"gpu": 1}, output_size=100e6),
            Function("use", max, ["make"], cost={"memory": 2000}),
        ]
        allocation = allocate(strategy, functions, nodes(a={"gpu": 1, "memory": 1000}, b={"memory": 4000}))
        assert (allocation["make"], allocation["use"]) == ("a", "b")

    def test_time_is_not_worth_more_than_the_move(self) -> None:
        functions = [
            Function("make", max, output_size=100e6, duration=0.01),
            Function("one", max, ["make"], duration=0.01),
            Function("other", max, ["make"], duration=0.01),
        ]
        assert len(per_node(allocate("time_optimized", functions, nodes(a={"cpu": 1}, b={"cpu": 1})))) == 1


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_strategies_say_whether_what_waits_may_be_moved(strategy: str) -> None:
    may = strategy in ("load_balanced", "locality", "time_optimized")
    assert getattr(resolve_allocator(strategy), "rebalances", False) is may


def test_locality_lets_a_lone_function_go_where_its_input_lies() -> None:
    there = {"a": Resources({"cpu": 1}), "b": Resources({"cpu": 1})}
    args: dict[str, list[str]] = {"s0": [], "s1": [], "x0": ["s0"], "x1": ["s1"], "f": ["x1"]}
    allocation = allocate("locality", [Function(id, max, above) for id, above in args.items()], there)
    assert allocation["s0"] != allocation["s1"]
    assert allocation["f"] == allocation["x1"] == allocation["s1"]
