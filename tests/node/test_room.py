"""The node's own ledger: never above the capabilities, whoever asks; and who is told when there is room again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from handoff_lab.node.room import Room

ONE = (("cpu", 1.0),)
TWO = (("cpu", 2.0),)
GPU = (("cpu", 1.0), ("gpu", 1.0))


@given(st.integers(0, 4), st.lists(st.sampled_from([ONE, TWO, GPU, None]), max_size=20), st.randoms())
def test_what_is_held_never_exceeds_what_there_is(cpus: int, claims: list, dice) -> None:
    room = Room({"cpu": cpus, "gpu": 1})
    held = []
    for claim in claims:
        if held and dice.random() < 0.4:
            room.give_back(held.pop(dice.randrange(len(held))))
        if room.take(claim):
            held.append(claim)
        amounts = [amount for claim in held if claim for amount in claim]
        assert sum(amount for name, amount in amounts if name == "cpu") <= cpus
        assert sum(amount for name, amount in amounts if name == "gpu") <= 1
    for claim in held:
        room.give_back(claim)
    assert room.fits((("cpu", float(cpus)),))


def test_lowering_below_what_is_held_ends_nothing_and_lets_nothing_in() -> None:
    room = Room({"cpu": 2})
    assert room.take(ONE)
    assert room.take(ONE)
    room.resize({"cpu": 1})
    room.give_back(ONE)
    assert not room.take(ONE)
    room.give_back(ONE)
    assert room.take(ONE)


def test_what_was_granted_elsewhere_always_fits() -> None:
    room = Room({"cpu": 0})
    assert room.take(None)
    assert not room.take(ONE)


def test_without_capabilities_everything_fits() -> None:
    assert Room().take((("cpu", 1e9),))


def test_whoever_lacks_room_is_told_first_and_others_hold_back() -> None:
    room, told = Room({"cpu": 1}), []
    room.watch("slots", lambda: told.append("slots"))
    room.watch("kernel", lambda: told.append("kernel"))
    room.take(ONE)
    room.lacks("kernel", True)
    assert room.is_wanted_beside("slots")
    assert not room.is_wanted_beside("kernel")
    room.give_back(ONE)
    assert told == ["kernel", "slots"]
    room.lacks("kernel", False)
    assert not room.is_wanted_beside("slots")
    room.resize({"cpu": 2})
    assert told == ["kernel", "slots"] * 2
