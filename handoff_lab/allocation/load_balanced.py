"""Every node equally full, for what it has."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

from handoff_lab.allocation.base import Allocation
from handoff_lab.allocation.groups import Feasible, collocation_groups
from handoff_lab.allocation.loads import Demand, NodeLoad
from handoff_lab.graph import Function
from handoff_lab.resources import Resources


class LoadBalanced:
    """Each function goes where the fullest resource stays the least full.

    Fullness is relative, so a node of ``cpu: 8`` gets four times the share of
    one of ``cpu: 2``. Each function counts as one of its node's slots too,
    which is what balances functions without a cost.
    """

    def allocate(self, functions: Sequence[Function], capabilities: Mapping[str, Resources]) -> Allocation:
        """Node of each function."""
        feasible = Feasible(capabilities)
        loads = {node: NodeLoad(has) for node, has in sorted(capabilities.items())}
        nodes: dict[Hashable, str] = {}
        for group in sorted(collocation_groups(functions), key=lambda group: group.pin is None):
            demand: Demand = {0: (group.cost, len(group.members))}  # all at one depth: the whole run counts
            node = min(feasible(group), key=lambda node: loads[node].after(demand))
            loads[node].add(demand)
            nodes.update((function.id, node) for function in group.members)
        return Allocation(nodes)
