"""How full nodes would be: shares of their capabilities and slots, by what can run side by side."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence

from handoff_lab.allocation.groups import Group
from handoff_lab.graph import Function
from handoff_lab.resources import Resources

# What runs at each depth of the graph: costs, and how many functions.
Demand = Mapping[int, tuple[Resources, int]]


def slots(capabilities: Resources) -> int:
    """How many functions a node runs in parallel."""
    return max(1, math.floor(capabilities["cpu"]))


def depths(functions: Sequence[Function]) -> dict[Hashable, int]:
    """Longest way from a source to each function; only those of equal depth are taken to run side by side."""
    known: dict[Hashable, int] = {}
    for function in functions:
        above = [known[id] for id in function.dependencies if id in known]
        known[function.id] = max(above, default=-1) + 1
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


class NodeLoad:
    """What was given to one node, at each depth, as a share of what it has.

    1.0 means that it is just full; above that, functions wait for each other.
    """

    def __init__(self, capabilities: Resources) -> None:
        self._capabilities = dict(capabilities)
        self._slots = slots(capabilities)
        self._claimed: dict[tuple[int, str], float] = {}
        self._count: dict[int, int] = {}
        self._load: dict[int, float] = {}

    def after(self, demand: Demand) -> float:
        """The load, at the depths that ``demand`` touches, if it came here too."""
        return max(self._at(depth, cost, count) for depth, (cost, count) in demand.items())

    def add(self, demand: Demand) -> None:
        """``demand`` comes here."""
        for depth, (cost, count) in demand.items():
            self._load[depth] = self._at(depth, cost, count)
            self._count[depth] = self._count.get(depth, 0) + count
            for name, amount in cost.items():
                self._claimed[depth, name] = self._claimed.get((depth, name), 0.0) + amount

    def _at(self, depth: int, cost: Resources, count: int) -> float:
        load = max(self._load.get(depth, 0.0), (self._count.get(depth, 0) + count) / self._slots)
        for name, amount in cost.items():
            share = (self._claimed.get((depth, name), 0.0) + amount) / self._capabilities[name]
            load = max(load, share)
        return load


def waves(load: float) -> int:
    """How many times over a node of this load is filled, one after the other."""
    return max(1, math.ceil(load - 1e-6))
