"""Guests on places that exist only in memory: all become nodes, or none does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

import handoff_lab as hl
from handoff_lab.coordinator.verbs import SeenNode
from handoff_lab.guests import Guests, guests
from handoff_lab.guests.host import stay
from handoff_lab.guests.places import LABEL, Place, lender_of
from handoff_lab.messages import NodeInfo
from handoff_lab.node.options import NodeOptions
from handoff_lab.resources import Resources
from handoff_lab.transport.invitation import write_invitation
from handoff_lab.transport.keys import JoinFile, KeyPair


class Coordinator:
    def __init__(self) -> None:
        self.nodes: dict[str, SeenNode] = {}
        self.invitations: list[float] = []
        self.on_look: Callable[[], None] = lambda: None

    def invite(self, ttl_s: float) -> str:
        self.invitations.append(ttl_s)
        return f"invitation {len(self.invitations)}"

    def seen_nodes(self) -> dict[str, SeenNode]:
        self.on_look()
        return dict(self.nodes)

    def join(self, name: str, labels: Mapping[str, str]) -> None:
        info = NodeInfo(name, {"cpu": 1}, 1, "host", 1, {}, labels)
        self.nodes[name] = SeenNode(info, Resources(), draining=False, last_seen=0.0, load=None)

    def remove_node(self, name: str, drain: bool) -> None:
        assert not drain
        del self.nodes[name]


class Lender:
    """Nodes join at once, but for those that ``fail`` or are ``busy``."""

    def __init__(self, coordinator: Coordinator, count: int = 3) -> None:
        self._coordinator = coordinator
        self.lent: dict[str, NodeOptions] = {}
        self.cancelled: list[str] = []
        self.fail: str | None = None
        self.busy: str | None = None
        self._places = [Place(f"place-{number}", f"system {number}", number) for number in range(count)]

    def places(self) -> Sequence[Place]:
        return self._places

    def capabilities(self, places: Sequence[Place], timeout_s: float) -> Mapping[str, Resources]:
        return {place.name: Resources({"cpu": 2}) for place in places}

    def lend(self, place: Place, options: NodeOptions) -> Stay:
        self.lent[place.name] = options
        if place.name not in (self.fail, self.busy):
            self._coordinator.join(options.name, options.labels)
        return Stay(self, place.name)


class Stay:
    def __init__(self, lender: Lender, name: str) -> None:
        self._lender = lender
        self._name = name

    def ended(self) -> str | None:
        return "it is on fire" if self._name == self._lender.fail else None

    def cancel(self) -> None:
        self._lender.cancelled.append(self._name)


@pytest.fixture
def coordinator() -> Coordinator:
    return Coordinator()


@pytest.fixture
def lender(coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch) -> Lender:
    lender = Lender(coordinator)
    monkeypatch.setattr(guests, "lender_of", lambda source: lender)
    return lender


@pytest.fixture
def added(coordinator: Coordinator) -> Guests:
    return Guests(coordinator, "test")  # type: ignore[arg-type]


def add(added: Guests, capabilities: Any = None, nodes: Any = None, timeout_s: float = 5.0) -> list[str]:
    return added.add("source", capabilities, nodes, timeout_s)


def test_each_place_gets_an_invitation_of_its_own(coordinator: Coordinator, lender: Lender, added: Guests) -> None:
    assert add(added) == ["place-0", "place-1", "place-2"]
    assert coordinator.invitations == [5.0] * 3
    options = lender.lent["place-1"]
    assert options.invite == "invitation 2"
    assert (options.name, options.capabilities, options.labels) == ("place-1", {"cpu": 2}, {LABEL: "system 1"})
    assert "invitation" not in repr(options)


def test_places_that_have_a_node_are_left_as_they_are(lender: Lender, added: Guests) -> None:
    assert add(added, nodes=["place-1"]) == ["place-1"]
    assert add(added, Resources({"cpu": 7})) == ["place-0", "place-2"]
    assert lender.lent["place-0"].capabilities == {"cpu": 7}


def test_a_place_whose_node_is_gone_is_asked_for_no_more(
    coordinator: Coordinator, lender: Lender, added: Guests
) -> None:
    add(added)
    del coordinator.nodes["place-1"]
    assert add(added) == ["place-1"]
    assert lender.cancelled == ["place-1"]


def test_a_place_that_is_not_there(added: Guests, lender: Lender) -> None:
    with pytest.raises(hl.BackendError, match=r"no place 'place-9'; there are place-0, place-1, place-2"):
        add(added, nodes=["place-0", "place-9"])
    assert not lender.lent


def test_a_name_that_another_node_has(coordinator: Coordinator, lender: Lender, added: Guests) -> None:
    coordinator.join("place-2", {})
    with pytest.raises(hl.BackendError, match="a node 'place-2' already, elsewhere; remove it first"):
        add(added)
    assert not lender.lent


def test_when_one_fails_all_are_given_back(coordinator: Coordinator, lender: Lender, added: Guests) -> None:
    lender.fail = "place-1"
    with pytest.raises(hl.BackendError, match="1 of 3 places did not become nodes: 'place-1': it is on fire"):
        add(added)
    assert coordinator.nodes == {}
    assert lender.cancelled == ["place-0", "place-1", "place-2"]


def test_a_busy_place_is_waited_for_so_long(coordinator: Coordinator, lender: Lender, added: Guests) -> None:
    lender.busy = "place-0"
    with pytest.raises(hl.BackendError, match=r"'place-0': it did not join within 0.1 s; is the place busy"):
        add(added, timeout_s=0.1)
    assert coordinator.nodes == {}


def test_an_interrupt_gives_all_back(coordinator: Coordinator, lender: Lender, added: Guests) -> None:
    def interrupt() -> None:
        if len(lender.lent) == 3 and not lender.cancelled:
            raise KeyboardInterrupt

    coordinator.on_look = interrupt
    with pytest.raises(KeyboardInterrupt):
        add(added)
    assert coordinator.nodes == {}


def of(package: str) -> object:
    """Something of another system that is neither a client nor a view."""
    return type("Cluster", (), {"__module__": f"{package}.cluster"})()


@pytest.mark.parametrize("source", [3, "dask", None, ["tcp://127.0.0.1:1"], of("ipyparallel"), of("distributed")])
def test_what_lends_no_places(source: object) -> None:
    with pytest.raises(TypeError, match="give an ipyparallel Client or view, a Dask Client or cluster, or 'ray'"):
        lender_of(source)


def test_threads_of_this_process_are_joined_by_no_guests(lender: Lender) -> None:
    with hl.Cluster({}, backend="local") as cluster, pytest.raises(hl.BackendError, match="can't be joined"):
        cluster.add_nodes_from(lender)


@pytest.mark.parametrize("timeout", [-1, float("nan"), "5"])
def test_a_time_that_cannot_be_waited_for(lender: Lender, timeout: Any) -> None:
    with hl.Cluster({}, backend="local") as cluster, pytest.raises(ValueError, match="must be a number of seconds"):
        cluster.add_nodes_from(lender, timeout=timeout)
    assert not lender.lent


def test_a_cluster_that_cannot_be_reached_from_the_place() -> None:
    way = JoinFile("tcp://127.0.0.1:9", KeyPair.generate().public, KeyPair.generate(), once=True)
    story = stay(NodeOptions(None, "a", invite=write_invitation(way)))
    assert "tcp://127.0.0.1:9 cannot be reached from" in story
    assert "make the cluster with host=" in story
