"""Every node equally full, for what it has."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

from handoff_lab.allocation.base import Allocation
from handoff_lab.allocation.edges import Sizes, any_known, input_sizes, nothing_said
from handoff_lab.allocation.groups import Feasible, Group, alike, any_bound, collocation_groups, pinned_first
from handoff_lab.allocation.loads import Emptiest, NodeLoad
from handoff_lab.graph import Function
from handoff_lab.resources import Resources


class LoadBalanced:
    """Each function goes where the fullest resource stays the least full.

    Fullness is relative, so a node of ``cpu: 8`` gets four times the share of
    one of ``cpu: 2``. Each function counts as one of its node's slots too,
    which is what balances functions without a cost. Of equally full nodes, the
    one that has most bytes of its inputs is taken, where sizes are known.
    """

    rebalances = True

    def allocate(self, functions: Sequence[Function], capabilities: Mapping[str, Resources]) -> Allocation:
        """Node of each function."""
        if nothing_said(functions) and not any_bound(functions):
            return Allocation(_balanced(functions, capabilities))
        sizes = input_sizes(functions)
        balance = _Balance(capabilities, sizes if any_known(sizes) else {})
        for group in pinned_first(collocation_groups(functions)):
            balance.place(group)
        return Allocation(balance.nodes)


def _balanced(functions: Sequence[Function], capabilities: Mapping[str, Resources]) -> dict[Hashable, str]:
    """Nodes of functions that may go anywhere, where there are no bytes to count."""
    feasible = Feasible(capabilities)
    loads = {node: NodeLoad(has) for node, has in capabilities.items()}
    emptiest: dict[Resources, Emptiest] = {}
    nodes: list[str] = []
    for first, times in alike(functions):
        if first.cost not in emptiest:
            emptiest[first.cost] = Emptiest(feasible(first), loads, 0, first.cost, 1)
        nodes += emptiest[first.cost].take(times)
    return {function.id: node for function, node in zip(functions, nodes, strict=True)}


class _Balance:
    def __init__(self, capabilities: Mapping[str, Resources], sizes: Sizes) -> None:
        self.nodes: dict[Hashable, str] = {}
        self._capabilities = capabilities
        self._feasible = Feasible(capabilities)
        self._loads = {node: NodeLoad(has) for node, has in capabilities.items()}
        self._emptiest: dict[tuple[Resources, Resources, int], Emptiest] = {}
        self._sizes = sizes

    def place(self, group: Group) -> None:
        count = len(group.members)
        node = group.pin if group.pin is not None else self._choose(group, count)
        self._loads[node].add_one(0, group.cost, count)  # all at one depth: the whole run counts
        for function in group.members:
            self.nodes[function.id] = node

    def _choose(self, group: Group, count: int) -> str:
        kind = (group.cost, group.peak, count)
        emptiest = self._emptiest.get(kind)
        if emptiest is None:
            emptiest = self._emptiest[kind] = Emptiest(self._feasible(group), self._loads, 0, group.cost, count)
        node, load = emptiest.find()
        there = self._bytes_by_node(group) if self._sizes else None
        if not there:
            return node
        fitting = [n for n in there if group.peak.fits_in(self._capabilities[n])]
        equal = [n for n in fitting if self._loads[n].after_one(0, group.cost, count) == load]
        return max([node, *equal], key=lambda n: there.get(n, 0.0))

    def _bytes_by_node(self, group: Group) -> dict[str, float]:
        """Bytes of the inputs of ``group`` that will be made on each node."""
        there: dict[str, float] = {}
        for function in group.members:
            for producer, nbytes in self._sizes.get(function.id, {}).items():
                node = self.nodes.get(producer)
                if node is not None and nbytes:
                    there[node] = there.get(node, 0.0) + nbytes
        return there
