"""As few nodes as will do, and none of them too good for the work."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

from handoff_lab.allocation.base import Allocation
from handoff_lab.allocation.groups import Feasible, Group, collocation_groups
from handoff_lab.allocation.loads import Demand, NodeLoad, demand_by_depth, depths, waves
from handoff_lab.graph import Function
from handoff_lab.resources import Resources

_ORDINARY = frozenset({"cpu", "memory"})


class CostOptimized:
    """The fewest resources held: best-fit decreasing bin packing.

    What can run side by side (functions of equal depth) is packed side by
    side; a chain needs one node however long it is. A node with a resource
    beyond cpu and memory gets only functions that need it, or that no other
    node can hold.
    """

    def allocate(self, functions: Sequence[Function], capabilities: Mapping[str, Resources]) -> Allocation:
        """Node of each function."""
        feasible = Feasible(capabilities)
        depth = depths(functions)
        packing = _Packing(capabilities)
        nodes: dict[Hashable, str] = {}
        for group in sorted(collocation_groups(functions), key=lambda g: (g.pin is None, -packing.size(g.cost))):
            demand = demand_by_depth(group, depth, count_slots=False)
            node = packing.place(group, demand, feasible(group))
            nodes.update((function.id, node) for function in group.members)
        return Allocation(nodes)


class _Packing:
    """Nodes in use, and how full they are."""

    def __init__(self, capabilities: Mapping[str, Resources]) -> None:
        self._capabilities = capabilities
        self._loads = {node: NodeLoad(has) for node, has in capabilities.items()}
        self._open: set[str] = set()
        self._most = _most(capabilities)
        self._price = {node: self._sum_of_shares(has) for node, has in capabilities.items()}

    def size(self, cost: Resources) -> float:
        """The largest share of any resource, of the most that a node has."""
        return max((amount / self._most[name] for name, amount in cost.items()), default=0.0)

    def place(self, group: Group, demand: Demand, feasible: Sequence[str]) -> str:
        node = self._choose(self._least_wasted(group.peak, feasible), demand)
        self._open.add(node)
        self._loads[node].add(demand)
        return node

    def _choose(self, nodes: Sequence[str], demand: Demand) -> str:
        after = {node: self._loads[node].after(demand) for node in nodes}
        fitting = [node for node in nodes if waves(after[node]) == 1]
        in_use = [node for node in fitting if node in self._open]
        if in_use:
            return max(in_use, key=lambda node: after[node])
        if fitting:
            return min(fitting, key=lambda node: self._price[node])
        return min(nodes, key=lambda node: (node not in self._open, after[node]))

    def _least_wasted(self, cost: Resources, nodes: Sequence[str]) -> list[str]:
        wasted = {node: self._specials(node, cost) for node in nodes}
        least = min(wasted.values())
        return [node for node in nodes if wasted[node] == least]

    def _specials(self, node: str, cost: Resources) -> int:
        """How many of the node's special resources ``cost`` has no use for."""
        return sum(
            1 for name, has in self._capabilities[node].items() if has and name not in _ORDINARY and not cost[name]
        )

    def _sum_of_shares(self, has: Resources) -> float:
        return sum(amount / self._most[name] for name, amount in has.items() if amount)


def _most(capabilities: Mapping[str, Resources]) -> dict[str, float]:
    most: dict[str, float] = {}
    for has in capabilities.values():
        for name, amount in has.items():
            most[name] = max(amount, most.get(name, 0.0))
    return most
