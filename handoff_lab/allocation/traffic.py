"""Which results lie where, and what moving them costs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from statistics import fmean

from handoff_lab.allocation.edges import Sizes, any_known, input_sizes
from handoff_lab.allocation.groups import Group
from handoff_lab.graph import Function

_NOTHING: Mapping[Hashable, float] = {}


def _weighed(sizes: Sizes) -> dict[Hashable, dict[Hashable, float]]:
    """Bytes of all inputs; the mean of those that are known stands for the others."""
    guess = fmean(size for inputs in sizes.values() for size in inputs.values() if size is not None)
    return {
        id: {producer: guess if size is None else size for producer, size in inputs.items()}
        for id, inputs in sizes.items()
    }


class Traffic:
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
