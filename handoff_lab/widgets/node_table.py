"""The nodes of a run as the browser shows them: in the order in which they came, so that none changes its letter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from handoff_lab.visualization.palette import OKABE_ITO, NodeMark, NodeMarks, letters
from handoff_lab.widgets.protocol import GpuState, NodeState, ResourceState

_DIGITS: Final = 3
_FEW: Final = 4  # nodes


@dataclass(slots=True)
class _Node:
    mark: NodeMark
    capabilities: Mapping[str, float] = field(default_factory=dict)
    claimed: Mapping[str, float] = field(default_factory=dict)
    used: Mapping[str, float] = field(default_factory=dict)
    gpus: list[GpuState] = field(default_factory=list)
    draining: bool = False
    lost: tuple[float, str] | None = None  # when and why
    moved: dict[int, None] = field(default_factory=dict)  # functions that went elsewhere
    told: NodeState | None = None


class NodeTable:
    """What is known of each node. Changes of amounts alone can wait; everything else is told at once."""

    def __init__(self) -> None:
        self._nodes: dict[str, _Node] = {}
        self._index: dict[str, int] = {}
        self._urgent: set[str] = set()
        self._metered: set[str] = set()
        self._claimed: set[str] = set()  # and what functions hold of them

    def index(self, name: str | None) -> int:
        """The place of a node, which gets one now if it was never heard of; -1 for none."""
        if name is None:
            return -1
        found = self._index.get(name)
        if found is None:
            self._of(name)
            found = self._index[name]
        return found

    def begin(self, capabilities: Mapping[str, Mapping[str, float]]) -> None:
        """The nodes that were there from the start, lettered as all pictures letter them."""
        for name in NodeMarks(capabilities):
            self.has(name, capabilities[name])

    def has(self, name: str, capabilities: Mapping[str, float], draining: bool = False) -> None:
        """A node came, or has other capabilities than before."""
        node = self._of(name)
        node.capabilities, node.draining, node.lost = dict(capabilities), draining, None
        self._urgent.add(name)

    def went(self, name: str, at: float, reason: str) -> None:
        """A node is gone; what runs there ended with it."""
        node = self._of(name)
        node.lost, node.claimed, node.used, node.gpus = (at, reason), {}, {}, []
        self._urgent.add(name)

    def came_back(self, name: str) -> None:
        """A node joined: what a former one of its name lost is history."""
        self._of(name).moved = {}

    def moved(self, name: str, function: int) -> None:
        """A function that was to run on a node goes elsewhere."""
        self._of(name).moved[function] = None
        self._urgent.add(name)

    def claims(self, name: str, claimed: Mapping[str, float]) -> None:
        """What functions on a node hold now."""
        node = self._of(name)
        if node.claimed != claimed:
            node.claimed = claimed
            self._claimed.add(name)

    def measured(self, name: str, used: Mapping[str, float], gpus: Sequence[GpuState] = ()) -> None:
        """What a node really uses, in the units of its capabilities; and of each of its GPUs."""
        node = self._of(name)
        node.used, node.gpus = dict(used), list(gpus)
        self._metered.add(name)

    def changes(self, *, meters: bool) -> list[NodeState]:
        """Nodes that are not as they were told.

        Those of which only measures changed come with ``meters``. Claims go with the functions that hold them, but
        those of many nodes at once would make a long message, and wait for the meters, too.
        """
        names = set(self._urgent)
        if meters or len(self._claimed) <= _FEW:
            names |= self._claimed
        if meters:
            names |= self._metered
        changed = []
        for name in sorted(names, key=self._index.__getitem__):
            node = self._nodes[name]
            state = _state(node)
            if state != node.told:
                node.told = state
                changed.append(state)
        self._metered -= names
        self._claimed -= names
        self._urgent.clear()
        return changed

    def told(self) -> list[NodeState]:
        """All nodes as they were told last."""
        return [node.told for node in self._nodes.values() if node.told is not None]

    def _of(self, name: str) -> _Node:
        node = self._nodes.get(name)
        if node is None:
            place = self._index[name] = len(self._index)
            node = self._nodes[name] = _Node(NodeMark(name, letters(place), OKABE_ITO[place % len(OKABE_ITO)]))
            self._urgent.add(name)
        return node


def used_amounts(numbers: Mapping[str, float]) -> dict[str, float]:
    """What an event of utilization measured, in the units of capabilities.

    >>> used_amounts({"cpu_percent": 150.0, "memory": 2 * 10**9})
    {'cpu': 1.5, 'memory': 2000.0}
    """
    units = {"cpu": ("cpu_percent", 100), "memory": ("memory", 10**6)}
    units |= {"gpu": ("gpu_percent", 100), "gpu_memory": ("gpu_memory", 10**6)}
    return {name: numbers[measure] / unit for name, (measure, unit) in units.items() if measure in numbers}


def _state(node: _Node) -> NodeState:
    state: NodeState = {
        "name": node.mark.name,
        "letter": node.mark.letter,
        "colour": node.mark.colour,
        "ink": node.mark.ink,
        "status": "lost" if node.lost else "draining" if node.draining else "up",
        "resources": {name: _resource(node, name, amount) for name, amount in _with_used(node)},
        "lost": {"at": node.lost[0], "reason": node.lost[1], "moved": list(node.moved)} if node.lost else None,
    }
    if node.gpus:
        state["gpus"] = node.gpus
    return state


def _with_used(node: _Node) -> Iterable[tuple[str, float]]:
    """Capabilities; claims of what the node has no more are shown, too."""
    return {**dict.fromkeys(node.claimed, 0.0), **node.capabilities}.items()


def _resource(node: _Node, name: str, capability: float) -> ResourceState:
    used = node.used.get(name)
    return {
        "capability": round(capability, _DIGITS),
        "claimed": round(node.claimed.get(name, 0.0), _DIGITS),
        "used": None if used is None else round(used, _DIGITS),
    }
