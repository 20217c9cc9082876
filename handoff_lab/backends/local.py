"""Nodes inside this process: functions run in threads, values stay live and are never pickled.

For tests, for small graphs and for the node ``"local"``. A running function can't be interrupted here. Setup code is
not run again: it ran in this process already.
"""

from __future__ import annotations

import heapq
import itertools
import os
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from handoff_lab._errors import BackendError
from handoff_lab.backends.base import Code, Emit, Feature, Reply
from handoff_lab.messages import (
    Attempt,
    AttemptId,
    BackendEvent,
    Cancelled,
    Failed,
    Failure,
    FailureKind,
    Finished,
    NodeChanged,
    NodeInfo,
    NodeJoined,
    NodeLost,
    Started,
)
from handoff_lab.node.execution import execute
from handoff_lab.store.payload import Live, Payload
from handoff_lab.transport.loop import Loop


@dataclass(slots=True)
class _Node:
    info: NodeInfo
    queue: list[tuple[float, int, Attempt]] = field(default_factory=list)
    running: dict[AttemptId, Attempt] = field(default_factory=dict)
    idle: list[int] = field(default_factory=list)  # numbers of free slots, smallest first
    lost: bool = False


def slots_of(capabilities: Mapping[str, float]) -> int:
    """Functions that a node with these capabilities runs at the same time: its whole cpus, at least one."""
    return max(1, int(capabilities.get("cpu", 1)))


class LocalBackend:
    """A backend whose nodes are threads of this process."""

    features = frozenset({Feature.ADD_NODES})

    def __init__(self, nodes: Mapping[str, Mapping[str, float]]) -> None:
        self._wanted = dict(nodes)
        self._nodes: dict[str, _Node] = {}
        self._codes: dict[str, Code] = {}
        self._values: dict[AttemptId, Payload] = {}
        self._blocked: dict[AttemptId, list[Attempt]] = defaultdict(list)  # by an input that isn't there yet
        self._seen: set[AttemptId] = set()
        self._order = itertools.count()
        self._loop: Loop
        self._emit: Emit

    def open(self, loop: Loop, emit: Emit) -> None:
        """Announce the nodes."""
        self._loop, self._emit = loop, emit
        for name, capabilities in self._wanted.items():
            self.add_node(name, capabilities, {})

    def close(self) -> None:
        """Forget everything; threads that still run a function end after it."""
        for node in self._nodes.values():
            node.lost = True
        self._nodes.clear()
        self._values.clear()
        self._codes.clear()

    def nodes(self) -> Mapping[str, NodeInfo]:
        """The nodes that are there now."""
        return {name: node.info for name, node in self._nodes.items()}

    def add_node(self, name: str, capabilities: Mapping[str, float], labels: Mapping[str, str]) -> None:
        """Announce one more node."""
        if name in self._nodes:
            raise BackendError(f"there is a node {name!r} already; choose another name")
        slots = slots_of(capabilities)
        info = NodeInfo(name, capabilities, slots, socket.gethostname(), os.getpid(), {}, labels)
        self._nodes[name] = _Node(info, idle=list(range(slots)))
        self._emit([NodeJoined(info)])

    def remove_node(self, name: str) -> None:
        """Let a node go; what runs there goes on unheard."""
        node = self._nodes.pop(name)
        node.lost = True
        self._emit([NodeLost(name, "removed", expected=True)])

    def set_capabilities(self, name: str, capabilities: Mapping[str, float]) -> None:
        """Change what a node has."""
        node = self._nodes[name]
        old, slots = node.info.slots, slots_of(capabilities)
        node.info = NodeInfo(name, capabilities, slots, node.info.host, node.info.pid, {}, node.info.labels)
        node.idle = [slot for slot in (*node.idle, *range(old, slots)) if slot < slots]
        heapq.heapify(node.idle)
        self._emit([NodeChanged(name, capabilities, slots)])
        self._fill(node)

    def load(self, codes: Mapping[str, Code]) -> None:
        """Keep code under its keys."""
        self._codes.update(codes)

    def submit(self, attempts: Sequence[Attempt]) -> None:
        """Queue attempts whose inputs are there; keep the others until they are."""
        for attempt in attempts:
            if attempt.id not in self._seen:
                self._seen.add(attempt.id)
                self._place(attempt)

    def cancel(self, id: AttemptId, how: Literal["interrupt", "kill"]) -> None:
        """Take a queued attempt back. One that runs is a thread: it can only be waited for."""
        for node in self._nodes.values():
            kept = [entry for entry in node.queue if entry[2].id != id]
            if len(kept) < len(node.queue):
                node.queue = kept
                heapq.heapify(kept)
                self._emit([Cancelled(id)])
        if self.withdraw(id):
            self._emit([Cancelled(id)])

    def withdraw(self, id: AttemptId) -> bool:
        """Take an attempt back that waits for an input; whether there was one."""
        for waiting in self._blocked.values():
            for attempt in waiting:
                if attempt.id == id:
                    waiting.remove(attempt)
                    return True
        return False

    def value(self, key: AttemptId) -> Payload:
        """A value that was made here; ``KeyError`` when it isn't there."""
        return self._values[key]

    def put(self, key: AttemptId, value: Payload) -> None:
        """Hold a value; attempts that wait for it may start."""
        self._values[key] = value
        for attempt in self._blocked.pop(key, ()):
            self._place(attempt)

    def get(self, key: AttemptId, node: str, reply: Reply) -> None:
        """Hand out a value."""
        value = self._values.get(key)
        reply(value if value is not None else Failure(FailureKind.INPUT, f"the result {key} is not there any more"))

    def free(self, keys: Iterable[AttemptId]) -> None:
        """Forget values, and that their attempts were ever seen."""
        for key in keys:
            self._values.pop(key, None)
            self._seen.discard(key)

    # -- running -------------------------------------------------------------

    def _place(self, attempt: Attempt) -> None:
        missing = next((s.key for s in attempt.inputs if s.key not in self._values), None)
        if missing is not None:
            self._blocked[missing].append(attempt)
            return
        node = self._nodes.get(attempt.node)
        if node is not None:
            heapq.heappush(node.queue, (attempt.priority, next(self._order), attempt))
            self._fill(node)

    def _fill(self, node: _Node) -> None:
        while node.queue and node.idle:
            attempt = heapq.heappop(node.queue)[2]
            slot = heapq.heappop(node.idle)
            node.running[attempt.id] = attempt
            inputs = [self._values[source.key].load() for source in attempt.inputs]
            codes = [self._codes[key].value for key in attempt.codes]
            retry_on = self._codes[attempt.retry_on].value if attempt.retry_on else Exception
            self._emit([Started(attempt.id, time.time(), slot)])
            threading.Thread(
                target=self._work,
                args=(node, attempt, slot, codes, inputs, retry_on),
                name=f"handoff-lab {attempt.node}/{slot} {attempt.label}",
                daemon=True,
            ).start()

    def _work(
        self,
        node: _Node,
        attempt: Attempt,
        slot: int,
        codes: Sequence[Any],
        inputs: Sequence[Any],
        retry_on: Any,
    ) -> None:
        started = time.time()
        outcome = execute(attempt, codes, inputs, retry_on)
        ended = time.time()

        def report() -> None:
            node.running.pop(attempt.id, None)
            if node.lost:
                return
            event: BackendEvent
            if isinstance(outcome, Failure):
                event = Failed(attempt.id, outcome, started, ended, slot)
            else:
                self.put(attempt.id, Live(outcome.value))
                event = Finished(attempt.id, started, ended, slot=slot)
            if slot < node.info.slots:
                heapq.heappush(node.idle, slot)
            self._emit([event])
            self._fill(node)

        self._loop.call_soon_threadsafe(report)
