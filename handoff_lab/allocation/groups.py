"""Functions that have to lie together, and the nodes that can hold them."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from handoff_lab._errors import AllocationError
from handoff_lab.graph import Collocated, Function
from handoff_lab.resources import Resources


@dataclass(slots=True)
class Group:
    """Functions bound to one node by collocation; most groups are one function. Never changed once it is made.

    ``cost`` is what all of them cost together, ``peak`` the most that any of
    them costs of each resource: a node that has ``peak`` can hold each in turn.
    """

    members: tuple[Function, ...]
    pin: str | None
    cost: Resources
    peak: Resources


def collocation_groups(functions: Sequence[Function]) -> list[Group]:
    """The groups that chains of collocations make, by their first members' order."""
    if not any_collocated(functions):
        return [alone(function) for function in functions]
    partners = _Partners()
    for function in functions:
        if isinstance(function.node, Collocated):
            partners.join(function.id, function.node.id)
    together: dict[Hashable, list[Function]] = {}
    for function in functions:
        together.setdefault(partners.leader(function.id), []).append(function)
    return [_group(members) for members in together.values()]


def pinned_first(groups: Sequence[Group]) -> list[Group]:
    """The groups in the order in which most strategies place them."""
    return sorted(groups, key=lambda group: group.pin is None)


def alone(function: Function) -> Group:
    """The group of a function that is bound to no other."""
    node, cost = function.node, function.cost
    return Group((function,), node if isinstance(node, str) else None, cost, cost)


def any_bound(functions: Sequence[Function]) -> bool:
    """Whether some functions are pinned or collocated."""
    return any(function.node is not None for function in functions)


def alike(functions: Sequence[Function]) -> Iterator[tuple[Group, int]]:
    """Runs of functions of equal cost that are bound to nothing: the first of each, and how many they are."""
    for _, run in groupby(functions, attrgetter("cost")):
        same = [*run]
        yield alone(same[0]), len(same)


def any_collocated(functions: Sequence[Function]) -> bool:
    """Whether some groups are more than one function."""
    return Collocated in {type(function.node) for function in functions}


def feasible_nodes(group: Group, capabilities: Mapping[str, Resources]) -> list[str]:
    """Names of the nodes that can hold each of ``group``, in order.

    Raises
    ------
    AllocationError
        When there is none, naming the function and what the best node lacks.
    """
    if group.pin is not None:
        _check_pin(group, capabilities)
        return [group.pin]
    fitting = sorted(node for node, has in capabilities.items() if group.peak.fits_in(has))
    if not fitting:
        raise _nowhere(group, capabilities)
    return fitting


class Feasible:
    """`feasible_nodes` that remembers: thousands of functions share a few costs."""

    def __init__(self, capabilities: Mapping[str, Resources]) -> None:
        self._capabilities = capabilities
        self._known: dict[tuple[str | None, Resources], list[str]] = {}

    def __call__(self, group: Group) -> list[str]:
        key = (group.pin, group.peak)
        nodes = self._known.get(key)
        if nodes is None:
            nodes = self._known[key] = feasible_nodes(group, self._capabilities)
        return nodes


class _Partners:
    """Union-find over ids; targets that are not being run bind their partners all the same."""

    def __init__(self) -> None:
        self._above: dict[Hashable, Hashable] = {}

    def leader(self, id: Hashable) -> Hashable:
        above = self._above
        top = id
        while top in above:
            top = above[top]
        while id != top:
            above[id], id = top, above[id]
        return top

    def join(self, one: Hashable, other: Hashable) -> None:
        below, top = self.leader(one), self.leader(other)
        if below != top:
            self._above[below] = top


def _group(members: list[Function]) -> Group:
    if len(members) == 1:
        return alone(members[0])
    pin = next((f.node for f in members if isinstance(f.node, str)), None)
    total = Resources()
    peak: dict[str, float] = {}
    for function in members:
        total += function.cost
        for name, amount in function.cost.items():
            peak[name] = max(amount, peak.get(name, 0.0))
    return Group(tuple(members), pin, total, Resources(peak))


def _check_pin(group: Group, capabilities: Mapping[str, Resources]) -> None:
    assert group.pin is not None
    node = group.pin
    if node not in capabilities:
        pinned = next(f for f in group.members if f.node == node)
        known = ", ".join(map(repr, sorted(capabilities))) or "none"
        reason = f"is pinned to {node!r}, which is not there (nodes: {known}); add it, or pin to another"
        raise AllocationError(pinned.id, pinned.cost, reason=reason)
    for function in group.members:
        if not function.cost.fits_in(capabilities[node]):
            lack = function.cost.shortfall(capabilities[node])
            bound = "pinned" if function.node == node else "bound by collocation"
            reason = f"costs {function.cost} and is {bound} to {node!r}, which lacks {lack}; move it or lower its cost"
            raise AllocationError(function.id, function.cost, node, lack, reason)


def _nowhere(group: Group, capabilities: Mapping[str, Resources]) -> AllocationError:
    """The error of the member that fits nowhere, or of the group whose members fit nowhere together."""
    for function in group.members:
        if not any(function.cost.fits_in(has) for has in capabilities.values()):
            best, lack = _closest(function.cost, capabilities)
            return AllocationError(function.id, function.cost, best, lack)
    best, lack = _closest(group.peak, capabilities)
    others = ", ".join(repr(function.id) for function in group.members[1:])
    reason = f"is collocated with {others}, and no node holds each of them: {best!r} comes closest and lacks {lack}"
    return AllocationError(group.members[0].id, group.peak, best, lack, reason)


def _closest(cost: Resources, capabilities: Mapping[str, Resources]) -> tuple[str | None, Resources]:
    """The node that lacks the least of ``cost``, each resource counted as a share of what is needed."""
    lacks = {node: cost.shortfall(has) for node, has in sorted(capabilities.items())}
    best = min(lacks, key=lambda node: sum(lack / cost[name] for name, lack in lacks[node].items()), default=None)
    return best, lacks[best] if best is not None else cost
