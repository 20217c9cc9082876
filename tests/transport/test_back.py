"""A member that nobody can connect to is asked over the connection that it opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import pytest

from handoff_lab.messages import HERE, AttemptId
from handoff_lab.store import Frames
from handoff_lab.store.memory import MemoryStore
from handoff_lab.transport import back
from handoff_lab.transport.connection import NOWHERE
from handoff_lab.transport.keys import KeyPair
from handoff_lab.transport.peers import Member, Peers
from handoff_lab.transport.zap import Admission

KEY = AttemptId("run", 1, 1)
VALUES = pytest.mark.parametrize(
    "value", [42, np.arange(20_000), np.arange(500_000)], ids=["small", "large", "chunked"]
)


class Place:
    def __init__(self, pump, admission: Admission, name: str) -> None:
        self.store = MemoryStore()
        self.keys = KeyPair.generate()
        self.peers = Peers(pump.loop, self.keys, admission, self.store, None if name == "far" else "127.0.0.1")
        self.member = Member(name, self.keys.public, self.peers.endpoint)


class Three:
    """A coordinator, a node, and one that only dials out."""

    def __init__(self, pump, stack: ExitStack) -> None:
        self.pump = pump
        admission = Admission(pump.loop)
        stack.callback(admission.close)
        self.here, self.alpha, self.far = places = [Place(pump, admission, name) for name in (HERE, "alpha", "far")]
        for place in places:
            stack.callback(place.peers.close)
            for other in places:
                if other is not place:
                    place.peers.add(other.member)

    def read(self, reader: Place, holder: str = "far", key: AttemptId = KEY) -> list[Frames | str]:
        got: list[Frames | str] = []
        reader.peers.read(holder, key, got.append)
        return got

    def value(self, got: list[Frames | str]) -> object:
        self.pump.until(lambda: got)
        assert isinstance(got[0], Frames), got
        return got[0].load()


@pytest.fixture
def three(pump, monkeypatch: pytest.MonkeyPatch) -> Iterator[Three]:
    monkeypatch.setattr(back, "AGAIN_S", 0.05)
    with ExitStack() as stack:
        yield Three(pump, stack)


def test_it_listens_nowhere(three: Three) -> None:
    assert three.far.member.endpoint == NOWHERE


@VALUES
@pytest.mark.parametrize("reader", ["here", "alpha"])
def test_its_values_are_read_all_the_same(three: Three, reader: str, value: object) -> None:
    three.far.store.put(KEY, Frames.dump(value))
    assert np.array_equal(three.value(three.read(getattr(three, reader))), value)


def test_it_reads_as_all_others_do(three: Three) -> None:
    three.alpha.store.put(KEY, Frames.dump(1))
    three.here.store.put(KEY, Frames.dump(2))
    assert three.value(three.read(three.far, "alpha")) == 1
    assert three.value(three.read(three.far, HERE)) == 2


def test_a_value_is_waited_for(three: Three) -> None:
    got = three.read(three.here)
    three.pump.run_for(0.2)
    assert not got
    three.far.store.put(KEY, Frames.dump("late"))
    assert three.value(got) == "late"


def test_what_is_not_there_is_told(three: Three) -> None:
    three.far.store.free([KEY])
    got = three.read(three.here)
    three.pump.until(lambda: got)
    assert got == ["node 'far' does not have it any more"]


@VALUES
def test_it_calls_again_when_the_connection_breaks(three: Three, value: object) -> None:
    got = three.read(three.here)
    three.pump.run_for(0.1)
    three.here.peers._desk.remove("far")  # cuts its connections
    three.far.store.put(KEY, Frames.dump(value))
    assert np.array_equal(three.value(got), value)


def test_reads_fail_when_it_is_removed(three: Three) -> None:
    got = three.read(three.here)
    three.pump.run_for(0.1)
    three.here.peers.remove("far")
    assert got == ["node 'far' is gone"]


def test_reads_fail_when_it_never_calls(three: Three, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(back, "CONNECT_S", 0.05)
    three.here.peers.add(Member("silent", KeyPair.generate().public, NOWHERE))
    got = three.read(three.here, "silent")
    three.pump.until(lambda: got)
    assert got == ["node 'silent' does not call"]


def test_what_nobody_asked_for_is_dropped(three: Three) -> None:
    three.far.store.put(KEY, Frames.dump(1))
    assert three.value(three.read(three.here)) == 1
    call = three.far.peers._call
    assert call is not None
    for frames in ([b"\x92\x91\x07\x91\x01"], [b"\x93\x07\x00\x00", b"bytes"], [b"\x92noise"], [b"\x93", b"", b""]):
        call.send(*frames)
    three.far.store.put(AttemptId("run", 2, 1), Frames.dump(2))
    assert three.value(three.read(three.here, key=AttemptId("run", 2, 1))) == 2
