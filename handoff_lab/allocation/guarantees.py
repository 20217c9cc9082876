"""The one door to every allocation strategy, custom ones too, and what it guarantees.

Whatever the strategy, a function runs on a node that is there and can hold it,
and pins and collocations are obeyed; an answer that breaks this goes no further.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from itertools import repeat
from math import isfinite
from numbers import Real
from typing import Any

from handoff_lab._errors import AllocationError
from handoff_lab.allocation.base import Allocation, AllocatorLike
from handoff_lab.allocation.groups import Feasible, Group, alone, any_collocated, collocation_groups
from handoff_lab.allocation.strategies import resolve_allocator
from handoff_lab.graph import Function
from handoff_lab.resources import Resources


def allocate(
    allocator: AllocatorLike,
    functions: Sequence[Function],
    capabilities: Mapping[str, Resources],
) -> Allocation:
    """Ask ``allocator`` where ``functions`` run, and make sure of the answer.

    Parameters
    ----------
    allocator
        A strategy's name, an allocator, or a callable.
    functions
        Those to be run, producers before their dependents, without inputs and inline functions.
    capabilities
        What each node has.

    Returns
    -------
    Allocation
        With a node and a priority for every function.

    Raises
    ------
    AllocationError
        When a function fits no node, or the answer breaks a guarantee; it names the function.
    UnknownStrategyError
        For a name that is none.
    """
    chosen = resolve_allocator(allocator)
    feasible = Feasible(capabilities)
    for group in _one_of_each_kind(functions):
        feasible(group)
    if not functions:
        return Allocation({})
    answer = _ask(chosen.allocate, [*functions], dict(capabilities))  # its own, to count down or sort as it likes
    told, asked = (answer.nodes, answer.priority) if isinstance(answer, Allocation) else (answer, {})
    nodes = _nodes_of(functions, told, capabilities)
    for group in _one_of_each_kind(functions, nodes.values()):
        _check_group(group, nodes, capabilities)
    if not asked:
        return Allocation(nodes, dict(zip(nodes, map(float, range(len(nodes))), strict=True)))
    priority = {function.id: _priority_of(function, asked, place) for place, function in enumerate(functions)}
    return Allocation(nodes, priority)


def _one_of_each_kind(functions: Sequence[Function], nodes: Iterable[str] = repeat("")) -> Iterable[Group]:
    """What to check: all groups, or, of functions on their own, the first with each cost, pin and node."""
    if any_collocated(functions):
        return collocation_groups(functions)
    kinds: set[tuple[object, ...]] = set()
    first = []
    for function, node in zip(functions, nodes, strict=False):
        kind = (function.node, id(function.cost), node)
        if kind not in kinds:
            kinds.add(kind)
            first.append(function)
    return map(alone, first)


def _ask(
    allocate: Callable[[Sequence[Function], Mapping[str, Resources]], Mapping[Any, str]],
    functions: Sequence[Function],
    capabilities: Mapping[str, Resources],
) -> Mapping[Any, str]:
    try:
        answer = allocate(functions, capabilities)
    except AllocationError:
        raise
    except Exception as error:
        reason = f"was not allocated: the allocator raised {type(error).__name__}: {error}"
        raise AllocationError(functions[0].id, functions[0].cost, reason=reason) from error
    if not isinstance(answer, Mapping):
        reason = f"was not allocated: the allocator answered {type(answer).__name__}, not a mapping of ids to nodes"
        raise AllocationError(functions[0].id, functions[0].cost, reason=reason)
    return answer


def _nodes_of(
    functions: Sequence[Function], answer: Mapping[Any, str], capabilities: Mapping[str, Resources]
) -> dict[Hashable, str]:
    ids = [function.id for function in functions]
    nodes: list[Any] = [*map(answer.get, ids)]
    if {*map(type, nodes)} != {str} or not capabilities.keys() >= {*nodes}:
        nodes = [_node_of(function, answer, capabilities) for function in functions]
    return dict(zip(ids, nodes, strict=True))


def _node_of(function: Function, answer: Mapping[Any, str], capabilities: Mapping[str, Resources]) -> str:
    node = answer.get(function.id)
    if isinstance(node, str) and node in capabilities:
        return node
    known = ", ".join(map(repr, sorted(capabilities)))
    told = "was given no node by the allocator" if node is None else f"was given node {node!r}, which is not there"
    raise AllocationError(function.id, function.cost, reason=f"{told} (nodes: {known})")


def _priority_of(function: Function, asked: Mapping[Hashable, float], place: int) -> float:
    priority = asked.get(function.id, place)
    if priority.__class__ is float and isfinite(priority):
        return priority
    if isinstance(priority, Real) and abs(priority) <= sys.float_info.max:
        return float(priority)
    reason = f"was given the priority {priority!r} by the allocator; it must be a finite number"
    raise AllocationError(function.id, function.cost, reason=reason)


def _check_group(group: Group, nodes: Mapping[Hashable, str], capabilities: Mapping[str, Resources]) -> None:
    first = group.members[0]
    for function in group.members:
        node = nodes[function.id]
        if group.pin is not None and node != group.pin:
            raise _broken(function, node, f"is bound to {group.pin!r}")
        if node != nodes[first.id]:
            raise _broken(function, node, f"is collocated with {first.id!r} on {nodes[first.id]!r}")
        if not function.cost.fits_in(capabilities[node]):
            raise _broken(function, node, f"costs {function.cost}, more than {node!r} has")


def _broken(function: Function, node: str, rule: str) -> AllocationError:
    return AllocationError(function.id, function.cost, node, reason=f"{rule}, but the allocator gave it to {node!r}")
