"""Handoff's own strategy: fill one node, then the next."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from handoff_lab.allocation.base import Allocation
from handoff_lab.allocation.groups import Feasible, Group, alike, any_bound, collocation_groups, pinned_first
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

    rebalances = False

    def __init__(self, this_node: str = "local") -> None:
        self.this_node = this_node

    def allocate(self, functions: Sequence[Function], capabilities: Mapping[str, Resources]) -> Allocation:
        """Node of each function."""
        feasible = Feasible(capabilities)
        ledger = _Ledger(sorted(capabilities, key=lambda node: (node != self.this_node, node)), capabilities)
        if not any_bound(functions):
            runs = chain.from_iterable(ledger.place_alike(first, times, feasible) for first, times in alike(functions))
            return Allocation({function.id: node for function, node in zip(functions, runs, strict=True)})
        nodes: dict[Hashable, str] = {}
        for group in pinned_first(collocation_groups(functions)):
            node = ledger.place(group, feasible)
            for function in group.members:
                nodes[function.id] = node
        return Allocation(nodes)


class _Ledger:
    """What is left of each node, and the order in which nodes are tried."""

    def __init__(self, order: Sequence[str], capabilities: Mapping[str, Resources]) -> None:
        self._capabilities = capabilities
        self._left = dict(capabilities)
        self._latest = {node: stamp for stamp, node in enumerate(reversed(order))}  # what is tried first comes last
        self._moves: list[tuple[str, int]] = []  # nodes that came to the front, with their new stamps
        self._front = order[0] if order else None
        self._stacks: dict[Resources, _Stack] = {}  # of this round
        self._rounds = 0

    def place(self, group: Group, feasible: Feasible) -> str:
        cost = group.cost
        if not cost and group.pin is None and self._front is not None:
            return self._front
        node = group.pin or self._with_room(cost) or self._in_a_new_round(cost)
        if node is None:  # together they are too much for any node, one by one they are not
            allowed = set(feasible(group))
            return next(node for node in reversed(self._latest) if node in allowed)
        self._left[node] -= cost
        if group.pin is None and node != self._front:
            self._move_to_front(node)
        return node

    def place_alike(self, group: Group, times: int, feasible: Feasible) -> list[str]:
        """Nodes of as many functions like this one: a round goes through them there, the next goes back, and so on."""
        if not group.cost:
            return [self.place(group, feasible)] * times
        nodes: list[str] = []
        begun: list[int] = []  # how many were placed when each round had just begun
        while len(nodes) < times:
            rounds = self._rounds
            nodes.append(self.place(group, feasible))
            if self._rounds > rounds:
                begun.append(len(nodes))
                if len(begun) == 3:
                    there_and_back = nodes[begun[0] :]
                    nodes += there_and_back * ((times - len(nodes)) // len(there_and_back))
        return nodes

    def _move_to_front(self, node: str) -> None:
        stamp = len(self._capabilities) + len(self._moves)
        del self._latest[node]
        self._latest[node] = stamp
        self._moves.append((node, stamp))
        self._front = node

    def _in_a_new_round(self, cost: Resources) -> str | None:
        if not any(cost.fits_in(capabilities) for capabilities in self._capabilities.values()):
            return None
        self._left = dict(self._capabilities)
        self._stacks.clear()
        self._rounds += 1
        return self._with_room(cost)

    def _with_room(self, cost: Resources) -> str | None:
        stack = self._stacks.get(cost)
        if stack is None:
            stack = self._stacks[cost] = _Stack([*self._latest.items()], len(self._moves))
        elif stack.seen < len(self._moves):
            stack.entries += self._moves[stack.seen :]
            stack.seen = len(self._moves)
        entries = stack.entries
        while entries:
            node, stamp = entries[-1]
            if self._latest[node] == stamp and cost.fits_in(self._left[node]):
                return node
            entries.pop()
        return None


@dataclass(slots=True)
class _Stack:
    """Nodes that may have room for one cost in this round, the first to be tried on top."""

    entries: list[tuple[str, int]]  # with stamps: one that is not the node's latest is out of date
    seen: int  # moves that are worked in
