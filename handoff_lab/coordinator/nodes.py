"""What is known of nodes beside the scheduler: who was asked to come, when each was heard last, why some went."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from handoff_lab._errors import BackendError
from handoff_lab.backends.base import Backend
from handoff_lab.coordinator.verbs import SeenNode
from handoff_lab.messages import BackendEvent, NodeChanged, NodeJoined, NodeLoad, NodeLost
from handoff_lab.scheduler import Scheduler


class NodeBook:
    """Kept on the coordinator's thread, by what the backend says."""

    def __init__(self, backend: Backend, scheduler: Scheduler) -> None:
        self.loads: dict[str, NodeLoad] = {}  # what nodes really use, by name
        self._backend = backend
        self._scheduler = scheduler
        self._last_seen: dict[str, float] = {}  # wall-clock time at which a node last said anything, by name
        self._starting: set[str] = set()  # nodes that were asked for and are not there yet
        self._lost: dict[str, str] = {}  # why nodes went, by name
        self._changes: Counter[str] = Counter()  # changes of capabilities that nodes were asked for
        self._changed: Counter[str] = Counter()  # and those that they made, or never will

    def note(self, event: BackendEvent) -> None:
        """Take in what the scheduler has no use for."""
        match event:
            case NodeLoad():
                self._last_seen[event.name] = time.time()
                self.loads[event.name] = event
            case NodeChanged():
                self._changed[event.name] += 1
            case NodeJoined():
                self._last_seen[event.info.name] = time.time()
                self._starting.discard(event.info.name)
                self._lost.pop(event.info.name, None)
            case NodeLost():
                self._last_seen.pop(event.name, None)
                self.loads.pop(event.name, None)
                self._starting.discard(event.name)
                self._lost[event.name] = event.reason
                self._changed[event.name] = self._changes[event.name]

    def seen(self) -> dict[str, SeenNode]:
        """The nodes that are there, by name, in the order of names."""
        used, is_draining, nodes = self._scheduler.used, self._scheduler.is_draining, self._scheduler.nodes
        return {
            name: SeenNode(info, used(name), is_draining(name), self._last_seen[name], self.loads.get(name))
            for name, info in sorted(self._backend.nodes().items())
            if name in nodes
        }

    def expect(self, names: Iterable[str]) -> None:
        """These nodes were asked for."""
        self._starting.update(names)

    def start(self, name: str | None, capabilities: Mapping[str, float]) -> str:
        """Ask for one more node; its name."""
        taken = self._backend.nodes().keys() | self._starting
        chosen = name or next(f"node-{i}" for i in range(1, len(taken) + 2) if f"node-{i}" not in taken)
        if chosen in taken:
            raise BackendError(f"there is a node {chosen!r} already; choose another name")
        self._starting.add(chosen)
        self._lost.pop(chosen, None)
        try:
            self._backend.add_node(chosen, capabilities, {})
        except BaseException:
            self._starting.discard(chosen)  # refused: the name is free
            raise
        return chosen

    def are_settled(self, names: Collection[str]) -> bool:
        """Whether these nodes are there, or never will be."""
        return self._starting.isdisjoint(names)

    def require(self, names: Collection[str]) -> None:
        """Raise why nodes that were asked for are not there."""
        lost = {name: self._lost[name] for name in sorted(names) if name in self._lost}
        if lost:
            reasons = "; ".join(f"{name!r}: {reason}" for name, reason in lost.items())
            raise BackendError(f"nodes could not be started: {reasons}")

    def change(self, name: str, capabilities: Mapping[str, float]) -> int:
        """Ask a node for a change of what it has; the number of the change."""
        self._backend.set_capabilities(name, capabilities)
        self._changes[name] += 1  # last: what could not be sent is no change
        return self._changes[name]

    def has_changed(self, name: str, number: int) -> bool:
        """Whether a node made this change, or is gone."""
        return self._changed[name] >= number or name not in self._scheduler.nodes
