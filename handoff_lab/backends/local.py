"""Nodes inside this process: functions run in threads, values stay live and are never pickled.

For tests, for small graphs and for the node ``"local"``. A running function can't be interrupted here. Setup code is
not run again: it ran in this process already.
"""

from __future__ import annotations

import heapq
import itertools
import os
import pickle
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Any

from handoff_lab._errors import BackendError
from handoff_lab.backends.base import Code, Emit, Feature, Reply, refusal
from handoff_lab.messages import (
    Attempt,
    AttemptId,
    BackendEvent,
    Cancelled,
    Failed,
    Failure,
    FailureKind,
    Finished,
    HowToEnd,
    NodeChanged,
    NodeInfo,
    NodeJoined,
    NodeLost,
    Started,
    Wrote,
)
from handoff_lab.node.execution import Outcome, execute
from handoff_lab.node.failures import code_failure, input_failure
from handoff_lab.node.report import slots_of
from handoff_lab.store.memory import MemoryStore
from handoff_lab.store.payload import Live, Payload
from handoff_lab.transport.loop import Loop

_UNSTOPPABLE = "It was cancelled, but a thread can't be interrupted: it runs to its end.\n"


class _Worker:
    """The thread of a slot: does one thing after the other."""

    def __init__(self, name: str) -> None:
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def do(self, task: Callable[[], None]) -> None:
        self._tasks.put(task)

    def end(self) -> None:
        self._tasks.put(None)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()
            del task  # its values can go while the thread waits


@dataclass(slots=True, eq=False)
class _Node:
    info: NodeInfo
    queue: list[tuple[float, int, _Job]] = field(default_factory=list)  # heap: all inputs are there
    busy: set[int] = field(default_factory=set)  # numbers of slots; some may be of more slots than there are now
    workers: dict[int, _Worker] = field(default_factory=dict)  # by slot
    made: set[AttemptId] = field(default_factory=set)  # results


@dataclass(slots=True, eq=False)
class _Job:
    """An attempt that has not ended."""

    attempt: Attempt
    node: _Node
    missing: int  # inputs that are still to come
    slot: int | None = None  # where it runs


class LocalBackend:
    """A backend whose nodes are threads of this process."""

    kind = "nodes in this process"
    features = frozenset({Feature.ADD_NODES})
    lacks: Mapping[Feature, str] = MappingProxyType(
        {
            Feature.INTERRUPT: "threads can't be interrupted",
            Feature.TIMEOUT: "threads can't be ended when a timeout is up",
            Feature.KERNEL: "nodes in this process have no kernel",
        }
    )
    columns = False

    def __init__(self, nodes: Mapping[str, Mapping[str, float]]) -> None:
        self._wanted = dict(nodes)
        self._nodes: dict[str, _Node] = {}
        self._codes: dict[str, Code] = {}
        self._jobs: dict[AttemptId, _Job] = {}
        self._store: MemoryStore[Payload] = MemoryStore()
        self._reasons: dict[AttemptId, str] = {}  # why values are given up
        self._order = itertools.count()
        self._told: list[BackendEvent] = []  # handed over together, when a call is done
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
            _end_workers(node, 0)
        self._nodes.clear()
        self._jobs.clear()
        self._codes.clear()
        self._store = MemoryStore()

    # -- nodes ---------------------------------------------------------------

    def nodes(self) -> Mapping[str, NodeInfo]:
        """The nodes that are there now."""
        return {name: node.info for name, node in self._nodes.items()}

    def features_of(self, node: str) -> frozenset[Feature]:
        """The same for every node."""
        return self.features

    def add_node(self, name: str, capabilities: Mapping[str, float], labels: Mapping[str, str]) -> None:
        """Announce one more node."""
        if name in self._nodes:
            raise BackendError(f"there is a node {name!r} already; choose another name")
        info = NodeInfo(name, capabilities, slots_of(capabilities), socket.gethostname(), os.getpid(), {}, labels)
        self._nodes[name] = _Node(info)
        self._tell(NodeJoined(info))
        self._flush()

    def remove_node(self, name: str) -> None:
        """Let a node go with its results; what runs there goes on unheard."""
        node = self._nodes.pop(name)
        _end_workers(node, 0)
        ended = [id for id, job in self._jobs.items() if job.node is node]
        for id in ended:
            del self._jobs[id]
        self._tell(NodeLost(name, "it was removed", expected=True))
        self._store.free([*ended, *node.made])
        self._flush()

    def set_capabilities(self, name: str, capabilities: Mapping[str, float]) -> None:
        """Change what a node has."""
        node = self._nodes[name]
        node.info = replace(node.info, capabilities=capabilities, slots=slots_of(capabilities))
        _end_workers(node, node.info.slots)
        self._tell(NodeChanged(name, capabilities, node.info.slots))
        self._fill(node)
        self._flush()

    # -- attempts --------------------------------------------------------------

    def load(self, codes: Mapping[str, Code]) -> None:
        """Keep code under its keys."""
        self._codes.update(codes)

    def unload(self, keys: Iterable[str]) -> None:
        """Forget code."""
        for key in keys:
            self._codes.pop(key, None)

    def submit(self, attempts: Sequence[Attempt]) -> None:
        """Take attempts in; those for a node that is gone ended with it."""
        for attempt in attempts:
            node = self._nodes.get(attempt.node)
            if node is not None and attempt.id not in self._jobs and not self._store.knows(attempt.id):
                self._take_in(attempt, node)
        self._flush()

    def cancel(self, id: AttemptId, how: HowToEnd) -> None:
        """Take an attempt back that has not started. One that runs is a thread: it can only be waited for."""
        job = self._jobs.get(id)
        if job is None:
            return
        if job.slot is not None and how == "recall":
            return
        if job.slot is not None:
            self._tell(Wrote(id, _UNSTOPPABLE))
        else:
            self._end(job, Cancelled(id))
        self._flush()

    # -- values ----------------------------------------------------------------

    def __contains__(self, key: AttemptId) -> bool:
        return key in self._store

    def put(self, key: AttemptId, value: Payload) -> None:
        """Hold a value, whatever becomes of the node that made it; attempts that wait for it may start."""
        for node in self._nodes.values():
            node.made.discard(key)
        self._store.put(key, value)
        self._flush()

    def give_up(self, key: AttemptId, reason: str) -> None:
        """Fail the attempts that wait for a value which will not come."""
        self._reasons[key] = reason
        self._store.give_up(key)
        del self._reasons[key]
        self._flush()

    def want(self, key: AttemptId, take: Callable[[Payload | None], None]) -> None:
        """Call ``take`` with a value when it is made, or with None if it will not be."""
        self._store.want(key, take)

    def get(self, key: AttemptId, node: str, reply: Reply) -> None:
        """Hand out a value."""
        value = self._store.get(key)
        reply(value if value is not None else Failure(FailureKind.INPUT, f"the result {key} is not there any more"))

    def free(self, keys: Iterable[AttemptId]) -> None:
        """Forget values."""
        keys = list(keys)
        for node in self._nodes.values():
            node.made.difference_update(keys)
        self._store.free(keys)
        self._flush()

    def forget(self, run: str) -> None:
        """Forget all values of a run."""
        for node in self._nodes.values():
            node.made = {key for key in node.made if key.run != run}
        self._store.forget(run)
        self._flush()

    # -- inside ----------------------------------------------------------------

    def _tell(self, event: BackendEvent) -> None:
        self._told.append(event)

    def _flush(self) -> None:
        if self._told:
            events, self._told = self._told, []
            self._emit(events)

    def _take_in(self, attempt: Attempt, node: _Node) -> None:
        job = self._jobs[attempt.id] = _Job(attempt, node, len(attempt.inputs) + 1)
        if (refused := refusal(attempt, self.features)) is not None:
            self._end(job, refused)
            return
        for source in attempt.inputs:
            self._store.want(source.key, partial(self._came, job, source.key))
        self._count_down(job)

    def _came(self, job: _Job, key: AttemptId, value: Payload | None) -> None:
        if self._jobs.get(job.attempt.id) is not job:
            return  # it ended before
        if value is not None:
            self._count_down(job)
        else:
            reason = self._reasons.get(key, "it was not made, or is not there any more")
            self._end(job, _input_missing(job, f"(made by {key}) could not be had: {reason}"))

    def _count_down(self, job: _Job) -> None:
        job.missing -= 1
        if not job.missing:
            heapq.heappush(job.node.queue, (job.attempt.priority, next(self._order), job))
            self._fill(job.node)

    def _end(self, job: _Job, event: Failed | Cancelled) -> None:
        """Nothing comes of the attempt, and nobody waits for its result."""
        del self._jobs[job.attempt.id]
        self._tell(event)
        self._store.free([job.attempt.id])

    def _fill(self, node: _Node) -> None:
        while node.queue and len(node.busy) < node.info.slots:
            job = heapq.heappop(node.queue)[2]
            if self._jobs.get(job.attempt.id) is job:  # else it was cancelled
                self._start(job, node)

    def _start(self, job: _Job, node: _Node) -> None:
        inputs = [value for source in job.attempt.inputs if (value := self._store.get(source.key)) is not None]
        if len(inputs) < len(job.attempt.inputs):
            self._end(job, _input_missing(job, "was freed before the attempt could start"))
            return
        slot = job.slot = next(slot for slot in range(node.info.slots) if slot not in node.busy)
        node.busy.add(slot)
        if slot not in node.workers:
            node.workers[slot] = _Worker(f"handoff-lab {job.attempt.node}/{slot}")
        self._tell(Started(job.attempt.id, time.time(), slot))
        node.workers[slot].do(partial(self._work, job, slot, inputs))

    def _finish(self, job: _Job, slot: int, outcome: Outcome | Failure, started: float, ended: float) -> None:
        id, node = job.attempt.id, job.node
        node.busy.discard(slot)
        if self._jobs.get(id) is not job:
            return  # its node is gone
        if isinstance(outcome, Failure):
            self._end(job, Failed(id, outcome, started, ended, slot))
        else:
            del self._jobs[id]
            node.made.add(id)
            self._tell(Finished(id, started, ended, slot=slot))
            self._store.put(id, Live(outcome.value))
        self._fill(node)
        self._flush()

    # -- on the slot's thread ----------------------------------------------------

    def _work(self, job: _Job, slot: int, inputs: Sequence[Payload]) -> None:
        started = time.time()
        outcome = self._execute(job.attempt, inputs)
        self._loop.call_soon_threadsafe(partial(self._finish, job, slot, outcome, started, time.time()))

    def _execute(self, attempt: Attempt, inputs: Sequence[Payload]) -> Outcome | Failure:
        """The function's outcome. ``SystemExit`` may come from anything that is unpickled."""
        try:
            codes = [self._codes[key].value for key in attempt.codes]
            retry_on = self._codes[attempt.retry_on].value if attempt.retry_on else Exception
            recipe = pickle.loads(attempt.recipe) if isinstance(attempt.recipe, bytes) else attempt.recipe
        except BaseException as error:
            return code_failure(f"the code of {attempt.label!r}", error)
        values: list[Any] = []
        for position, payload in enumerate(inputs):
            try:
                values.append(payload.load())
            except BaseException as error:
                return input_failure(position, error)
        sources = [source.node for source in attempt.inputs]
        return execute(recipe, codes, values, retry_on, sources, attempt.node)


def _input_missing(job: _Job, story: str) -> Failed:
    return Failed(job.attempt.id, Failure(FailureKind.INPUT, f"an input {story}"))


def _end_workers(node: _Node, slots: int) -> None:
    """Let the threads of slots beyond these end, when they have done what they are at."""
    for slot in [slot for slot in node.workers if slot >= slots]:
        node.workers.pop(slot).end()
