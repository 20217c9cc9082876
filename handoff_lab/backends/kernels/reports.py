"""What nodes report, taken with care: only about themselves, and only about attempts that they were given."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from handoff_lab.messages import (
    AttemptId,
    BackendEvent,
    Cancelled,
    Failed,
    Finished,
    FinishedMany,
    NodeChanged,
    NodeLoad,
    ResultLost,
    Started,
    Transferred,
    TransferredMany,
    Wrote,
)
from handoff_lab.transport.hello import check_capabilities
from handoff_lab.transport.rows import read_events
from handoff_lab.transport.wire import WireError

log = logging.getLogger(__name__)

_NOT_ITS_OWN = "node %r answered attempts that it was not given, or had answered already: %d were left out"


class Reports:
    """Knows which node has which attempt, and keeps small results, so that they outlive their node."""

    def __init__(self) -> None:
        self._small: dict[str, dict[AttemptId, tuple[bytes, ...]]] = defaultdict(dict)  # frames by key, by run
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

    def small(self, key: AttemptId) -> tuple[bytes, ...] | None:
        """The frames of a result, if it is small and here."""
        results = self._small.get(key.run)
        return None if results is None else results.get(key)

    def free(self, keys: Iterable[AttemptId]) -> None:
        """Keep these results no longer."""
        for key in keys:
            results = self._small.get(key.run, {})
            results.pop(key, None)
            if not results:
                self._small.pop(key.run, None)

    def forget_run(self, run: str) -> None:
        """Keep the results of this run no longer."""
        self._small.pop(run, None)

    def take(self, node: str, rows: list[Any]) -> list[BackendEvent]:
        """The events in a node's message; what comes late is left out.

        Raises
        ------
        WireError
            The message is malformed, or speaks for another node.
        """
        taken: list[BackendEvent] = []
        for event in read_events(rows):
            if type(event) is FinishedMany:
                taken += self._take_many(node, event)
            elif self._accepts(node, event):
                taken.append(event)
        return taken

    def _take_many(self, node: str, event: FinishedMany) -> list[BackendEvent]:
        nodes = self._nodes
        keys = event.ids()
        places = [at for at, key in enumerate(keys) if nodes.get(key) == node and nodes.pop(key)]
        small = [(keys[at], frames) for at in places if (frames := event.inline[at]) is not None]
        if small:
            self._small[event.run].update(small)
        if len(places) == len(keys):
            return [event]
        log.warning(_NOT_ITS_OWN, node, len(keys) - len(places))
        return [event.at(places)] if places else []

    def _accepts(self, node: str, event: BackendEvent) -> bool:
        match event:
            case Started(id=id) | Wrote(id=id):
                return self._nodes.get(id) == node
            case Finished(id=id) | Failed(id=id) | Cancelled(id=id):
                if self._nodes.get(id) != node:
                    log.warning(_NOT_ITS_OWN, node, 1)
                    return False
                del self._nodes[id]
                if isinstance(event, Finished) and event.inline is not None:
                    self._small[id.run][id] = event.inline
                return True
            case (
                Transferred(target=speaker)
                | TransferredMany(target=speaker)
                | NodeLoad(name=speaker)
                | NodeChanged(name=speaker)
            ):
                if speaker != node:
                    raise WireError("it speaks for another node")
                if isinstance(event, NodeChanged):
                    check_capabilities(event.capabilities)
                return True
            case ResultLost():
                return True
        raise WireError("no node reports that")
