"""The Dask backend: Dask's workers are the nodes. Dask keeps processes and moves results; what runs where is ours.

Attempts wait here until their inputs are there and their node has room: Dask gets what can run now, and never more.
Each Dask task names its worker, is not tried again by Dask, and has a key of its own, so that what a lost worker had
runs under a new one.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

from handoff_lab._errors import BackendError
from handoff_lab.backends.base import Code, Emit, Feature, Reply, refusal
from handoff_lab.backends.dask import remote
from handoff_lab.backends.dask.batches import DaskNode, Job
from handoff_lab.backends.dask.inputs import Inputs
from handoff_lab.backends.dask.link import Link, import_distributed
from handoff_lab.backends.dask.tasks import Tasks
from handoff_lab.backends.dask.values import Values
from handoff_lab.backends.dask.workers import DaskWorker, Workers
from handoff_lab.messages import (
    Attempt,
    AttemptId,
    BackendEvent,
    Cancelled,
    Failed,
    Failure,
    FailureKind,
    HowToEnd,
    NodeChanged,
    NodeInfo,
    NodeJoined,
    NodeLoad,
    NodeLost,
)
from handoff_lab.node.report import slots_of
from handoff_lab.node.task import task_of
from handoff_lab.resources import Resources
from handoff_lab.store.payload import Frames, Payload
from handoff_lab.transport.loop import Loop


class DaskBackend:
    """A backend over a Dask cluster that is there already.

    Parameters
    ----------
    cluster
        The address of its scheduler, a ``Client``, or a Dask cluster of whatever kind.
    """

    kind = "Dask's workers"
    features = frozenset({Feature.PROCESSES})
    lacks: Mapping[Feature, str] = MappingProxyType(
        {
            Feature.INTERRUPT: "Dask can't interrupt a running function",
            Feature.TIMEOUT: "Dask can't end a function whose timeout is up",
            Feature.KERNEL: "Dask's workers have no kernel",
            Feature.ADD_NODES: "Dask starts its workers itself",
        }
    )
    columns = False

    def __init__(self, cluster: Any) -> None:
        import_distributed()
        self._cluster = cluster
        self._topic = f"handoff-{secrets.token_hex(4)}"
        self._nodes: dict[str, DaskNode] = {}
        self._codes: dict[str, Code] = {}
        self._jobs: dict[AttemptId, Job] = {}
        self._suspects: set[tuple[str, int]] = set()  # functions that were at work when their node died
        self._failing: deque[tuple[Job, AttemptId]] = deque()  # that lack an input; the first is being told
        self._told: list[BackendEvent] = []  # handed over together, when a call is done
        self._emit: Emit
        self._link: Link
        self._workers: Workers
        self._values: Values
        self._inputs: Inputs
        self._tasks: Tasks

    def open(self, loop: Loop, emit: Emit) -> None:
        """Connect, and announce the workers that are there."""
        self._emit = emit
        self._link = Link(self._cluster, loop)
        self._values = Values(self._link, self.settle)
        self._inputs = Inputs(self._values, self._ready, self._lacking)
        self._tasks = Tasks(self._link, self._topic, self._jobs, self._codes, self._values, self._inputs, self)
        self._workers = Workers(self._link, self)
        try:
            self._workers.open()
        except BaseException:
            self._link.close()
            raise

    def close(self) -> None:
        """Let go of everything in the Dask cluster, which goes on; functions that run there end unheard."""
        if not hasattr(self, "_workers"):
            return
        self._workers.close()
        addresses = [node.address for node in self._nodes.values()]
        self._nodes.clear()
        self._jobs.clear()
        self._tasks.close()
        self._values.free(self._values.keys())
        self._link.close(self._link.calling(remote.leave, self._topic, workers=addresses) if addresses else None)

    # -- nodes -----------------------------------------------------------------

    @property
    def trouble(self) -> str:
        """What is wrong with it as a whole; empty if nothing is."""
        return self._link.trouble

    @property
    def advice(self) -> str:
        """What to do when there are no nodes."""
        return self.trouble or "add workers to the Dask cluster (cluster.scale(n)), or wait: wait_for_capacity=True"

    def nodes(self) -> Mapping[str, NodeInfo]:
        """The nodes that are there now."""
        return {name: node.info for name, node in self._nodes.items()}

    def features_of(self, node: str) -> frozenset[Feature]:
        """The same for every node."""
        return self.features

    def add_node(self, name: str, capabilities: Mapping[str, float], labels: Mapping[str, str]) -> None:
        """Refuse it."""
        raise BackendError(
            f"{self.lacks[Feature.ADD_NODES]}: add one there (cluster.scale(n), or `dask worker {self._link.address} "
            f"--name {name}`), and it joins by itself"
        )

    def remove_node(self, name: str) -> None:
        """Let a worker go, and have Dask retire it."""
        address = self._nodes[name].address
        self.worker_lost(name, "it was removed", expected=True)
        self.settle()
        client = self._link.client
        self._link.ask(partial(client.retire_workers, [address], asynchronous=True))

    def set_capabilities(self, name: str, capabilities: Mapping[str, float]) -> None:
        """Change what a node has, for this cluster; it never has more slots than its worker has threads."""
        node = self._nodes[name]
        slots = min(node.threads, slots_of(capabilities))
        node.info = replace(node.info, capabilities=capabilities, slots=slots)
        node.room.resize(capabilities)
        self.tell(NodeChanged(name, capabilities, slots))
        self._tasks.touch(node)
        self.settle()

    # -- what Dask says of its workers -------------------------------------------

    def worker_joined(self, worker: DaskWorker) -> None:
        """A worker is there."""
        info = NodeInfo(
            worker.name,
            worker.capabilities,
            min(worker.threads, slots_of(worker.capabilities)),
            worker.host,
            worker.pid,
            worker.versions,
            {"address": worker.address},
            keeps_ledger=True,
        )
        self._nodes[worker.name] = DaskNode(info, worker.address, worker.threads)
        self.tell(NodeJoined(info))
        self.flush()

    def worker_changed(self, name: str, capabilities: Resources, threads: int) -> None:
        """A worker has other threads or resources than before."""
        if name in self._nodes:
            self._nodes[name].threads = threads
            self.set_capabilities(name, capabilities)

    def worker_load(self, name: str, cpu_percent: float, memory: int) -> None:
        """What a worker really uses."""
        if name in self._nodes:
            self.tell(NodeLoad(name, cpu_percent, memory))
            self.flush()

    def worker_lost(self, name: str, reason: str, *, expected: bool) -> None:
        """A worker is gone, with what ran there and the large results that it had; `settle` is to be called then."""
        node = self._nodes.pop(name, None)
        if node is None:
            return
        at_work = self._tasks.lose(node, died=not expected)
        if not expected:
            self._suspects.update(job.id[:2] for job in at_work)
        ended = [id for id, job in self._jobs.items() if job.node is node]
        for id in ended:
            self._inputs.drop(self._jobs.pop(id))
        self.tell(NodeLost(name, reason, expected))
        self._values.lose(name)
        self._values.free(ended)
        self._tasks.revoke(name)

    # -- attempts --------------------------------------------------------------

    def load(self, codes: Mapping[str, Code]) -> None:
        """Remember code; it crosses with the first attempts that need it."""
        self._codes.update(codes)

    def unload(self, keys: Iterable[str]) -> None:
        """Forget code here and on the workers."""
        forgotten = {key for key in keys if self._codes.pop(key, None) is not None}
        self._tasks.forget(forgotten, self._nodes.values())

    def submit(self, attempts: Sequence[Attempt]) -> None:
        """Take attempts in; those for a node that is gone ended with it."""
        for attempt in attempts:
            node = self._nodes.get(attempt.node)
            if node is not None and attempt.id not in self._jobs and not self._values.knows(attempt.id):
                self._take_in(attempt, node)
        self.settle()

    def cancel(self, id: AttemptId, how: HowToEnd) -> None:
        """Take an attempt back that did not begin."""
        job = self._jobs.get(id)
        if job is None:
            return
        if job.batch is None:
            self.end(job, Cancelled(id))
            self.settle()
        else:
            self._tasks.cancel(job, how)

    def _take_in(self, attempt: Attempt, node: DaskNode) -> None:
        job = self._jobs[attempt.id] = Job(task_of(attempt, ()), node, alone=attempt.id[:2] in self._suspects)
        if (refused := refusal(attempt, self.features)) is not None:
            self.end(job, refused)
        else:
            self._inputs.take_in(job)

    def _ready(self, job: Job) -> None:
        """All its inputs are there: it waits for room."""
        job.node.queue.push(job.task)
        self._tasks.touch(job.node)

    def _lacking(self, job: Job, key: AttemptId) -> None:
        """Fail it, and then those that it leads to: a chain of them is longer than Python's stack."""
        self._inputs.drop(job)
        self._failing.append((job, key))
        if len(self._failing) > 1:
            return
        while self._failing:
            failing, lacks = self._failing[0]
            message = f"an input (made by {lacks}) could not be had: it was not made, or is not there any more"
            self.end(failing, Failed(failing.id, Failure(FailureKind.INPUT, message)))
            self._failing.popleft()

    # -- values ----------------------------------------------------------------

    def put(self, key: AttemptId, value: Payload) -> None:
        """Hold a value in this process."""
        self._values.keep(key, value if isinstance(value, Frames) else Frames.dump(value.load()))
        self.settle()

    def get(self, key: AttemptId, node: str, reply: Reply) -> None:
        """Fetch a value."""
        self._values.fetch(key, reply)

    def free(self, keys: Iterable[AttemptId]) -> None:
        """Forget values; Dask drops what nobody holds."""
        self._values.free(keys)
        self.settle()

    def forget(self, run: str) -> None:
        """Forget all values of a run."""
        self._values.forget(run)
        self.settle()

    # -- what its parts tell -----------------------------------------------------

    def tell(self, event: BackendEvent) -> None:
        """Say something, soon."""
        self._told.append(event)

    def end(self, job: Job, event: Failed | Cancelled) -> None:
        """Nothing comes of an attempt, and nobody waits for its result."""
        del self._jobs[job.id]
        self._inputs.drop(job)
        job.task.queued = False
        self.tell(event)
        self._values.free([job.id])

    def settle(self) -> None:
        """Start what there is room for now, and say what was to be said."""
        self._tasks.fill()
        self.flush()

    def flush(self) -> None:
        """Say it."""
        if self._told:
            events, self._told = self._told, []
            self._emit(events)
