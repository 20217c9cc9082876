"""The built-in strategies by name, and what else may be given as one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from handoff_lab._errors import UnknownStrategyError
from handoff_lab.allocation.base import Allocator, AllocatorLike
from handoff_lab.allocation.cost_optimized import CostOptimized
from handoff_lab.allocation.first_available import FirstAvailable
from handoff_lab.allocation.load_balanced import LoadBalanced
from handoff_lab.allocation.locality import Locality
from handoff_lab.allocation.time_optimized import TimeOptimized
from handoff_lab.graph import Function
from handoff_lab.graph.closest import closest
from handoff_lab.resources import Resources

# Bytes per second between nodes, where nobody says: moving 100 MB must count, its exact time does not matter.
_ASSUMED_BANDWIDTH = 1e9

_BUILT_IN: dict[str, Callable[[], Allocator]] = {
    "first_available": FirstAvailable,
    "cost_optimized": CostOptimized,
    "load_balanced": LoadBalanced,
    "locality": Locality,
    "time_optimized": lambda: TimeOptimized(bandwidth=_ASSUMED_BANDWIDTH),
}
STRATEGIES = tuple(_BUILT_IN)


def resolve_allocator(allocator: AllocatorLike) -> Allocator:
    """The allocator that is meant by a strategy's name, an allocator, its class, or a callable.

    Parameters
    ----------
    allocator
        A callable takes what `Allocator.allocate` takes.

    Raises
    ------
    UnknownStrategyError
        For a name that is none, with the one that was probably meant.
    TypeError
        For anything else.

    Examples
    --------
    >>> resolve_allocator("loadbalanced")
    Traceback (most recent call last):
    ...
    handoff_lab._errors.UnknownStrategyError: no allocation strategy 'loadbalanced'; did you mean 'load_balanced'? ...
    """
    if isinstance(allocator, str):
        return _named(allocator)
    if isinstance(allocator, type):
        return resolve_allocator(allocator())
    if isinstance(allocator, Allocator):
        return allocator
    if callable(allocator):
        return _FromCallable(allocator)
    raise TypeError(f"{allocator!r} is no allocator; give a strategy's name, an object with allocate(), or a callable")


def _named(name: str) -> Allocator:
    if name in _BUILT_IN:
        return _BUILT_IN[name]()
    likely = closest(name, STRATEGIES)
    raise UnknownStrategyError(name, STRATEGIES, str(likely[0]) if likely else None)


class _FromCallable:
    def __init__(self, allocate: Callable[[Sequence[Function], Mapping[str, Resources]], Mapping[Any, str]]) -> None:
        self._allocate = allocate

    def allocate(self, functions: Sequence[Function], capabilities: Mapping[str, Resources]) -> Mapping[Any, str]:
        return self._allocate(functions, capabilities)
