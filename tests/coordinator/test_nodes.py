"""What is noted of nodes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from handoff_lab._errors import BackendError
from handoff_lab.coordinator.nodes import NodeBook
from handoff_lab.messages import BackendEvent, NodeChanged, NodeInfo, NodeJoined, NodeLost
from handoff_lab.scheduler import Scheduler

ALPHA = NodeJoined(NodeInfo("alpha", {"cpu": 1.0}, 1))
LOST = NodeLost("alpha", "it went")


class Book(NodeBook):
    def __init__(self) -> None:
        backend: Any = SimpleNamespace(nodes=dict, add_node=lambda *_: None, set_capabilities=lambda *_: None)
        super().__init__(backend, scheduler := Scheduler())
        self._handle = scheduler.handle

    def happens(self, *events: BackendEvent) -> None:
        for event in events:
            self.note(event)
        self._handle(events, 0.0)


def test_who_waits_for_a_change_of_a_node_that_started_anew_waits_no_more() -> None:
    book = Book()
    book.happens(ALPHA)
    number = book.change("alpha", {"cpu": 2.0})
    assert not book.has_changed("alpha", number)
    book.happens(LOST, ALPHA)
    assert book.has_changed("alpha", number)
    number = book.change("alpha", {"cpu": 2.0})
    assert not book.has_changed("alpha", number)
    book.happens(NodeChanged("alpha", {"cpu": 2.0}, 2))
    assert book.has_changed("alpha", number)


def test_a_name_is_taken_from_when_it_was_asked_for() -> None:
    book = Book()
    assert [book.start(None, {}), book.start(None, {})] == ["node-1", "node-2"]
    with pytest.raises(BackendError, match="there is a node 'node-1' already"):
        book.start("node-1", {})
    book.happens(NodeLost("node-1", "it could not start"))
    with pytest.raises(BackendError, match="'node-1': it could not start"):
        book.require({"node-1", "node-2"})
    assert book.start(None, {}) == "node-1"
    assert not book.are_settled({"node-1"})


def test_a_change_that_could_not_be_sent_is_waited_for_by_nobody() -> None:
    def refuse(name: str, capabilities: object) -> None:
        raise OverflowError

    book = Book()
    book.happens(ALPHA)
    known = book._backend.set_capabilities
    book._backend.set_capabilities = refuse  # type: ignore[method-assign]
    with pytest.raises(OverflowError):
        book.change("alpha", {"cpu": 2.0**70})
    book._backend.set_capabilities = known  # type: ignore[method-assign]
    number = book.change("alpha", {"cpu": 2.0})
    book.happens(NodeChanged("alpha", {"cpu": 2.0}, 2))
    assert book.has_changed("alpha", number)
