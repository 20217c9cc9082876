"""What a cluster, its runs and their results ask of whoever holds them: a thread of this process, or one far away."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from handoff_lab.messages import AttemptId, Failure, NodeInfo, NodeLoad
from handoff_lab.resources import Resources
from handoff_lab.store.payload import Payload

if TYPE_CHECKING:
    from handoff_lab.backends.base import Feature
    from handoff_lab.coordinator.request import Prepared


class SeenNode(NamedTuple):
    """A node as its coordinator sees it."""

    info: NodeInfo
    used: Resources
    draining: bool
    last_seen: float  # wall-clock seconds
    load: NodeLoad | None


class Verbs(Protocol):
    """Every method may be called from any thread."""

    @property
    def features(self) -> frozenset[Feature]:
        """What the nodes can do."""

    @property
    def join_file(self) -> Path:
        """The file with which nodes join."""

    @property
    def closed(self) -> bool:
        """Whether nothing can be asked any more."""

    def close(self, wait: bool = True) -> None:
        """Cancel what runs, end the nodes and leave nothing behind."""

    def seen_nodes(self) -> dict[str, SeenNode]:
        """The nodes that are there, by name, in the order of names."""

    def available(self, node: str, cost: Resources) -> bool:
        """Whether a node could take ``cost`` now."""

    def wait_for_nodes(self, names: Iterable[str]) -> None:
        """Wait until these nodes are there; raises why one could not be started."""

    def add_node(self, name: str | None, capabilities: Mapping[str, float]) -> str:
        """Start a node, and wait until it is there; its name."""

    def remove_node(self, name: str, drain: bool) -> None:
        """Let a node go, after what runs there if ``drain``, and wait until it is gone."""

    def invite(self, ttl_s: float) -> str:
        """The text with which one more node joins."""

    def revoke(self, name: str) -> None:
        """Cut a node off for good."""

    def set_capabilities(self, name: str, capabilities: Mapping[str, float]) -> None:
        """Change what a node has, and wait until it says so."""

    def node_log(self, name: str) -> str:
        """What a node's agent wrote."""

    def run_cell(self, node: str, source: str, on_message: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Run a cell in a node's kernel; messages are handed over on the caller's thread."""

    def interrupt_cell(self, node: str) -> None:
        """Interrupt what ``run_cell`` runs."""

    def begin(self, prepared: Prepared) -> None:
        """Begin a run; raises what is wrong with it before anything starts."""

    def cancel(self, run: str, function: int | None = None) -> None:
        """Cancel a run, or one function of it."""

    def fetch(self, run: str, function: int) -> Future[Payload | Failure]:
        """A result, wherever it lies."""

    def results_of(self, run: str) -> dict[Hashable, tuple[AttemptId, str]]:
        """Where the finished functions of a run have their results, by function id."""

    def forget(self, run: str) -> None:
        """Nobody here needs the results of a run any more. Called from finalizers: never waits."""
