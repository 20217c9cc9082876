"""How full nodes would be: shares of their capabilities and slots, by what can run side by side."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from copy import copy
from heapq import heapify, heappop, heappush, heapreplace

from handoff_lab.allocation.groups import Group
from handoff_lab.graph import Argument, Function
from handoff_lab.resources import Resources

SLACK = 1e-6  # of a load, for what does not add up exactly

# What runs at each depth of the graph: costs, and how many functions.
Demand = Mapping[int, tuple[Resources, int]]


def slots(capabilities: Resources) -> int:
    """How many functions a node runs in parallel."""
    return max(1, math.floor(capabilities["cpu"]))


def depths(functions: Sequence[Function]) -> dict[Hashable, int]:
    """Longest way from a source to each function; only those of equal depth are taken to run side by side."""
    known: dict[Hashable, int] = {}
    for function in functions:
        depth = 0
        for arg in function.args:
            depth = max(depth, 1 + known.get(arg.id if isinstance(arg, Argument) else arg, -1))
        known[function.id] = depth
    return known


def demand_by_depth(group: Group, depth: Mapping[Hashable, int], *, count_slots: bool = True) -> Demand:
    """What the group needs side by side; without ``count_slots`` only its costs count."""
    if len(group.members) == 1:
        return {depth[group.members[0].id]: (group.cost, int(count_slots))}
    demand: dict[int, tuple[Resources, int]] = {}
    for function in group.members:
        cost, count = demand.get(depth[function.id], (Resources(), 0))
        demand[depth[function.id]] = (cost + function.cost, count + count_slots)
    return demand


class _Layer:
    """What was given to one node at one depth."""

    __slots__ = ("changes", "claimed", "count", "load")

    def __init__(self) -> None:
        self.load = 0.0
        self.count = 0
        self.claimed: dict[str, float] = {}
        self.changes = 0  # how often something was given


_EMPTY = _Layer()


class NodeLoad:
    """What was given to one node, at each depth, as a share of what it has.

    1.0 means that it is just full; above that, functions wait for each other.
    """

    __slots__ = ("_capabilities", "_layers", "_slots")

    def __init__(self, capabilities: Resources) -> None:
        self._capabilities = dict(capabilities.items())
        self._slots = slots(capabilities)
        self._layers: dict[int, _Layer] = {}

    def after(self, demand: Demand) -> float:
        """The load, at the depths that ``demand`` touches, if it came here too."""
        load = 0.0
        for depth, (cost, count) in demand.items():
            load = max(load, self.after_one(depth, cost, count))
        return load

    def after_one(self, depth: int, cost: Resources, count: int) -> float:
        """The load at one depth, if functions that cost ``cost`` together came here too."""
        layer = self._layers.get(depth, _EMPTY)
        load = max(layer.load, (layer.count + count) / self._slots)
        for name, amount in cost.items():
            share = (layer.claimed.get(name, 0.0) + amount) / self._capabilities[name]
            load = max(load, share)
        return load

    def add(self, demand: Demand) -> None:
        """``demand`` comes here."""
        for depth, (cost, count) in demand.items():
            self.add_one(depth, cost, count)

    def add_one(self, depth: int, cost: Resources, count: int) -> None:
        """Functions that cost ``cost`` together come here, at one depth."""
        filled = self.filled(depth, cost, count)
        next(filled)
        next(filled)

    def filled(self, depth: int, cost: Resources, count: int) -> Iterator[float]:
        """`after_one` for one more of them each time: to ask for the next is to add the one before."""
        layer = self._layers.get(depth)
        if layer is None:
            layer = self._layers[depth] = _Layer()
        claimed, slots = layer.claimed, self._slots
        needs = [(name, amount, self._capabilities[name]) for name, amount in cost.items()]
        while True:
            load = (layer.count + count) / slots
            if load < layer.load:  # noqa: PLR1730 (calls would take most of the time here)
                load = layer.load
            for name, amount, has in needs:
                share = (claimed.get(name, 0.0) + amount) / has
                if share > load:  # noqa: PLR1730
                    load = share
            yield load
            layer.load = load
            layer.count += count
            layer.changes += 1
            for name, amount, _ in needs:
                claimed[name] = claimed.get(name, 0.0) + amount

    def changes(self, depth: int) -> int:
        """How often something was added at this depth: while it stays the same, so do the loads."""
        return self._layers.get(depth, _EMPTY).changes


class Emptiest:
    """Which of some nodes would be the least full after one more demand of a kind; the first of equals.

    Loads only grow, so a heap will do whose entries are brought up to date when they come to its top.
    """

    __slots__ = ("_demand", "_depth", "_heap", "_loads")

    def __init__(
        self, nodes: Sequence[str], loads: Mapping[str, NodeLoad], depth: int, cost: Resources, count: int
    ) -> None:
        self._loads = loads
        self._depth = depth
        self._demand = cost, count
        self._heap = [self._entry(place, node) for place, node in enumerate(nodes)]
        heapify(self._heap)

    def at(self, depth: int) -> Emptiest:
        """The same for another depth, found without asking all nodes if nothing was given at this one."""
        twin = copy(self)
        twin._depth = depth
        twin._heap = self._heap.copy()
        return twin

    def find(self) -> tuple[str, float]:
        """The node, and its load after the demand."""
        heap, depth = self._heap, self._depth
        while True:
            load, place, node, changes = heap[0]
            if self._loads[node].changes(depth) == changes:
                return node, load
            heapreplace(heap, self._entry(place, node))

    def take(self, times: int) -> list[str]:
        """The nodes of as many demands, each of which is added to the emptiest; in order."""
        if times < len(self._heap):
            return [self._take_one() for _ in range(times)]
        filled = {node: self._loads[node].filled(self._depth, *self._demand) for _, _, node, _ in self._heap}
        heap = [(next(filled[node]), place, node, filled[node]) for _, place, node, _ in self._heap]
        heapify(heap)
        nodes = []
        for _ in range(times):
            _, place, node, more = heap[0]
            nodes.append(node)
            heapreplace(heap, (next(more), place, node, more))
        return nodes

    def _take_one(self) -> str:
        node, _ = self.find()
        self._loads[node].add_one(self._depth, *self._demand)
        return node

    def _entry(self, place: int, node: str) -> tuple[float, int, str, int]:
        load = self._loads[node]
        return load.after_one(self._depth, *self._demand), place, node, load.changes(self._depth)


class Fullest:
    """Which of some nodes would be the fullest after one more demand of a kind, of those that have room for it.

    A node without room never has any again. Loads that changed are found by what was added meanwhile.
    """

    __slots__ = ("_demand", "_depth", "_heap", "_loads", "_places", "_seen")

    def __init__(
        self, nodes: Sequence[str], loads: Mapping[str, NodeLoad], depth: int, cost: Resources, count: int
    ) -> None:
        self._loads = loads
        self._depth = depth
        self._demand = cost, count
        self._places = {node: place for place, node in enumerate(nodes)}
        self._heap: list[tuple[float, int, str, int]] = []
        self._seen = 0  # of the news

    def find(self, news: Sequence[str]) -> str | None:
        """The node, among those in ``news``, which are all that anything was ever added to; the first of equals."""
        heap, depth = self._heap, self._depth
        for node in dict.fromkeys(news[self._seen :]):
            if node in self._places:
                load = self._loads[node]
                after = load.after_one(depth, *self._demand)
                if waves(after) == 1:
                    heappush(heap, (-after, self._places[node], node, load.changes(depth)))
        self._seen = len(news)
        while heap:
            _, _, node, changes = heap[0]
            if self._loads[node].changes(depth) == changes:
                return node
            heappop(heap)
        return None


def waves(load: float) -> int:
    """How many times over a node of this load is filled, one after the other."""
    return max(1, math.ceil(load - SLACK))
