"""As few nodes as will do, and none of them too good for the work."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence

from handoff_lab.allocation.base import Allocation
from handoff_lab.allocation.groups import Feasible, Group, collocation_groups
from handoff_lab.allocation.loads import Demand, Emptiest, Fullest, NodeLoad, demand_by_depth, depths, waves
from handoff_lab.graph import Function
from handoff_lab.resources import Resources

_ORDINARY = frozenset({"cpu", "memory"})
_NONE = (Resources(), -1, "")


class CostOptimized:
    """The fewest resources held: best-fit decreasing bin packing.

    What can run side by side (functions of equal depth) is packed side by
    side; a chain needs one node however long it is. A node with a resource
    beyond cpu and memory gets only functions that need it, or that no other
    node can hold.
    """

    rebalances = False

    def allocate(self, functions: Sequence[Function], capabilities: Mapping[str, Resources]) -> Allocation:
        """Node of each function."""
        feasible = Feasible(capabilities)
        depth = depths(functions)
        packing = _Packing(capabilities)
        nodes: dict[Hashable, str] = {}
        for group in sorted(collocation_groups(functions), key=lambda g: (g.pin is None, -packing.size(g.cost))):
            demand = demand_by_depth(group, depth, count_slots=False)
            node = packing.place(group, demand, feasible(group))
            for function in group.members:
                nodes[function.id] = node
        return Allocation(nodes)


class _Packing:
    """Nodes in use, and how full they are.

    Most functions are like the one before at their depth, and go where that went while there is room. When there is no
    room anywhere for their kind any more, there never will be, and they go to the emptiest of all.
    """

    def __init__(self, capabilities: Mapping[str, Resources]) -> None:
        self._capabilities = capabilities
        self._loads = {node: NodeLoad(has) for node, has in capabilities.items()}
        self._open: set[str] = set()
        self._most = _most(capabilities)
        self._price = {node: self._sum_of_shares(has) for node, has in capabilities.items()}
        self._sizes: dict[Resources, float] = {}
        self._latest: dict[int, tuple[Resources, int, str]] = {}  # by depth: cost, nodes in use then, and where it went
        self._crowded: dict[tuple[int, Resources], Emptiest] = {}
        self._suitable: dict[Resources, list[str]] = {}  # by cost: the nodes that it wastes least of
        self._unused: dict[Resources, Iterator[str]] = {}  # by cost: those of them that are not in use, cheapest first
        self._roomy: dict[tuple[int, Resources], Fullest] = {}
        self._news: list[str] = []  # nodes in the order in which they got something

    def size(self, cost: Resources) -> float:
        """The largest share of any resource, of the most that a node has."""
        size = self._sizes.get(cost)
        if size is None:
            shares = (amount / self._most[name] for name, amount in cost.items())
            size = self._sizes[cost] = max(shares, default=0.0)
        return size

    def place(self, group: Group, demand: Demand, feasible: Sequence[str]) -> str:
        alone = len(group.members) == 1 and group.pin is None
        node = self._as_before(demand) if alone else None
        if node is None:
            node = self._choose_alone(demand, feasible) if alone else self._choose(group.peak, demand, feasible)
        self._open.add(node)
        self._news.append(node)
        self._loads[node].add(demand)
        for depth, (cost, _) in demand.items():
            self._latest[depth] = cost, len(self._open) if alone else 0, node
        return node

    def _as_before(self, demand: Demand) -> str | None:
        """The node for one that is like the one before at its depth; None: to be looked for."""
        ((depth, (cost, _)),) = demand.items()
        crowded = self._crowded.get((depth, cost))
        if crowded is not None:
            return crowded.find()[0]
        before, in_use, node = self._latest.get(depth, _NONE)
        if in_use != len(self._open) or before != cost or waves(self._loads[node].after(demand)) > 1:
            return None
        return node

    def _choose_alone(self, demand: Demand, feasible: Sequence[str]) -> str:
        ((depth, (cost, count)),) = demand.items()
        nodes = self._suitable.get(cost)
        if nodes is None:
            nodes = self._suitable[cost] = self._least_wasted(cost, feasible)
            self._unused[cost] = iter(sorted(nodes, key=self._price.__getitem__))
        roomy = self._roomy.get((depth, cost))
        if roomy is None:
            roomy = self._roomy[depth, cost] = Fullest(nodes, self._loads, depth, cost, count)
        in_use = roomy.find(self._news)
        if in_use is not None:
            return in_use
        unused = next((node for node in self._unused[cost] if node not in self._open), None)
        if unused is not None:
            return unused
        crowded = self._crowded[depth, cost] = Emptiest(nodes, self._loads, depth, cost, count)
        return crowded.find()[0]

    def _choose(self, peak: Resources, demand: Demand, feasible: Sequence[str]) -> str:
        nodes = self._least_wasted(peak, feasible)
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
