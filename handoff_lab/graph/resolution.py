"""The edges of a DAG once names are resolved: order, cycles, dependents, collocation."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Mapping
from types import MappingProxyType

from handoff_lab._errors import CyclicDependencyError, InvalidFunctionError, MissingFunctionError
from handoff_lab.graph.closest import closest
from handoff_lab.graph.functions import Function
from handoff_lab.graph.references import Argument, Collocated


class Resolution:
    """What the functions of a DAG mean together; made anew after each change.

    Inferred parameters have found their producers, those without one have
    become inputs, and the functions stand in topological order. Functions in a
    cycle, and those that wait for one, come last, so a half-written DAG can be
    shown; `validate` refuses it.
    """

    def __init__(self, added: Mapping[Hashable, Function]) -> None:
        resolved = {id: f if f.inferred is None else f.resolve(added) for id, f in added.items()}
        functions = _with_inputs(resolved)
        self.dependencies = {id: _dependencies(function) for id, function in functions.items()}
        self.dependents: dict[Hashable, list[Hashable]] = {id: [] for id in functions}
        self._absent: set[Hashable] = set()  # needed, but nowhere
        for id, needed in self.dependencies.items():
            for dependency in needed:
                if dependency in self.dependents:
                    self.dependents[dependency].append(id)
                else:
                    self._absent.add(dependency)
        order = self._topological_order()
        self.waiting = [id for id in functions if id not in order] if len(order) < len(functions) else []
        self.functions = MappingProxyType({id: functions[id] for id in (*order, *self.waiting)})
        self.fingerprints: dict[Hashable, str] = {}  # those asked for so far
        self._valid = False

    def _topological_order(self) -> dict[Hashable, None]:
        """Kahn's algorithm; what is ready first comes first."""
        missing = {id: len(needed) for id, needed in self.dependencies.items()}
        if self._absent:  # which nothing waits for
            missing = {id: len([*filter(self.dependents.__contains__, self.dependencies[id])]) for id in missing}
        ready = deque(id for id, count in missing.items() if not count)
        order: dict[Hashable, None] = {}
        while ready:
            id = ready.popleft()
            order[id] = None
            for dependent in self.dependents[id]:
                missing[dependent] -= 1
                if not missing[dependent]:
                    ready.append(dependent)
        return order

    def validate(self) -> None:
        """Raise the first of what is wrong: missing functions, then cycles, then collocation."""
        if self._valid:
            return
        for id, needed in self.dependencies.items():
            if self._absent and not self._absent.isdisjoint(needed):
                self.require(next(filter(self._absent.__contains__, needed)), needed_by=id)
            if needed:
                self._check_edges(self.functions[id])
        if self.waiting:
            raise CyclicDependencyError(self._cycle())
        self.collocation_groups()
        self._valid = True

    def _check_edges(self, function: Function) -> None:
        if Argument not in map(type, function.args):
            return
        for arg in function.args:
            if not isinstance(arg, Argument) or not (arg.serialize or arg.deserialize):
                continue
            producer = self.functions[arg.id]
            if producer.over is not None:
                reason = f"it serializes {arg.id!r}, a map that is sent in chunks; serialize what its items give"
                raise InvalidFunctionError(function.id, reason)
            if producer.type == "inline":
                reason = f"it serializes {arg.id!r}, which is inline and never sent; put it on the args of {arg.id!r}"
                raise InvalidFunctionError(function.id, reason)

    def require(self, id: Hashable, needed_by: Hashable) -> Function:
        """The function ``id``, or an error that says who wants it and what was probably meant."""
        function = self.functions.get(id)
        if function is None:
            raise MissingFunctionError(id, needed_by, closest(id, (i for i in self.functions if i != needed_by)))
        return function

    def ancestors(self, ids: Iterable[Hashable]) -> set[Hashable]:
        """``ids`` and all that they need, directly or not."""
        found = set(ids)
        unseen = list(found)
        while unseen:
            for dependency in self.dependencies[unseen.pop()]:
                if dependency not in found and dependency in self.functions:
                    found.add(dependency)
                    unseen.append(dependency)
        return found

    def descendants(self, ids: Iterable[Hashable]) -> set[Hashable]:
        """``ids`` and all that depends on them, directly or not."""
        found = set(ids)
        unseen = list(found)
        while unseen:
            fresh = set(self.dependents[unseen.pop()]) - found
            found |= fresh
            unseen += fresh
        return found

    def _cycle(self) -> list[Hashable]:
        """One cycle, each needing the one before it, from the member that was added first.

        Each function that waits needs another that waits, so a walk along
        these needs comes round.
        """
        waiting = dict.fromkeys(self.waiting)
        id = self.waiting[0]
        walked: dict[Hashable, None] = {}
        while id not in walked:
            walked[id] = None
            id = next(d for d in self.dependencies[id] if d in waiting)
        path = list(walked)
        members = set(path[path.index(id) :])
        first = next(i for i in self.waiting if i in members)
        cycle = path[path.index(id) :][::-1]
        start = cycle.index(first)
        return cycle[start:] + cycle[:start]

    def collocation_groups(self) -> dict[Hashable, Hashable]:
        """Member to root, for all functions that share a node with another, roots included."""
        roots: dict[Hashable, Hashable] = {}
        for id, function in self.functions.items():
            if isinstance(function.node, Collocated) and id not in roots:
                chain, root = self._chain(id, roots)
                roots[root] = root
                roots.update(dict.fromkeys(chain, root))
        return roots

    def _chain(self, id: Hashable, roots: Mapping[Hashable, Hashable]) -> tuple[dict[Hashable, None], Hashable]:
        """The collocated functions from ``id`` on, and the function at which they end."""
        chain: dict[Hashable, None] = {}
        function = self.functions[id]
        while isinstance(function.node, Collocated) and function.id not in roots:
            chain[function.id] = None
            if function.node.id in chain:
                path = " → ".join(repr(i) for i in (*chain, function.node.id))
                raise InvalidFunctionError(id, f"its collocation goes in a circle: {path}; remove one of these")
            neighbour = self.require(function.node.id, needed_by=function.id)
            if neighbour.over is not None:
                reason = f"it is collocated with {neighbour.id!r}, a map whose chunks run on any node"
                raise InvalidFunctionError(function.id, f"{reason}; name a function that is none")
            if neighbour.type != "regular":
                reason = f"it is collocated with {neighbour.id!r}, which is {neighbour.type} and runs on no node"
                raise InvalidFunctionError(function.id, f"{reason}; name a regular function")
            function = neighbour
        return chain, roots.get(function.id, function.id)


def _dependencies(function: Function) -> tuple[Hashable, ...]:
    args = function.args
    if not args or (len(args) == len({*args}) and Argument not in map(type, args)):
        return args  # mere ids, none twice
    return function.dependencies


def _with_inputs(functions: dict[Hashable, Function]) -> dict[Hashable, Function]:
    """Add an input for each inferred parameter that nothing produces."""
    for function in [f for f in functions.values() if f.inferred is not None]:
        for name in function.dependencies:
            if name not in functions:
                functions[name] = Function(name, type="input")
    return functions
