"""What an allocator is, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from handoff_lab.graph import Function
from handoff_lab.resources import Resources


@runtime_checkable
class Allocator(Protocol):
    """Decides where each function runs; any object with this method will do.

    One with a true attribute ``rebalances`` lets the scheduler move what waits for a slow node to another.
    """

    def allocate(self, functions: Sequence[Function], capabilities: Mapping[str, Resources]) -> Mapping[Any, str]:
        """Node of each function.

        Parameters
        ----------
        functions
            Those to be run, producers before their dependents. Inputs and inline functions are not
            among them; what a function needs through inline functions is among its args.
        capabilities
            What each node has, claimed or not: costs are claimed when a function starts, so more may be
            allocated to a node than it can run at once, but no function that it could never hold.
        """


AllocatorLike = str | Allocator | Callable[[Sequence[Function], Mapping[str, Resources]], Mapping[Any, str]]


@dataclass(frozen=True, slots=True, eq=False)
class Allocation(Mapping[Hashable, str]):
    """Node of each function, and which of them should go first.

    Attributes
    ----------
    nodes
        Function id to node.
    priority
        Function id to a number; of two functions that could start, the one with the lower number does.
        Functions that are not in it go by their place in the DAG.
    """

    nodes: Mapping[Hashable, str]
    priority: Mapping[Hashable, float] = field(default_factory=dict)

    def __getitem__(self, id: Hashable) -> str:
        return self.nodes[id]

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)
