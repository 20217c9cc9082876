"""Kernel nodes and, when wanted, the notebook's own process as one more node. Routes by the node's name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from handoff_lab._errors import BackendError
from handoff_lab.backends.base import Code, Emit, Feature, Reply
from handoff_lab.backends.kernels import KernelBackend
from handoff_lab.backends.local import LocalBackend
from handoff_lab.messages import HERE, Attempt, AttemptId, Failure, HowToEnd, NodeInfo, ResultLost, Source
from handoff_lab.store.payload import Frames, Payload, Unpicklable
from handoff_lab.transport.loop import Loop

LOCAL = "local"


class MixedBackend:
    """A ``KernelBackend`` for every node but ``"local"``, a ``LocalBackend`` for that one.

    Results cross between them through the coordinator's process, which is where the local node is anyway: what the
    local node makes counts as held HERE by the kernels, and what it needs is fetched before its attempt is queued.
    """

    features = KernelBackend.features | LocalBackend.features
    columns = False

    def __init__(
        self,
        nodes: Mapping[str, Mapping[str, float]],
        *,
        name: str,
        host: str = "127.0.0.1",
        store_limit: int | None = None,
    ) -> None:
        kernels = {n: c for n, c in nodes.items() if n != LOCAL}
        self._kernels = KernelBackend(kernels, name=name, host=host, store_limit=store_limit)
        self._local = LocalBackend({n: c for n, c in nodes.items() if n == LOCAL})
        self._shared: set[AttemptId] = set()  # results of the local node that the kernels have, or will
        self._fetching: set[AttemptId] = set()  # values on their way to the local node
        self._emit: Emit

    @property
    def join_file(self) -> Path:
        """The file with which other agents join."""
        return self._kernels.join_file

    def invite(self, ttl_s: float) -> str:
        """The text with which one other agent joins."""
        return self._kernels.invite(ttl_s)

    def revoke(self, name: str) -> None:
        """Cut a node off, and let it in no more."""
        if name == LOCAL:
            raise BackendError(f"node {LOCAL!r} is this process and has no key; use remove_node({LOCAL!r})")
        self._kernels.revoke(name)

    def open(self, loop: Loop, emit: Emit) -> None:
        """Start both."""
        self._emit = emit
        self._kernels.columns = self.columns
        self._local.open(loop, emit)
        self._kernels.open(loop, emit)

    def close(self) -> None:
        """End both."""
        self._local.close()
        self._kernels.close()

    def nodes(self) -> Mapping[str, NodeInfo]:
        """The nodes of both."""
        return {**self._local.nodes(), **self._kernels.nodes()}

    def _of(self, node: str) -> KernelBackend | LocalBackend:
        return self._local if node == LOCAL else self._kernels

    def features_of(self, node: str) -> frozenset[Feature]:
        """The local node can do less than the others."""
        return self._of(node).features

    def add_node(self, name: str, capabilities: Mapping[str, float], labels: Mapping[str, str]) -> None:
        """Start a kernel, or make this process a node when it is named ``"local"``."""
        self._of(name).add_node(name, capabilities, labels)

    def remove_node(self, name: str) -> None:
        """Let a node go."""
        self._of(name).remove_node(name)

    def set_capabilities(self, name: str, capabilities: Mapping[str, float]) -> None:
        """Change what a node has."""
        self._of(name).set_capabilities(name, capabilities)

    def load(self, codes: Mapping[str, Code]) -> None:
        """Make code known to both."""
        self._local.load(codes)
        self._kernels.load(codes)

    def unload(self, keys: Iterable[str]) -> None:
        """Forget code in both."""
        keys = list(keys)
        self._local.unload(keys)
        self._kernels.unload(keys)

    def submit(self, attempts: Sequence[Attempt]) -> None:
        """Hand each attempt to the backend of its node, with what it needs from the other side."""
        if LOCAL not in self._local.nodes():
            self._kernels.submit(attempts)
            return
        here = [attempt for attempt in attempts if attempt.node == LOCAL]
        self._local.submit(here)  # first: fetching may fail at once
        for attempt in here:
            for source in attempt.inputs:
                self._bring(source)
        self._kernels.submit([self._share(attempt) for attempt in attempts if attempt.node != LOCAL])

    def cancel(self, id: AttemptId, how: HowToEnd) -> None:
        """Cancel on whichever has it."""
        self._local.cancel(id, how)
        self._kernels.cancel(id, how)

    def put(self, key: AttemptId, value: Payload) -> None:
        """Hold a value for both."""
        self._kernels.put(key, value)

    def get(self, key: AttemptId, node: str, reply: Reply) -> None:
        """Fetch a result."""
        if node == LOCAL:
            self._local.get(key, node, reply)
        else:
            self._kernels.get(key, node, reply)

    def free(self, keys: Iterable[AttemptId]) -> None:
        """Forget results on both."""
        keys = list(keys)
        self._shared.difference_update(keys)
        self._local.free(keys)
        self._kernels.free(keys)

    def forget(self, run: str) -> None:
        """Forget all values of a run on both."""
        self._shared = {key for key in self._shared if key.run != run}
        self._local.forget(run)
        self._kernels.forget(run)

    def run_cell(self, node: str, source: str, on_message: Any, on_done: Any) -> None:
        """Run a cell in a node's kernel."""
        if node == LOCAL:
            raise BackendError(f"node {LOCAL!r} is this process and has no kernel of its own; run the cell right here")
        self._kernels.run_cell(node, source, on_message, on_done)

    def interrupt_cell(self, node: str) -> None:
        """Interrupt a cell."""
        self._kernels.interrupt_cell(node)

    def node_log(self, node: str) -> str:
        """What a node's agent wrote."""
        if node == LOCAL:
            raise BackendError(f"node {LOCAL!r} is this process and has no agent that writes a log")
        return self._kernels.node_log(node)

    # -- between the two -----------------------------------------------------

    def _bring(self, source: Source) -> None:
        """Give the local node a value that lies elsewhere."""
        key = source.key
        if source.node == LOCAL or key in self._local or key in self._fetching:
            return
        if source.inline is not None:
            self._local.put(key, Frames(source.inline))
        else:
            self._fetching.add(key)
            self._kernels.get(key, source.node, partial(self._brought, source))

    def _brought(self, source: Source, value: Payload | Failure) -> None:
        self._fetching.discard(source.key)
        if not isinstance(value, Failure):
            self._local.put(source.key, value)
            return
        if source.node != HERE:
            self._emit([ResultLost(source.key, source.node)])
        self._local.give_up(source.key, value.message)

    def _share(self, attempt: Attempt) -> Attempt:
        """The attempt, reading HERE what the local node makes; the kernels get that when it is made."""
        if all(source.node != LOCAL for source in attempt.inputs):
            return attempt
        for source in attempt.inputs:
            if source.node == LOCAL and source.key not in self._shared:
                self._shared.add(source.key)
                self._local.want(source.key, partial(self._hand_on, source.key))
        return replace(attempt, inputs=tuple(replace(s, node=HERE) if s.node == LOCAL else s for s in attempt.inputs))

    def _hand_on(self, key: AttemptId, value: Payload | None) -> None:
        if value is None:
            self._kernels.free([key])  # who waits for it hears that it will not come
        else:
            self._kernels.put(key, _pickled(value))


def _pickled(value: Payload) -> Frames:
    """The value for other processes; one that can't be pickled fails those who load it, with the reason."""
    try:
        return Frames.dump(value.load())
    except Exception as error:
        message = f"what node {LOCAL!r} made cannot be pickled: {error}; pin its consumers to {LOCAL!r} too"
        return Frames.dump(Unpicklable(message))
