"""The narrow interface of a backend: it carries attempts to named nodes and reports; it decides nothing.

A backend never retries and never chooses a node. All calls come from the coordinator's thread; ``emit`` takes events
on that same thread (a backend with threads of its own hands over through ``loop.call_soon_threadsafe``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Literal, Protocol, TypeAlias

from handoff_lab.messages import Attempt, AttemptId, BackendEvent, Failure, NodeInfo
from handoff_lab.store.payload import Payload
from handoff_lab.transport.loop import Loop

Emit: TypeAlias = Callable[[Sequence[BackendEvent]], None]
Reply: TypeAlias = Callable[[Payload | Failure], None]


class Feature(StrEnum):
    """What a backend may lack; calls that need it say so instead of doing nothing."""

    INTERRUPT = "interrupt"  # a running function can be cancelled
    TIMEOUT = "timeout"  # a function that runs too long is ended
    KERNEL = "kernel"  # runs_in="kernel", and cells that run in a node's kernel
    PROCESSES = "processes"  # code is pickled and runs elsewhere
    ADD_NODES = "add_nodes"


class Code(Protocol):
    """A piece of code under a key: live for backends in this process, pickled for the others."""

    @property
    def value(self) -> Any: ...
    def pickled(self) -> bytes: ...


class Backend(Protocol):
    """What carries attempts to nodes.

    ``submit`` is idempotent by attempt id. Each attempt gets at most one terminal event (``Finished``, ``Failed``,
    ``Cancelled``); a ``NodeLost`` ends all attempts of the node without one of their own. An attempt may be submitted
    before its inputs exist: its node starts it when they are there.
    """

    features: frozenset[Feature]

    def open(self, loop: Loop, emit: Emit) -> None:
        """Start; nodes are announced with ``NodeJoined`` events. Called once, first."""

    def close(self) -> None:
        """End every node and leave nothing behind. Called once, last."""

    def nodes(self) -> Mapping[str, NodeInfo]:
        """The nodes that are there now, by name."""

    def add_node(self, name: str, capabilities: Mapping[str, float], labels: Mapping[str, str]) -> None:
        """Begin to start a node; ``NodeJoined`` or ``NodeLost`` follows."""

    def remove_node(self, name: str) -> None:
        """Let a node go; ``NodeLost(expected=True)`` follows."""

    def set_capabilities(self, name: str, capabilities: Mapping[str, float]) -> None:
        """Change what a node has; ``NodeChanged`` follows."""

    def load(self, codes: Mapping[str, Code]) -> None:
        """Make code known under its keys, before attempts name them. It reaches a node once."""

    def submit(self, attempts: Sequence[Attempt]) -> None:
        """Take attempts in; each names its node."""

    def cancel(self, id: AttemptId, how: Literal["interrupt", "kill"]) -> None:
        """End an attempt, queued or running."""

    def put(self, key: AttemptId, value: Payload) -> None:
        """Hold a value in the coordinator's own process, for attempts to use."""

    def get(self, key: AttemptId, node: str, reply: Reply) -> None:
        """Fetch a result that lies on ``node``."""

    def free(self, keys: Iterable[AttemptId]) -> None:
        """Forget results, wherever they are."""
