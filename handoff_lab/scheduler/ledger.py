"""The nodes, what is claimed on each, and what waits for room there."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from handoff_lab.messages import NodeInfo
from handoff_lab.resources import Resources, ResourceTracker, SimpleResourceTracker, parse_capabilities

if TYPE_CHECKING:
    from handoff_lab.scheduler.lanes import Lane
    from handoff_lab.scheduler.state import Progress

log = logging.getLogger(__name__)

_NOTHING = Resources()


class NodeState:
    """One node. ``lanes`` is a heap of what waits there; entries that a lane has left behind are skipped."""

    __slots__ = (
        "ahead", "capabilities", "claimed", "costed", "early", "in_flight", "keeps_ledger", "lanes", "misfits",
        "name", "pace", "refused", "since", "slots",
    )  # fmt: skip

    def __init__(self, name: str, capabilities: Resources, slots: int, keeps_ledger: bool = False) -> None:
        self.name = name
        self.keeps_ledger = keeps_ledger  # it claims by itself, and takes functions before their inputs are there
        self.capabilities = capabilities
        self.slots = slots
        self.claimed = _NOTHING
        self.in_flight = 0  # attempts submitted and not ended
        self.costed = 0  # functions with a cost that wait here
        self.early = 0  # of those in flight, the ones that wait for inputs
        self.pace: float | None = None  # seconds that a function took, of late
        self.since = 0.0  # when it was given something to do, having had nothing
        self.ahead: list[tuple[float, str, int, Progress]] = []  # heap: functions that may be handed over early
        self.lanes: list[tuple[float, int, Lane]] = []
        self.refused: list[Lane] = []  # wait for a claim to be released
        self.misfits: list[Lane] = []  # wait for the node to have more

    @property
    def load(self) -> float:
        """Functions that run or could run, for each slot."""
        return (self.in_flight + sum(len(lane.heap) for _, _, lane in self.lanes)) / max(self.slots, 1)


class Ledger:
    """Who holds what: every claim goes through the tracker, and is kept count of here for reports."""

    def __init__(self, tracker: ResourceTracker | None) -> None:
        self.tracker = SimpleResourceTracker() if tracker is None else tracker
        self.custom = tracker is not None
        self.nodes: dict[str, NodeState] = {}
        self.open: dict[str, NodeState] = {}  # those that take functions: all but the draining ones
        self.retiring: dict[str, NodeState] = {}  # draining ones that still take what can run nowhere else

    def takes_ahead(self, name: str | None) -> bool:
        """Whether a node takes functions before they can begin."""
        node = self.nodes.get(name or "")
        return node is not None and node.keeps_ledger

    def join(self, info: NodeInfo) -> NodeState:
        capabilities = parse_capabilities(info.capabilities)
        node = NodeState(info.name, capabilities, info.slots, info.keeps_ledger and not self.custom)
        self.nodes[info.name] = self.open[info.name] = node
        self._register(info.name, capabilities)
        return node

    def change(self, name: str, capabilities: Mapping[str, float], slots: int) -> NodeState:
        node = self.nodes[name]
        node.capabilities = parse_capabilities(capabilities)
        node.slots = slots
        self._register(name, node.capabilities)
        return node

    def home(self, run: Progress, i: int) -> NodeState | None:
        """The node that function ``i`` was given, if it takes it."""
        name = run.node[i] or ""
        node = self.open.get(name)
        if node is None and name in self.retiring and not run.stays.isdisjoint((i, run.program.functions[i].toward)):
            return self.retiring[name]
        return node

    def retire(self, name: str) -> None:
        self.retiring[name] = self.open.pop(name)

    def shut(self, name: str) -> None:
        self.open.pop(name, None)
        self.retiring.pop(name, None)

    def reopen(self, name: str) -> None:
        self.retiring.pop(name, None)
        self.open[name] = self.nodes[name]

    def leave(self, name: str) -> NodeState:
        """Take a node out; its claims are released by those who hold them."""
        self.shut(name)
        node = self.nodes.pop(name)
        self._register(name, _NOTHING)
        return node

    def _register(self, name: str, capabilities: Resources) -> None:
        try:
            self.tracker.register(name, capabilities)
        except Exception:  # a tracker of the user's; the node is as it is
            log.exception("the resource tracker could not register node %r with %s", name, capabilities)

    def claim(self, node: NodeState, cost: Resources) -> bool:
        if not self.tracker.request(node.name, cost):
            return False
        node.claimed += cost
        return True

    def release(self, node: NodeState, cost: Resources) -> None:
        node.claimed -= cost
        try:
            self.tracker.release(node.name, cost)
        except Exception:  # a tracker of the user's; what ended has ended all the same
            log.exception("the resource tracker could not release %s on node %r", cost, node.name)

    def capabilities(self, names: tuple[str, ...] | None = None) -> dict[str, Resources]:
        """What each node has that takes functions, of ``names`` or of all, by name."""
        allowed = self.open.keys() if names is None else self.open.keys() & names
        return {name: self.open[name].capabilities for name in sorted(allowed)}
