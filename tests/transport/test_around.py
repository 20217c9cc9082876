"""Members that cannot reach each other read each other's values through the coordinator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest

from handoff_lab.messages import HERE, AttemptId
from handoff_lab.store import Frames
from handoff_lab.store.memory import MemoryStore
from handoff_lab.transport import connection, peers
from handoff_lab.transport.keys import KeyPair
from handoff_lab.transport.peers import Member, Peers
from handoff_lab.transport.zap import Admission

KEY = AttemptId("run", 1, 1)
NOBODY = "tcp://127.0.0.1:1"


class Place:
    def __init__(self, pump, admission: Admission, name: str) -> None:
        self.store = MemoryStore()
        self.keys = KeyPair.generate()
        self.peers = Peers(pump.loop, self.keys, admission, self.store, "127.0.0.1")
        self.member = Member(name, self.keys.public, self.peers.endpoint)
        self.got: list[Frames | str] = []


class Three:
    """A coordinator and two nodes, of which alpha looks for beta where nobody is."""

    def __init__(self, pump, stack: ExitStack) -> None:
        self._pump = pump
        self.admission = admission = Admission(pump.loop)
        stack.callback(admission.close)
        self.here, self.alpha, self.beta = places = [Place(pump, admission, name) for name in (HERE, "alpha", "beta")]
        for place in places:
            stack.callback(place.peers.close)
            for other in places:
                if other is not place:
                    place.peers.add(other.member)
        self.alpha.peers.add(replace(self.beta.member, endpoint=NOBODY))

    def read(self, key: AttemptId = KEY) -> Frames | str:
        got: list[Frames | str] = []
        self.alpha.peers.read("beta", key, got.append)
        self._pump.until(lambda: got)
        return got[0]


@pytest.fixture
def three(pump, monkeypatch: pytest.MonkeyPatch) -> Iterator[Three]:
    made = connection.Connection.__init__

    def make(self, loop, keys, member, *others) -> None:
        monkeypatch.setattr(connection, "CONNECT_S", 0.1 if member.endpoint == NOBODY else 60.0)
        made(self, loop, keys, member, *others)

    monkeypatch.setattr(connection.Connection, "__init__", make)
    with ExitStack() as stack:
        yield Three(pump, stack)


@pytest.mark.parametrize("value", [42, np.arange(20_000), np.arange(500_000)], ids=["small", "large", "chunked"])
def test_a_value_comes_through_the_coordinator(three: Three, value: object) -> None:
    three.beta.store.put(KEY, Frames.dump(value))
    got = three.read()
    assert isinstance(got, Frames), got
    assert np.array_equal(got.load(), value)
    assert KEY not in three.here.store


def test_it_is_waited_for(pump, three: Three) -> None:
    pump.loop.call_later(0.3, lambda: three.beta.store.put(KEY, Frames.dump("late")))
    got = three.read()
    assert isinstance(got, Frames), got
    assert got.load() == "late"


def test_what_is_not_there_is_told(three: Three) -> None:
    three.beta.store.free([KEY])
    assert "does not have it any more" in three.read()


def test_a_member_whom_the_coordinator_cannot_reach_either_has_nothing(three: Three) -> None:
    three.here.peers.add(replace(three.beta.member, endpoint=NOBODY))
    assert isinstance(three.read(), str)


def test_a_member_that_is_gone_meanwhile_is_waited_for_no_more(pump, three: Three) -> None:
    got: list[Frames | str] = []
    three.alpha.peers.read("beta", KEY, got.append)
    pump.run_for(0.2)
    assert not got
    three.here.peers.remove("beta")
    three.alpha.peers.remove("beta")
    pump.until(lambda: got)
    assert got == ["node 'beta' is gone"]


def test_the_direct_way_is_tried_again(pump, three: Three, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "AROUND_S", 0.1)
    three.beta.store.put(KEY, Frames.dump(1))
    three.read()
    three.alpha.peers.add(three.beta.member)  # it can be reached now
    pump.until(lambda: "beta" not in three.alpha.peers._links)  # the way around is forgotten
    three.here.peers.remove("beta")  # and in no other way
    assert isinstance(three.read(), Frames)


def test_what_was_asked_through_the_coordinator_is_asked_again_directly(
    pump, three: Three, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "AROUND_S", 0.3)
    got: list[Frames | str] = []
    three.alpha.peers.read("beta", KEY, got.append)
    pump.until(lambda: not three.alpha.peers._links["beta"].is_direct)  # it is asked through the coordinator now
    three.alpha.peers.add(three.beta.member)
    pump.until(lambda: three.alpha.peers._links["beta"].is_direct and three.alpha.peers._links["beta"]._connection._up)
    monkeypatch.setattr(three.admission, "revoke", lambda domain, key: None)  # it is beta's too, here
    three.here.peers.remove("alpha")
    three.beta.store.put(KEY, Frames.dump(1))
    pump.until(lambda: got)
    assert isinstance(got[0], Frames)
