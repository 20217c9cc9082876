"""The narrow interface of a backend: it carries attempts to named nodes and reports; it decides nothing.

A backend never retries and never chooses a node. All calls come from the coordinator's thread; ``emit`` takes events
on that same thread (a backend with threads of its own hands over through ``loop.call_soon_threadsafe``).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, Protocol, TypeAlias

from handoff_lab.messages import (
    Attempt,
    AttemptId,
    BackendEvent,
    Failed,
    Failure,
    FailureKind,
    FinishedMany,
    HowToEnd,
    NodeInfo,
    Started,
    Transferred,
    TransferredMany,
)
from handoff_lab.store.payload import Payload
from handoff_lab.transport.loop import Loop

Emit: TypeAlias = Callable[[Sequence[BackendEvent]], None]
Reply: TypeAlias = Callable[[Payload | Failure], None]


class Feature(StrEnum):
    """What a backend, or one of its nodes, may lack; what needs it is refused, or reported where it can't be."""

    INTERRUPT = "interrupt"  # a running function can be cancelled
    TIMEOUT = "timeout"  # a function that runs too long is ended
    KERNEL = "kernel"  # runs_in="kernel", and cells that run in a node's kernel
    PROCESSES = "processes"  # code is pickled and runs elsewhere
    ADD_NODES = "add_nodes"


def refusal(attempt: Attempt, features: Collection[Feature]) -> Failed | None:
    """How an attempt fails on a node that has these features alone; None if it can run there.

    Examples
    --------
    >>> attempt = Attempt(AttemptId("run", 0, 1), "local", "f", ("code",), timeout_s=2.0)
    >>> refusal(attempt, {Feature.INTERRUPT}).failure.message
    "node 'local' can't end a function whose timeout is up; kernel nodes can: pin it to one, or leave out timeout=2"
    >>> refusal(attempt, {Feature.TIMEOUT})
    """
    if attempt.runs_in == "kernel" and Feature.KERNEL not in features:
        lack, remedy = "has no kernel to run a function in; kernel nodes have", "runs_in='kernel'"
    elif attempt.timeout_s is not None and Feature.TIMEOUT not in features:
        lack, remedy = "can't end a function whose timeout is up; kernel nodes can", f"timeout={attempt.timeout_s:g}"
    else:
        return None
    story = f"node {attempt.node!r} {lack}: pin it to one, or leave out {remedy}"
    return Failed(attempt.id, Failure(FailureKind.UNSUPPORTED, story, retryable=False))


def one_by_one(event: BackendEvent) -> Iterator[BackendEvent]:
    """The events that one in columns stands for; another as it is."""
    if isinstance(event, FinishedMany):
        for finished in event.each():
            yield Started(finished.id, finished.started, finished.slot)
            yield finished
    elif isinstance(event, TransferredMany):
        columns = event.functions, event.numbers, event.sources, event.nbytes, event.started, event.ended
        for function, number, source, *rest in zip(*columns, strict=True):
            yield Transferred(AttemptId(event.run, function, number), source, event.target, *rest)
    else:
        yield event


class Code(Protocol):
    """A piece of code under a key: live for backends in this process, pickled for the others."""

    @property
    def value(self) -> Any: ...
    def pickled(self) -> bytes: ...


class Backend(Protocol):
    """What carries attempts to nodes.

    ``submit`` is idempotent by attempt id. Each attempt gets at most one terminal event (``Finished``, ``Failed``,
    ``Cancelled``); a ``NodeLost`` ends all attempts of the node without one of their own. An attempt may be submitted
    before its inputs exist: its node starts it when they are there, or fails it when one will not come. An attempt
    that needs what its node lacks fails with the `refusal`.

    It may have texts for errors: ``kind``, what its nodes are; ``advice``, what to do when there are none; ``trouble``,
    what is wrong with it as a whole.
    """

    features: frozenset[Feature]  # what some of its nodes can do; sentences on the rest may be in ``lacks``, by feature
    columns: bool  # whether who listens takes events of many attempts in columns; set before ``open``

    def open(self, loop: Loop, emit: Emit) -> None:
        """Start; nodes are announced with ``NodeJoined`` events. Called once, first."""

    def close(self) -> None:
        """End every node and leave nothing behind. Called once, last."""

    def nodes(self) -> Mapping[str, NodeInfo]:
        """The nodes that are there now, by name."""

    def features_of(self, node: str) -> frozenset[Feature]:
        """What this node can do."""

    def add_node(self, name: str, capabilities: Mapping[str, float], labels: Mapping[str, str]) -> None:
        """Begin to start a node; ``NodeJoined`` or ``NodeLost`` follows."""

    def remove_node(self, name: str) -> None:
        """Let a node go; ``NodeLost(expected=True)`` follows."""

    def set_capabilities(self, name: str, capabilities: Mapping[str, float]) -> None:
        """Change what a node has; ``NodeChanged`` follows."""

    def load(self, codes: Mapping[str, Code]) -> None:
        """Make code known under its keys, before attempts name them. It reaches a node once."""

    def unload(self, keys: Iterable[str]) -> None:
        """Forget code that no run needs any more."""

    def submit(self, attempts: Sequence[Attempt]) -> None:
        """Take attempts in; each names its node."""

    def cancel(self, id: AttemptId, how: HowToEnd) -> None:
        """End an attempt, queued or running. Without ``Feature.INTERRUPT``, or recalled, one that runs goes on."""

    def put(self, key: AttemptId, value: Payload) -> None:
        """Hold a value in the coordinator's own process, for attempts to use."""

    def get(self, key: AttemptId, node: str, reply: Reply) -> None:
        """Fetch a result that lies on ``node``."""

    def free(self, keys: Iterable[AttemptId]) -> None:
        """Forget results, wherever they are."""

    def forget(self, run: str) -> None:
        """Forget all values of a run that is over, wherever they are and on their way; what is made later is freed."""
