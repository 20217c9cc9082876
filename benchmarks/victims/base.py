"""What the scenarios of faults ask of an engine, and nothing more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Step:
    """A function of a scenario; it is called with its parents' results, then ``extra``."""

    name: str
    code: Callable[..., Any]
    extra: tuple[Any, ...] = ()
    parents: tuple[str, ...] = ()
    pinned: bool = False  # to the first node
    retries: int | None = None  # None: as the engine does by itself, or 3 where it does nothing by itself
    timeout_s: float | None = None
    memory_mb: int | None = None  # what it claims, where that can be said


class Work(Protocol):
    """Functions that were handed over."""

    def done(self, name: str) -> bool:
        """Whether it has a result, or has failed for good."""

    def value(self, name: str) -> Any:
        """Its result, once it is done; raises what made it fail."""

    def cancel(self, name: str) -> None:
        """The strongest that the engine offers against one function that runs, without the loss of its node."""


class Victim(Protocol):
    """An engine with nodes on this machine."""

    name: str
    timeouts: bool  # whether a function can be given one
    node_pattern: str  # how its errors name a node

    def start(self, nodes: int = 2, cpus: int = 1, memory_mb: int | None = None) -> None:
        """Nodes that run so many functions at a time and are limited to so much memory, if that can be said."""

    def begin(self, steps: Sequence[Step]) -> Work:
        """Hand all over at once, if that can be done; parents come first."""

    def head_of(self, pid: int) -> int:
        """The process that is the node, of one that runs its functions."""

    def close(self) -> None:
        """End everything. Called after a failed start too, and twice."""
