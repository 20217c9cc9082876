"""Functions go to their data."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from statistics import fmean

from handoff_lab.allocation.base import Allocation
from handoff_lab.allocation.groups import Feasible, Group, collocation_groups
from handoff_lab.allocation.loads import Demand, NodeLoad, demand_by_depth, depths, waves
from handoff_lab.graph import Function
from handoff_lab.resources import Resources


class Locality:
    """The node to which the fewest bytes have to be moved.

    Sizes are those of ``Argument.nbytes``, else of the producer's
    ``output_size``; a size that is not known is taken to be the mean of those
    that are. Ties go to the node that has room, then to the one that holds
    what a common dependent needs too, then to the emptiest.

    When no size is known at all, bytes would be guesses, so room comes first:
    as many functions run side by side as the nodes have room for.
    """

    def allocate(self, functions: Sequence[Function], capabilities: Mapping[str, Resources]) -> Allocation:
        """Node of each function."""
        feasible = Feasible(capabilities)
        depth = depths(functions)
        loads = {node: NodeLoad(has) for node, has in capabilities.items()}
        traffic = _Traffic(functions)
        for group in sorted(collocation_groups(functions), key=lambda group: group.pin is None):
            demand = demand_by_depth(group, depth)
            node = _choose(group, demand, feasible(group), loads, traffic)
            loads[node].add(demand)
            traffic.place(group, node)
        return Allocation(traffic.nodes)


def _choose(
    group: Group, demand: Demand, feasible: Sequence[str], loads: Mapping[str, NodeLoad], traffic: _Traffic
) -> str:
    if len(feasible) == 1:
        return feasible[0]
    wanted = traffic.wanted_elsewhere(group)

    def badness(node: str) -> tuple[float, ...]:
        load = loads[node].after(demand)
        moved, full = traffic.moved(group, node), waves(load)
        first, second = (moved, full) if traffic.sizes_known else (full, moved)
        return (first, second, -wanted.get(node, 0.0), load)

    return min(feasible, key=badness)


class _Traffic:
    """Which results lie where, and what moving them costs."""

    def __init__(self, functions: Sequence[Function]) -> None:
        self.nodes: dict[Hashable, str] = {}
        known = {function.id: function.output_size for function in functions}
        sizes = {f.id: {a.id: _first(a.nbytes, known[a.id]) for a in f.arguments if a.id in known} for f in functions}
        told = [size for inputs in sizes.values() for size in inputs.values() if size is not None]
        self.sizes_known = bool(told)
        guess = fmean(told) if told else 1.0
        self._inputs = {
            id: {producer: guess if size is None else size for producer, size in inputs.items()}
            for id, inputs in sizes.items()
        }
        self._outputs: dict[Hashable, dict[Hashable, float]] = {id: {} for id in known}
        for id, inputs in self._inputs.items():
            for producer, size in inputs.items():
                self._outputs[producer][id] = size
        self._copies: set[tuple[Hashable, str]] = set()
        self._gathered: dict[Hashable, dict[str, float]] = {}

    def moved(self, group: Group, node: str) -> float:
        """Bytes that would be moved between nodes if ``group`` ran on ``node``, as far as is decided."""
        nbytes = 0.0
        for function in group.members:
            for producer, size in self._inputs[function.id].items():
                if self.nodes.get(producer, node) != node and (producer, node) not in self._copies:
                    nbytes += size
            targets = {self.nodes.get(id, node): size for id, size in self._outputs[function.id].items()}
            nbytes += sum(size for target, size in targets.items() if target != node)
        return nbytes

    def wanted_elsewhere(self, group: Group) -> dict[str, float]:
        """Bytes on each node that a dependent of ``group`` will need beside its result."""
        total: dict[str, float] = {}
        for function in group.members:
            for dependent in self._outputs[function.id]:
                for node, size in self._gathered.get(dependent, {}).items():
                    total[node] = total.get(node, 0.0) + size
        return total

    def place(self, group: Group, node: str) -> None:
        for function in group.members:
            self.nodes[function.id] = node
            self._copies.update((producer, node) for producer in self._inputs[function.id])
            for dependent, size in self._outputs[function.id].items():
                gathered = self._gathered.setdefault(dependent, {})
                gathered[node] = gathered.get(node, 0.0) + size


def _first(nbytes: float | None, output_size: float | None) -> float | None:
    return output_size if nbytes is None else nbytes
