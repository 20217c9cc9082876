"""Arithmetic of costs."""

from __future__ import annotations

import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handoff_lab._errors import ResourceError
from handoff_lab.resources import Resources, parse_capabilities, parse_cost

amounts = st.dictionaries(
    st.sampled_from(["cpu", "memory", "gpu", "licence"]), st.floats(0, 1e5) | st.integers(0, 10**5), max_size=4
).map(Resources)


def test_any_name_and_any_kind_of_number_is_taken() -> None:
    cost = parse_cost({"cpu": 2, "fpga": Fraction(1, 2), "gpu": np.int64(1), "licence": np.float64(0.25)})

    assert dict(cost) == {"cpu": 2.0, "fpga": 0.5, "gpu": 1.0, "licence": 0.25}
    assert all(type(amount) is float for amount in cost.values())


@pytest.mark.parametrize(
    ("written", "megabytes"),
    [("500MB", 500.0), ("2GiB", 2147.483648), ("750", 750.0), (300, 300.0), ("1.5 GB", 1500.0)],
)
def test_memory_is_in_megabytes_and_takes_units(written: object, megabytes: float) -> None:
    assert parse_cost({"memory": written})["memory"] == megabytes


@pytest.mark.parametrize("amount", [-1, -0.001, math.nan, math.inf, True, None, "2", [1], 1j, np.bool_(True)], ids=repr)
def test_what_is_no_amount_is_refused_by_name(amount: object) -> None:
    with pytest.raises(ResourceError, match="'cpu'") as caught:
        parse_cost({"memory": 100, "cpu": amount})
    assert caught.value.resource == "cpu"
    assert pickle.loads(pickle.dumps(caught.value)).resource == "cpu"


@pytest.mark.parametrize("text", ["much", "-2GB", "", "2 GiB/s"])
def test_memory_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ResourceError, match="memory"):
        parse_cost({"memory": text})


@pytest.mark.parametrize("cost", [["cpu"], 2, "cpu"])
def test_a_cost_is_a_mapping(cost: object) -> None:
    with pytest.raises(ResourceError, match="mapping"):
        parse_cost(cost)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", 1, None])
def test_names_are_text(name: object) -> None:
    with pytest.raises(ResourceError, match="name"):
        parse_cost({name: 1})  # type: ignore[dict-item]


def test_a_cost_drops_zeros_and_capabilities_keep_them() -> None:
    assert list(parse_cost({"cpu": 1, "gpu": 0})) == ["cpu"]
    assert list(parse_capabilities({"cpu": 1, "gpu": 0})) == ["cpu", "gpu"]
    assert parse_cost(None) == {} == parse_capabilities(None)


def test_what_is_not_named_is_there_zero_times() -> None:
    node = Resources({"cpu": 4, "gpu": 0})

    assert node["fpga"] == 0.0
    assert "fpga" not in node
    assert node.get("fpga") is None
    assert node == Resources({"cpu": 4}) == {"cpu": 4}
    assert hash(node) == hash(Resources({"cpu": 4}))
    assert node != {"cpu": 4, "gpu": 1}


def test_it_cannot_be_changed() -> None:
    node = Resources({"cpu": 4})
    with pytest.raises(TypeError):
        node["cpu"] = 5  # type: ignore[index]
    given_amounts = {"cpu": 4}
    node = Resources(given_amounts)
    given_amounts["cpu"] = 5
    assert node["cpu"] == 4


def test_ten_tenths_and_six_sixths_fit_one_cpu() -> None:
    one = Resources({"cpu": 1})
    for parts in (3, 6, 7, 10, 100):
        claimed = Resources()
        for _ in range(parts):
            assert Resources({"cpu": 1 / parts}).fits_beside(claimed, one)
            claimed += Resources({"cpu": 1 / parts})
        assert claimed.fits_in(one)
        assert not Resources({"cpu": 1 / parts}).fits_beside(claimed, one)


def test_shortfall_says_what_is_lacking_and_how_much() -> None:
    cost = Resources({"cpu": 6, "memory": 1000, "gpu": 1})
    assert dict(cost.shortfall(Resources({"cpu": 4, "memory": 2000}))) == {"cpu": 2, "gpu": 1}


def test_overdrawn_resources_stop_only_those_who_need_them() -> None:
    has, claimed = Resources({"cpu": 4, "memory": 100}), Resources({"cpu": 1, "memory": 500})
    assert Resources({"cpu": 3}).fits_beside(claimed, has)
    assert not Resources({"cpu": 3, "memory": 1}).fits_beside(claimed, has)
    assert Resources().fits_beside(claimed, has)


@given(st.lists(amounts, max_size=20), st.randoms(use_true_random=False))
def test_what_is_added_and_taken_away_leaves_exactly_nothing(claims: list[Resources], order: object) -> None:
    total = sum(claims, Resources())
    order.shuffle(claims)  # type: ignore[attr-defined]
    for claim in claims:
        assert claim.fits_in(total)
        total -= claim
    assert total == {}
    assert all(amount == 0.0 for amount in total.values())


@given(amounts, amounts)
def test_arithmetic_keeps_its_laws(one: Resources, other: Resources) -> None:
    assert one + other == other + one
    assert (one + other) - other == one
    assert one.fits_in(one + other)
    assert one.fits_in(other) == (not one.shortfall(other))
    assert all(amount >= 0 for amount in (one - other).values())
    assert one.scaled(2) == one + one
    assert one.scaled(0) == {}


@given(amounts)
def test_it_survives_pickling_and_its_repr_makes_it_again(resources: Resources) -> None:
    assert pickle.loads(pickle.dumps(resources)) == resources
    assert eval(repr(resources)) == resources
    assert hash(pickle.loads(pickle.dumps(resources))) == hash(resources)


@pytest.mark.parametrize("factor", [-1, math.nan, math.inf])
def test_a_factor_is_a_non_negative_number(factor: float) -> None:
    with pytest.raises(ResourceError):
        Resources({"cpu": 1}).scaled(factor)


def test_text_is_for_people() -> None:
    assert str(Resources({"cpu": 2, "memory": "4GB"})) == "cpu 2, memory 4000 MB"


def test_equal_costs_are_one_object_and_what_is_no_amount_is_refused_all_the_same() -> None:
    assert parse_cost({"cpu": 1}) is parse_cost({"cpu": 1})
    with pytest.raises(ResourceError):
        parse_cost({"cpu": True})
    with pytest.raises(ResourceError):
        parse_cost({"cpu": [1]})
    assert parse_cost({"cpu": 1.5}) == {"cpu": 1.5}


class TestGpuMemory:
    def test_it_takes_units(self) -> None:
        assert parse_cost({"gpu": 1, "gpu_memory": "4GiB"}) == {"gpu": 1, "gpu_memory": 4294.967296}

    def test_it_must_be_there_on_one_gpu(self) -> None:
        node = Resources({"gpu": 2, "gpu_memory": 32_000})
        assert Resources({"gpu": 2, "gpu_memory": 16_000}).fits_in(node)
        assert not Resources({"gpu": 0.1, "gpu_memory": 20_000}).fits_in(node)
        assert Resources({"gpu": 0.1, "gpu_memory": 20_000}).shortfall(node) == {"gpu_memory": 4000}
        assert Resources({"gpu_memory": 20_000}).fits_in(Resources({"gpu": 0.5, "gpu_memory": 20_000}))
        assert Resources({"gpu_memory": 1}).shortfall(Resources({"cpu": 1})) == {"gpu_memory": 1}

    def test_what_is_claimed_adds_up(self) -> None:
        node, cost = Resources({"gpu": 2, "gpu_memory": 32_000}), Resources({"gpu": 0.5, "gpu_memory": 16_000})
        assert cost.fits_beside(cost, node)
        assert not cost.fits_beside(cost + cost, node)
