"""Which functions wait when no node can hold them: what for, and how long."""

from __future__ import annotations

from collections.abc import Container, Hashable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from handoff_lab.allocation.groups import Group, collocation_groups
from handoff_lab.graph import Function
from handoff_lab.resources import Resources
from handoff_lab.scheduler.program import RunOptions
from handoff_lab.scheduler.state import Progress, Wait


def that_wait(
    functions: Sequence[Function], options: RunOptions, capabilities: Mapping[str, Resources]
) -> AbstractSet[Hashable]:
    """Functions that no node can hold now, and that may wait for one; with those that are bound to them."""
    if not (options.wait_for_node_s or options.wait_for_capacity_s):
        return frozenset()
    known: dict[tuple[str | None, Resources], bool] = {}
    groups = [group for group in collocation_groups(functions) if not _has_place(group, capabilities, known)]
    return {
        function.id
        for group in groups
        if patience(options, group.pin if group.pin not in capabilities else None)
        for function in group.members
    }


def _has_place(
    group: Group, capabilities: Mapping[str, Resources], known: dict[tuple[str | None, Resources], bool]
) -> bool:
    """Whether a node can hold the group; remembers, as thousands of functions share a few costs."""
    kind = (group.pin, group.peak)
    if kind not in known:
        nodes = capabilities if group.pin is None else capabilities.keys() & {group.pin}
        known[kind] = any(group.peak.fits_in(capabilities[node]) for node in nodes)
    return known[kind]


def absent_pin(function: Function, capabilities: Container[str]) -> str | None:
    """The node to which a function is pinned, if it is not there."""
    return function.node if isinstance(function.node, str) and function.node not in capabilities else None


def patience(options: RunOptions, pin: str | None) -> float:
    """Seconds of waiting for a node to which a function is pinned, or, without a pin, for one that can hold it."""
    return options.wait_for_capacity_s if pin is None else options.wait_for_node_s


def awaited(run: Progress, i: int, wait: Wait) -> str:
    """What it is that a function waits for."""
    if wait.pin is not None:
        return f"node {wait.pin!r}"
    function = run.program.functions[i]
    assert function.allocated is not None
    pin = function.allocated.node
    if isinstance(pin, str):
        return f"node {pin!r} to have {function.cost}"
    return f"a node with {function.cost}" if function.cost else "a node"
