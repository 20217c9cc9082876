"""Engines that ipyparallel knows no more, as its client tells of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import pytest
from ipyparallel.error import NoEnginesRegistered

import handoff_lab as hl
from handoff_lab.guests.engines import Engines, EngineStay
from handoff_lab.guests.places import Place
from handoff_lab.node.options import NodeOptions

GONE = Place("engine-1", "ipyparallel b", 1)


class Client:
    """Of a controller that has one engine, and lost another: it raises whatever a client does then."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.ids = [0]
        self._engines = {0: "a"}

    def _raise(self, *_: Any, **options: Any) -> NoReturn:
        assert options.get("targets", [1]) == [1]
        raise self.error

    __getitem__ = load_balanced_view = abort = _raise


class View:
    def __init__(self, client: Client, targets: Any) -> None:
        self.client, self.targets = client, targets


class Task:
    def ready(self) -> bool:
        return False


@pytest.fixture(params=[KeyError(1), NoEnginesRegistered()], ids=["it", "all"])
def client(request: pytest.FixtureRequest) -> Client:
    return Client(request.param)


def test_what_waits_on_it_is_gone_too(client: Client) -> None:
    EngineStay(client, 1, Task()).cancel()


@pytest.mark.parametrize(
    "call", [lambda e: e.capabilities([GONE], 5.0), lambda e: e.lend(GONE, NodeOptions(None, "engine-1"))]
)
def test_it_takes_no_node(client: Client, call: Callable[[Engines], object]) -> None:
    with pytest.raises(hl.BackendError, match="engine is gone"):
        call(Engines(client))


def test_a_view_of_it_has_no_place(client: Client) -> None:
    assert [place.name for place in Engines(View(client, "all")).places()] == ["engine-0"]
    assert [place.name for place in Engines(View(client, 0)).places()] == ["engine-0"]
    with pytest.raises(hl.BackendError, match="there is no engine 1 any more; there are 0"):
        Engines(View(client, [0, 1])).places()
