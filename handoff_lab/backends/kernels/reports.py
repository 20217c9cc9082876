"""What nodes report, taken with care: only about themselves, and only about attempts that they were given."""

from __future__ import annotations

from typing import Any

from handoff_lab.messages import (
    AttemptId,
    BackendEvent,
    Cancelled,
    Failed,
    Finished,
    NodeChanged,
    NodeLoad,
    ResultLost,
    Started,
    Transferred,
    Wrote,
)
from handoff_lab.store.memory import MemoryStore
from handoff_lab.store.payload import Frames
from handoff_lab.transport.rows import read_events
from handoff_lab.transport.wire import WireError


class Reports:
    """Knows which node has which attempt; small results are kept in ``store``, where they outlive their node."""

    def __init__(self, store: MemoryStore[Frames]) -> None:
        self._store = store
        self._nodes: dict[AttemptId, str] = {}  # of attempts that have not ended

    def expect(self, id: AttemptId, node: str) -> bool:
        """Let ``node`` report about this attempt; False if it was expected already."""
        if id in self._nodes:
            return False
        self._nodes[id] = node
        return True

    def node_of(self, id: AttemptId) -> str | None:
        """The node that has this attempt, if it has not ended."""
        return self._nodes.get(id)

    def forget(self, id: AttemptId) -> None:
        """Listen to nothing about this attempt."""
        self._nodes.pop(id, None)

    def forget_node(self, node: str) -> None:
        """Listen to nothing more from this node."""
        self._nodes = {id: name for id, name in self._nodes.items() if name != node}

    def take(self, node: str, rows: list[Any]) -> list[BackendEvent]:
        """The events in a node's message; what comes late is left out.

        Raises
        ------
        WireError
            The message is malformed, or speaks for another node.
        """
        return [event for event in read_events(rows) if self._accepts(node, event)]

    def _accepts(self, node: str, event: BackendEvent) -> bool:
        match event:
            case Started(id=id) | Wrote(id=id):
                return self._nodes.get(id) == node
            case Finished(id=id) | Failed(id=id) | Cancelled(id=id):
                if self._nodes.get(id) != node:
                    return False
                del self._nodes[id]
                if isinstance(event, Finished) and event.inline is not None:
                    self._store.put(id, Frames(event.inline))
                return True
            case Transferred(target=speaker) | NodeLoad(name=speaker) | NodeChanged(name=speaker):
                if speaker != node:
                    raise WireError("it speaks for another node")
                return True
            case ResultLost():
                return True
        raise WireError("no node reports that")
