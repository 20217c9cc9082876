"""The ledger of GPUs: who has which part of which."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handoff_lab.resources.devices import Device, Devices, Need, Share, need_of


def four(memory: float = 16_000) -> Devices:
    return Devices([Device(str(number), memory) for number in range(4)])


def taken(devices: Devices, *needs: float) -> list[Share]:
    shares = [devices.take(Need(need)) for need in needs]
    assert None not in shares
    return [share for share in shares if share is not None]


class TestPacking:
    def test_parts_share_a_gpu_and_whole_ones_stay_free(self) -> None:
        devices = four()
        shares = taken(devices, 0.5, 0.25, 0.25)
        assert {share.ids for share in shares} == {("0",)}
        assert devices.free() == {"0": 0, "1": 1, "2": 1, "3": 1}

    def test_a_part_goes_where_the_least_room_is_left(self) -> None:
        devices = four()
        first, *_ = taken(devices, 0.5, 0.7)
        assert taken(devices, 0.3)[0].ids == ("1",)
        devices.give_back(first)
        assert taken(devices, 0.1)[0].ids == ("0",), "not a gpu that is full"

    def test_whole_gpus_are_nobody_elses(self) -> None:
        devices = four()
        (pair,) = taken(devices, 2)
        assert pair.ids == ("0", "1")
        assert taken(devices, 0.1)[0].ids == ("2",)
        assert taken(devices, 1)[0].ids == ("3",)
        assert devices.take(Need(1)) is None
        devices.give_back(pair)
        assert taken(devices, 1, 1)[1].ids == ("1",)

    def test_one_and_a_half(self) -> None:
        devices = four()
        (share,) = taken(devices, 1.5)
        assert share.ids == ("0", "1")
        assert taken(devices, 0.5)[0].ids == ("1",)

    @pytest.mark.parametrize("parts", [3, 6, 7, 49])
    def test_equal_parts_fill_one_gpu_exactly(self, parts: int) -> None:
        devices = Devices([Device("0")])
        taken(devices, *[round(1 / parts, 9)] * parts)
        assert devices.take(Need(1 / parts)) is None

    def test_what_is_given_back_is_whole_again(self) -> None:
        devices = four()
        for share in taken(devices, *[0.1] * 10):
            devices.give_back(share)
        assert taken(devices, 4)[0].ids == ("0", "1", "2", "3")


class TestMemory:
    def test_it_is_held_on_each_gpu(self) -> None:
        devices = Devices([Device("small", 16_000), Device("large", 80_000)])
        assert devices.take(Need(0.1, 12_000)) == Share((), "small", 100_000, 12_000)
        share = devices.take(Need(0.1, 12_000))
        assert share is not None
        assert share.ids == ("large",)

    def test_what_asks_for_nothing_else_gets_a_gpu_that_has_it(self) -> None:
        devices = Devices([Device("0", 16_000)])
        share = devices.take(Need(0, 10_000))
        assert share is not None
        assert share.ids == ("0",)
        assert devices.take(Need(0, 10_000)) is None
        assert devices.take(Need(1)) is None, "somebody has memory there"
        devices.give_back(share)
        assert devices.take(Need(1)) is not None
        assert devices.take(Need(0, 1)) is None, "a whole GPU is one function's, with its memory"

    def test_what_no_gpu_has_can_never_be(self) -> None:
        devices = four()
        assert devices.could_hold(Need(2, 16_000))
        assert not devices.could_hold(Need(2, 20_000))
        assert not devices.could_hold(Need(5))
        assert devices.take(Need(1, 20_000)) is None

    def test_many_equal_parts_of_it_fit(self) -> None:
        devices = Devices([Device("0", 0.1 * 10)])
        shares = [devices.take(Need(0.1, 0.1)) for _ in range(10)]
        assert None not in shares


class TestOffer:
    def test_fewer_can_be_offered_than_there_are(self) -> None:
        devices = four()
        (share,) = taken(devices, 1)
        devices.resize(1)
        assert devices.take(Need(0.5)) is None
        devices.give_back(share)
        assert taken(devices, 0.5)[0].ids == ("0",)
        assert devices.could_hold(Need(4)), "they may be offered again"

    def test_part_of_a_gpu_is_offered_as_one(self) -> None:
        devices = four()
        devices.resize(0.5)
        assert taken(devices, 0.5)[0].ids == ("0",)

    def test_the_first_ones_only(self) -> None:
        devices = four()
        (share,) = taken(devices, 0.5)
        assert devices.take(Need(1), first=True) is None
        devices.give_back(share)
        first = devices.take(Need(1), first=True)
        assert first is not None
        assert first.ids == ("0",)


def test_a_cost_without_gpus_needs_none() -> None:
    assert need_of({"cpu": 4, "memory": 100}) is None
    assert need_of({"gpu_memory": 100}) == Need(0, 100)


_NEEDS = st.builds(
    Need,
    st.one_of(st.integers(0, 3), st.floats(0.001, 1), st.sampled_from([1 / 3, 1 / 6, 0.1, 1.5])),
    st.sampled_from([1, 100, 1000.5, 4000]),
)


@given(st.lists(st.one_of(_NEEDS, st.integers(0, 5)), max_size=40), st.integers(1, 4))
def test_no_gpu_is_ever_given_twice(steps: list[Need | int], count: int) -> None:
    """Take, or give back the share at a place; the sums of what is held are kept beside the ledger."""
    devices = Devices([Device(str(number), 4000) for number in range(count)])
    held: list[tuple[Need, Share]] = []
    for step in steps:
        if isinstance(step, Need):
            found = devices.find(step)
            share = devices.take(step)
            assert share == found
            if share is not None:
                held.append((step, share))
        elif step < len(held):
            devices.give_back(held.pop(step)[1])
        _check(held, count)
    for _, share in held:
        devices.give_back(share)
    assert devices.free() == dict.fromkeys(map(str, range(count)), 1)
    assert devices.take(Need(count, 4000)) is not None


def _check(held: list[tuple[Need, Share]], count: int) -> None:
    for need, share in held:
        assert len(set(share.ids)) == len(share.ids) == max(1, math.ceil(round(need.gpus, 6)))
    for id in map(str, range(count)):
        whole = [share for _, share in held if id in share.whole]
        parts = [(need, share) for need, share in held if share.part == id]
        assert len(whole) + bool(parts) <= 1
        assert sum(need.gpus % 1 for need, _ in parts) <= 1 + 1e-4
        assert sum(need.memory for need, _ in parts) <= 4000 + 1e-3


@given(st.lists(st.sampled_from([0.5, 0.25, 0.125]), min_size=1, max_size=16))
def test_parts_touch_no_more_gpus_than_they_must_when_they_come_largest_first(parts: list[float]) -> None:
    devices = Devices([Device(str(number)) for number in range(16)])
    shares = taken(devices, *sorted(parts, reverse=True))
    assert len({share.ids for share in shares}) == math.ceil(sum(parts))
    assert set(itertools.chain.from_iterable(share.ids for share in shares)) == set(
        map(str, range(math.ceil(sum(parts))))
    )


def test_what_fits_by_a_share_of_the_whole_memory_fits_a_gpu() -> None:
    """As an equal share was found to be enough, with the slack of any claim, when the node was chosen."""
    gib = 2**30 / 10**6
    need = Need(0.25, round(8 * gib * 1.0000005, 9))
    devices = four(8 * gib)
    assert devices.could_hold(need)
    assert [share.ids for share in (devices.take(need), devices.take(need)) if share] == [("0",), ("1",)]
    assert devices.take(Need(2, need.memory)) is not None
    assert not devices.could_hold(Need(1, 8.001 * gib))
