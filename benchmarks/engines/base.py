"""What the benchmarks ask of an engine, and nothing more."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, Protocol, runtime_checkable

from workloads import Graph


class Ability(Enum):
    """What some engines have and others don't; figures that need it are left out for the others."""

    GRAPHS = "takes a whole graph"
    PINS = "runs a function on the worker that it names"
    CLAIMS = "counts what running functions claim"


class Work(Protocol):
    """A graph in the engine's own form. Dropping it frees its results."""

    def run(self) -> None:
        """On the clock: hand the graph over, and return when every function is known to be done."""

    def values(self, indices: Sequence[int]) -> Sequence[Any]:
        """The results of these functions, which no other function needs."""


@runtime_checkable
class Settling(Protocol):
    """An engine that is ready before all that it started is up."""

    def settle(self) -> None:
        """Off the clock, after the first result: wait until nothing starts any more."""


class Engine(Protocol):
    """Two workers of one cpu each, on this machine."""

    name: str
    can: frozenset[Ability]

    def start(self) -> None:
        """On the clock: start the workers."""

    def build(self, graph: Graph) -> Work:
        """Off the clock: put the graph into the engine's own form."""

    def close(self) -> None:
        """End everything that was started. Called after a failed start too."""
