"""Functions go to their data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import compress, groupby
from operator import or_

from handoff_lab.allocation.base import Allocation
from handoff_lab.allocation.edges import Edges, nothing_said
from handoff_lab.allocation.groups import Feasible, Group, alone, any_bound, collocation_groups, pinned_first
from handoff_lab.allocation.loads import SLACK, Demand, Emptiest, NodeLoad, demand_by_depth, depths, waves
from handoff_lab.allocation.traffic import Traffic
from handoff_lab.graph import Function
from handoff_lab.resources import Resources

_FEW = 8  # so many nodes are compared in the time in which the best of many are found
_KEPT = 64  # as many depths and costs are remembered
_NOWHERE = -1  # a depth at which no function is
_NOTHING = Resources()
_LANE = 32  # bits of a count
_LANES = 64  # nodes up to which counts of all of them are one number: with more, these take too much memory
_COUNT = (1 << _LANE) - 1


class Locality:
    """The node to which the fewest bytes have to be moved.

    Sizes are those of ``Argument.nbytes``, else of the producer's
    ``output_size``; a size that is not known is taken to be the mean of those
    that are. Ties go to the node that has room, then to the one that holds
    what a common dependent needs too, then to the emptiest.

    When no size is known at all, bytes would be guesses, so room comes first:
    each node takes as many functions of each depth as it has room for, those
    whose inputs lie there before others.
    """

    rebalances = True

    def allocate(self, functions: Sequence[Function], capabilities: Mapping[str, Resources]) -> Allocation:
        """Node of each function."""
        if len(capabilities) <= _LANES and nothing_said(functions) and not any_bound(functions):
            return Allocation(_Unsized(functions, capabilities).nodes())
        choice = _Choice(functions, capabilities)
        for group in pinned_first(collocation_groups(functions)):
            choice.place(group)
        return Allocation(choice.traffic.nodes)


class _Choice:
    """Places one group after the other, each where it does best by what was placed before."""

    def __init__(self, functions: Sequence[Function], capabilities: Mapping[str, Resources]) -> None:
        self.traffic = Traffic(functions)
        self._capabilities = capabilities
        self._feasible = Feasible(capabilities)
        self._depths = depths(functions)
        self._loads = {node: NodeLoad(has) for node, has in capabilities.items()}
        self._emptiest = _EmptiestByDepth(self._loads)

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
        ((depth, (cost, _)),) = demand.items()
        return self._emptiest.at(depth, cost, feasible).find()[0]

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
    return [node for node in nodes if loads[node] - SLACK <= fewest]


class _EmptiestByDepth:
    """The emptiest nodes for one function of each cost, at each depth."""

    def __init__(self, loads: Mapping[str, NodeLoad]) -> None:
        self._loads = loads
        self._untouched: dict[Resources, Emptiest] = {}  # by cost, where nothing was given yet
        self._latest: dict[tuple[int, Resources], Emptiest] = {}  # by depth and cost, the latest few

    def at(self, depth: int, cost: Resources, feasible: Sequence[str]) -> Emptiest:
        emptiest = self._latest.get((depth, cost))
        if emptiest is None:
            if cost not in self._untouched:
                self._untouched[cost] = Emptiest(feasible, self._loads, _NOWHERE, cost, 1)
            if len(self._latest) >= _KEPT:  # functions come nearly by depth: of a long graph, one need not keep all
                del self._latest[next(iter(self._latest))]
            emptiest = self._latest[depth, cost] = self._untouched[cost].at(depth)
        return emptiest


class _Shares:
    """How many functions of one cost at one depth each node still takes, so that all are filled alike."""

    def __init__(self, left: dict[str, int], to_come: int, first: str) -> None:
        self.left = left
        self.to_come = to_come
        self._latest = first

    def copy(self) -> _Shares:
        """The same."""
        return _Shares(self.left.copy(), self.to_come, self._latest)

    def take(self, node: str) -> None:
        """One function goes to ``node``."""
        self.to_come -= 1
        self._latest = node
        self.left[node] -= 1
        if not self.left[node]:
            del self.left[node]

    def next(self) -> str:
        """The node that takes what is drawn to none: neighbours, who often need the same, stay together."""
        if self._latest not in self.left:
            self._latest = next(iter(self.left))
        return self._latest


class _Unsized:
    """Places functions that are bound to nothing, where no size is known: each input counts as one.

    Nodes take their shares of each depth; which functions make up a share depends on where inputs lie.
    Functions go by their number. Counts by node are one whole number, with a lane of bits for each node: this adds
    up all nodes at once.
    """

    def __init__(self, functions: Sequence[Function], capabilities: Mapping[str, Resources]) -> None:
        self._functions = functions
        edges = Edges(functions)
        self._inputs, self._outputs = edges.inputs, edges.outputs
        self._names = sorted(capabilities)
        self._shift = {node: place * _LANE for place, node in enumerate(self._names)}
        self._elsewhere = {node: ~(_COUNT << shift) for node, shift in self._shift.items()}  # lanes of other nodes
        self._feasible = Feasible(capabilities)
        self._loads = {node: NodeLoad(has) for node, has in capabilities.items()}
        self._emptiest = _EmptiestByDepth(self._loads)
        costs: dict[Resources, int] = {}
        numbers = [costs.setdefault(function.cost, len(costs)) for function in functions]
        self._costs = list(costs)
        self._kinds = [depth * len(costs) + cost for depth, cost in zip(edges.depth, numbers, strict=True)]
        self._shares: dict[int, _Shares] = {}  # by kind: functions of one cost at one depth
        self._alike: dict[tuple[Resources, int], _Shares] = {}  # at depths with one cost alone, by it and their size
        self._passing = [*map(or_, map(bool, edges.inputs), map(bool, edges.outputs))]
        self._counts = Counter(compress(self._kinds, self._passing))
        self._costs_at = Counter(kind // len(costs) for kind in self._counts)
        self._lies = [0] * len(functions)  # one on each node on which the result will be, its own and its users'
        self._gathered = [0] * len(functions)  # inputs that are made on each node

    def nodes(self) -> dict[Hashable, str]:
        """Node of each function."""
        nodes: list[str] = []
        for passes, run in groupby(self._passing):
            count = len([*run])
            numbers = range(len(nodes), len(nodes) + count)
            if passes:
                nodes += [self._place(i) for i in numbers]
            else:
                for cost, same in groupby([self._functions[i].cost for i in numbers]):  # placed at once
                    nodes += self._emptiest.at(0, cost, self._holding(len(nodes))).take(len([*same]))
        return {function.id: node for function, node in zip(self._functions, nodes, strict=True)}

    def _holding(self, i: int) -> list[str]:
        return self._feasible(alone(self._functions[i]))

    def _place(self, i: int) -> str:
        lies, gathered, inputs, outputs = self._lies, self._gathered, self._inputs[i], self._outputs[i]
        kind = self._kinds[i]
        shares = self._shares.get(kind) or self._open_shares(i, kind)
        node = shares.next()
        if len(shares.left) > 1:
            near = sum([lies[producer] for producer in inputs])  # inputs that lie on each node
            wanted = sum([gathered[dependent] for dependent in outputs])  # what its users need too, made on each node
            if (near | wanted) & self._elsewhere[node]:
                node = self._choose(node, near, wanted, shares)
        shares.take(node)
        if not shares.to_come:
            del self._shares[kind]
        one = 1 << self._shift[node]
        lies[i] |= one
        for producer in inputs:
            lies[producer] |= one
        for dependent in outputs:
            gathered[dependent] += one
        return node

    def _open_shares(self, i: int, kind: int) -> _Shares:
        depth, number = divmod(kind, len(self._costs))
        cost, count = self._costs[number], self._counts[kind]
        if depth == 0 or self._costs_at[depth] > 1:
            shares = self._new_shares(i, depth, cost, count)
        else:
            if (cost, count) not in self._alike:
                self._alike[cost, count] = self._new_shares(i, depth, cost, count)
            shares = self._alike[cost, count].copy()
        self._shares[kind] = shares
        return shares

    def _new_shares(self, i: int, depth: int, cost: Resources, count: int) -> _Shares:
        holding = self._holding(i)
        taken = self._emptiest.at(depth, cost, holding).take(count)
        fullest = max(self._loads[node].after_one(depth, _NOTHING, 0) for node in {*taken})
        as_well = [node for node in holding if self._loads[node].after_one(depth, cost, 1) <= fullest + SLACK]
        return _Shares(dict(Counter((*taken, *as_well))), count, taken[0])

    def _choose(self, chosen: str, near: int, wanted: int, shares: _Shares) -> str:
        """Of the nodes that take more: where most inputs lie, then where most is made that its users need too."""
        best = near >> self._shift[chosen] & _COUNT, wanted >> self._shift[chosen] & _COUNT
        for node in reversed(self._names) if len(self._names) <= _FEW else self._linked(near | wanted):
            shift = self._shift[node]
            merit = near >> shift & _COUNT, wanted >> shift & _COUNT
            if merit > best and node in shares.left:
                chosen, best = node, merit
        return chosen

    def _linked(self, counts: int) -> Iterator[str]:
        """The nodes that hold something, the last first."""
        while counts:
            place = (counts.bit_length() - 1) // _LANE
            counts &= (1 << place * _LANE) - 1
            yield self._names[place]
