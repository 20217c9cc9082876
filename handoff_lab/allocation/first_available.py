"""Handoff's own strategy: fill one node, then the next."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

from handoff_lab.allocation.base import Allocation
from handoff_lab.allocation.groups import Feasible, Group, collocation_groups
from handoff_lab.graph import Function
from handoff_lab.resources import Resources


class FirstAvailable:
    """The first node with room, starting at the one that had room last.

    Nodes are tried by name, ``this_node`` first. Pinned functions take their
    share before the others. When all nodes are full a new round begins, as if
    they were empty: costs are claimed only while functions run, so these wait.

    Parameters
    ----------
    this_node
        The node tried first, if there is one of this name.

    Notes
    -----
    The order is that of ``Handoff.SimpleAllocator``.
    """

    def __init__(self, this_node: str = "local") -> None:
        self.this_node = this_node

    def allocate(self, functions: Sequence[Function], capabilities: Mapping[str, Resources]) -> Allocation:
        """Node of each function."""
        groups = collocation_groups(functions)
        feasible = Feasible(capabilities)
        ledger = _Ledger(sorted(capabilities, key=lambda node: (node != self.this_node, node)), capabilities)
        nodes: dict[Hashable, str] = {}
        for group in sorted(groups, key=lambda group: group.pin is None):
            node = ledger.place(group, feasible(group))
            nodes.update((function.id, node) for function in group.members)
        return Allocation(nodes)


class _Ledger:
    """What is left of each node, and the order in which nodes are tried."""

    def __init__(self, order: list[str], capabilities: Mapping[str, Resources]) -> None:
        self._order = order
        self._capabilities = capabilities
        self._left = dict(capabilities)
        self._full: dict[Resources, set[str]] = {}  # cost to nodes that have no room for it in this round

    def place(self, group: Group, feasible: Sequence[str]) -> str:
        node = group.pin or self._with_room(group.cost) or self._in_a_new_round(group.cost)
        if node is None:  # together they are too much for any node, one by one they are not
            allowed = set(feasible)
            return next(node for node in self._order if node in allowed)
        self._left[node] -= group.cost
        if group.pin is None and group.cost:
            self._order.remove(node)
            self._order.insert(0, node)
        return node

    def _in_a_new_round(self, cost: Resources) -> str | None:
        if not any(cost.fits_in(capabilities) for capabilities in self._capabilities.values()):
            return None
        self._left = dict(self._capabilities)
        self._full.clear()
        return self._with_room(cost)

    def _with_room(self, cost: Resources) -> str | None:
        full = self._full.setdefault(cost, set())
        for node in self._order:
            if node not in full:
                if cost.fits_in(self._left[node]):
                    return node
                full.add(node)
        return None
