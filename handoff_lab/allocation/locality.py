"""Functions go to their data."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from statistics import fmean

from handoff_lab.allocation.base import Allocation
from handoff_lab.allocation.edges import Sizes, any_known, input_sizes
from handoff_lab.allocation.groups import Feasible, Group, collocation_groups, pinned_first
from handoff_lab.allocation.loads import Demand, Emptiest, NodeLoad, demand_by_depth, depths, fits, waves
from handoff_lab.graph import Function
from handoff_lab.resources import Resources

_FEW = 4  # so many nodes are compared in the time in which the best of many are found
_KEPT = 64  # as many depths and costs are remembered
_NOWHERE = -1  # a depth at which no function is
_NOTHING: Mapping[Hashable, float] = {}


class Locality:
    """The node to which the fewest bytes have to be moved.

    Sizes are those of ``Argument.nbytes``, else of the producer's
    ``output_size``; a size that is not known is taken to be the mean of those
    that are. Ties go to the node that has room, then to the one that holds
    what a common dependent needs too, then to the emptiest.

    When no size is known at all, bytes would be guesses, so room comes first:
    as many functions run side by side as the nodes have room for.
    """

    rebalances = True

    def allocate(self, functions: Sequence[Function], capabilities: Mapping[str, Resources]) -> Allocation:
        """Node of each function."""
        choice = _Choice(functions, capabilities)
        for group in pinned_first(collocation_groups(functions)):
            choice.place(group)
        return Allocation(choice.traffic.nodes)


class _Choice:
    """Places one group after the other, each where it does best by what was placed before."""

    def __init__(self, functions: Sequence[Function], capabilities: Mapping[str, Resources]) -> None:
        self.traffic = _Traffic(functions)
        self._capabilities = capabilities
        self._feasible = Feasible(capabilities)
        self._depths = depths(functions)
        self._loads = {node: NodeLoad(has) for node, has in capabilities.items()}
        self._untouched: dict[Resources, Emptiest] = {}  # by cost, where nothing was given yet
        self._emptiest: dict[tuple[int, Resources], Emptiest] = {}  # by depth and cost, the latest few

    def place(self, group: Group) -> None:
        demand = demand_by_depth(group, self._depths)
        feasible = self._feasible(group)
        node = feasible[0] if len(feasible) == 1 else self._choose(group, demand, feasible)
        self._loads[node].add(demand)
        self.traffic.place(group, node)

    def _choose(self, group: Group, demand: Demand, feasible: Sequence[str]) -> str:
        candidates = feasible
        if len(group.members) == 1:
            function = group.members[0]
            if not self.traffic.passes_anything(function):
                return self._find_emptiest(demand, feasible)
            if len(feasible) > _FEW:  # nodes that have nothing to do with its data: the emptiest is the best of them
                linked = self.traffic.linked(function)
                near = {node for node in linked if group.peak.fits_in(self._capabilities[node])}
                candidates = sorted(near | {self._find_emptiest(demand, feasible)})
        return self._least_bad(group, demand, candidates)

    def _find_emptiest(self, demand: Demand, feasible: Sequence[str]) -> str:
        ((depth, (cost, count)),) = demand.items()
        emptiest = self._emptiest.get((depth, cost))
        if emptiest is None:
            emptiest = self._emptiest[depth, cost] = self._at_depth(depth, cost, count, feasible)
        return emptiest.find()[0]

    def _at_depth(self, depth: int, cost: Resources, count: int, feasible: Sequence[str]) -> Emptiest:
        if cost not in self._untouched:
            self._untouched[cost] = Emptiest(feasible, self._loads, _NOWHERE, cost, count)
        if len(self._emptiest) >= _KEPT:  # functions come nearly by depth: of a long graph, one need not keep all
            del self._emptiest[next(iter(self._emptiest))]
        return self._untouched[cost].at(depth)

    def _least_bad(self, group: Group, demand: Demand, candidates: Sequence[str]) -> str:
        loads = {node: self._loads[node].after(demand) for node in candidates}
        if self.traffic.sizes_known:
            nodes = _with_room(self._nearest(group, candidates), loads)
        else:
            nodes = self._nearest(group, _with_room(candidates, loads))
        if len(nodes) == 1:
            return nodes[0]
        wanted = self.traffic.wanted_elsewhere(group)
        return min(nodes, key=lambda node: (-wanted.get(node, 0.0), loads[node]))

    def _nearest(self, group: Group, nodes: Sequence[str]) -> Sequence[str]:
        """Those to which the least is moved."""
        if len(nodes) == 1:
            return nodes
        moved = [self.traffic.moved(group, node) for node in nodes]
        least = min(moved)
        return [node for node, nbytes in zip(nodes, moved, strict=True) if nbytes == least]


def _with_room(nodes: Sequence[str], loads: Mapping[str, float]) -> Sequence[str]:
    """Those that would be filled the fewest times over."""
    fewest = waves(min([loads[node] for node in nodes]))
    return [node for node in nodes if fits(loads[node], fewest)]


def _weighed(sizes: Sizes) -> dict[Hashable, dict[Hashable, float]]:
    """Bytes of all inputs; the mean of those that are known stands for the others."""
    guess = fmean(size for inputs in sizes.values() for size in inputs.values() if size is not None)
    return {
        id: {producer: guess if size is None else size for producer, size in inputs.items()}
        for id, inputs in sizes.items()
    }


class _Traffic:
    """Which results lie where, and what moving them costs."""

    def __init__(self, functions: Sequence[Function]) -> None:
        self.nodes: dict[Hashable, str] = {}
        sizes = input_sizes(functions)
        self.sizes_known = any_known(sizes)
        self._inputs = _weighed(sizes) if self.sizes_known else {id: dict.fromkeys(sizes[id], 1.0) for id in sizes}
        self._outputs: defaultdict[Hashable, list[tuple[Hashable, float]]] = defaultdict(list)
        for id, inputs in self._inputs.items():
            for producer, size in inputs.items():
                self._outputs[producer].append((id, size))
        self._in_order = all(function.node is None for function in functions)  # no one before what it needs
        # by function: the nodes on which its result will be, its own and its users'
        self._lies: defaultdict[Hashable, set[str]] = defaultdict(set)
        # by function, then node: bytes that it needs from there
        self._gathered: defaultdict[Hashable, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))

    def passes_anything(self, function: Function) -> bool:
        """Whether it takes a result from another function, or another from it."""
        return function.id in self._outputs or bool(self._inputs.get(function.id))

    def linked(self, function: Function) -> set[str]:
        """Nodes that make a difference to what is moved, or that a dependent needs results from, too."""
        linked: set[str] = set()
        for producer in self._inputs.get(function.id, ()):
            linked |= self._lies.get(producer, linked)
        for dependent, _ in self._outputs.get(function.id, ()):
            linked.update(self._gathered.get(dependent, ()))
            if dependent in self.nodes:
                linked.add(self.nodes[dependent])
        return linked

    def moved(self, group: Group, node: str) -> float:
        """Bytes that would be moved between nodes if ``group`` ran on ``node``, as far as is decided."""
        nbytes = 0.0
        for function in group.members:
            for producer, size in self._inputs.get(function.id, _NOTHING).items():
                if producer in self.nodes and node not in self._lies[producer]:
                    nbytes += size
            if not self._in_order:
                targets = {self.nodes.get(id, node): size for id, size in self._outputs.get(function.id, ())}
                nbytes += sum(size for target, size in targets.items() if target != node)
        return nbytes

    def wanted_elsewhere(self, group: Group) -> dict[str, float]:
        """Bytes on each node that a dependent of ``group`` will need beside its result."""
        total: dict[str, float] = {}
        for function in group.members:
            for dependent, _ in self._outputs.get(function.id, ()):
                if dependent in self._gathered:
                    for node, size in self._gathered[dependent].items():
                        total[node] = total.get(node, 0.0) + size
        return total

    def place(self, group: Group, node: str) -> None:
        for function in group.members:
            id = function.id
            self.nodes[id] = node
            if id in self._outputs:
                self._lies[id].add(node)
                for dependent, size in self._outputs[id]:
                    self._gathered[dependent][node] += size
            for producer in self._inputs.get(id, ()):
                self._lies[producer].add(node)
