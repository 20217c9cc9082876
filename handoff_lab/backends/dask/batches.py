"""What goes to a worker as one Dask task: one attempt, or several brief ones, with those that follow from them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgpack  # type: ignore[import-untyped]

from handoff_lab.backends.base import Code
from handoff_lab.backends.dask.remote import GIVEN, MADE
from handoff_lab.backends.dask.values import Far, Value
from handoff_lab.messages import AttemptId, NodeInfo, Source
from handoff_lab.node.durations import Durations
from handoff_lab.node.queue import Line, Queue
from handoff_lab.node.room import Room
from handoff_lab.node.task import Claim, Task, claim_of
from handoff_lab.store.payload import Frames, join

MOST = 256  # attempts in one Dask task
BATCH_S = 0.1  # that they may be expected to take, which is many times what Dask takes to start them
BRIEF_S = 0.1  # what is expected to take less has company in its Dask task
AHEAD_S = 1.0  # what is expected to take less has the next one sent after it, before it is done
DEEPEST = 16  # Dask remembers a row of tasks that wait for each other until the last is done
LONG_S = 0.2  # what takes so much longer than expected has its company taken back
BULKY = 64 * 1024  # bytes of a result: larger ones have a Dask task each, to be moved and freed one by one


@dataclass(slots=True, eq=False)
class Job:
    """An attempt that has not ended."""

    task: Task
    node: DaskNode
    missing: int = 0  # inputs that are still to come
    batch: Batch | None = None
    place: int = 0  # in its batch
    lacks: AttemptId | None = None  # an input that will not come, found out while it was in a batch
    told: bool = False  # whether its start was
    cancelled: bool = False
    sendings: int = 0  # Dask tasks that it was part of
    alone: bool = False  # it may have been at work on a node that died: by itself, and surely told of, if so again

    @property
    def id(self) -> AttemptId:
        return self.task.attempt.id

    @property
    def code(self) -> str:
        """The key of its function."""
        return self.task.attempt.codes[0]


@dataclass(slots=True, eq=False)
class Batch:
    """A Dask task on its way."""

    name: str
    node: DaskNode
    slot: int
    claim: Claim
    brief: bool  # whether no start is told, for it would be old news
    jobs: dict[int, Job]  # of which nothing was told, by place
    before: Batch | None = None  # it waits for this one, in the same slot
    depth: int = 0  # in a row of batches that each waited for the one before
    codes: set[str] = field(default_factory=set)  # keys of the code that went along
    needs: set[str] = field(default_factory=set)  # nodes on which inputs lie
    copied: list[tuple[AttemptId, Far]] = field(default_factory=list)  # inputs that Dask copies to its node
    sent: float = 0.0
    heard: float | None = None  # when its worker last told of it, by the monotonic clock
    long: bool = False  # it takes longer than was thought
    future: Any = None
    stream: Any = None  # the connection by which it was sent
    kept: bool = False  # whether values lie there that hold the future

    def release(self) -> None:
        """Have Dask forget it, unless values lie there. One that waits for it keeps a future alive, so it is told."""
        if self.future is not None and not self.kept:
            self.future.release()
        self.future = self.before = None

    @property
    def first(self) -> Job:
        """The first of which nothing was told: if any of them runs, it is this one, or one soon after it."""
        return next(iter(self.jobs.values()))


class DaskNode:
    """A worker as a node: what waits for it here, what it has, what is on its way."""

    def __init__(self, info: NodeInfo, address: str, threads: int) -> None:
        self.info = info
        self.address = address
        self.threads = threads
        self.queue = Queue()
        self.room = Room(info.capabilities)
        self.batches: dict[int, list[Batch]] = {}  # by slot: what runs there, and what waits behind it
        self.codes: set[str] = set()  # keys of the code that it has for sure
        self.left = False  # it is no node any more

    def free_slot(self) -> int | None:
        """A slot in which nothing runs, if there is any."""
        if len(self.batches) >= self.info.slots:
            return None
        return next(slot for slot in itertools.count() if slot not in self.batches)


class Cutter:
    """Takes batches out of a node's queue."""

    def __init__(self, jobs: Mapping[AttemptId, Job], followers: Callable[[Job, Mapping[AttemptId, int]], list[Job]]):
        self._jobs = jobs
        self._followers = followers
        self._durations = Durations()
        self._learnt = False
        self._bulky: set[str] = set()

    def learn(self, job: Job, seconds: float, nbytes: int) -> None:
        """A function ran."""
        self._learnt = True
        self._durations.add(job.code, seconds)
        if nbytes > BULKY:
            self._bulky.add(job.code)

    def forget(self, keys: set[str]) -> None:
        """These functions run no more."""
        self._bulky -= keys

    def patience(self, batch: Batch) -> float:
        """Seconds after which a batch of which nothing is heard takes too long."""
        return LONG_S + 2 * self._durations.expected(batch.first.code)

    def cut(self, node: DaskNode) -> Batch | None:
        """The next batch for a node; none while it has enough, or no room."""
        slot = node.free_slot()
        if slot is None:
            return self._cut_behind(node)
        line = node.queue.best(node.room.fits)
        if line is None:
            return None
        node.room.take(line.claim)
        return self._make(node, slot, line, None)

    def _cut_behind(self, node: DaskNode) -> Batch | None:
        """More of the same for a slot with brief functions: so its worker need not wait for us between them."""
        line = node.queue.best()
        head = None if line is None else line.head()
        if line is None or head is None or not self._is_brief(self._jobs[head[2].attempt.id], AHEAD_S):
            return None
        for slot, (batch, *behind) in node.batches.items():
            fits = not behind and not batch.long and batch.claim == line.claim and batch.depth < DEEPEST
            if fits and self._is_brief(batch.first, AHEAD_S):
                return self._make(node, slot, line, batch)
        return None

    def _make(self, node: DaskNode, slot: int, line: Line, before: Batch | None) -> Batch:
        jobs = self._take(line, node.info.slots)
        node.queue.served(jobs[0].id.run)
        if self._is_brief(jobs[0]):
            self._add_followers(jobs, line.claim, node.info.slots)
        batch = Batch(_name(jobs), node, slot, line.claim, len(jobs) > 1, dict(enumerate(jobs)), before)
        batch.depth = 0 if before is None else before.depth + 1
        for place, job in batch.jobs.items():
            job.batch, job.place = batch, place
            job.sendings += 1
        node.batches.setdefault(slot, []).append(batch)
        return batch

    def _take(self, line: Line, slots: int) -> list[Job]:
        share = min(MOST, -(-len(line) // slots))
        jobs: list[Job] = []
        seconds = 0.0
        while (head := line.head()) is not None:
            job = self._jobs[head[2].attempt.id]
            brief = self._is_brief(job)
            seconds += self._durations.expected(job.code)
            if jobs and not (brief and len(jobs) < share and seconds < BATCH_S):
                break
            line.pop()
            jobs.append(job)
            if not brief:
                break
        return jobs

    def _add_followers(self, jobs: list[Job], claim: Claim, slots: int) -> None:
        """Add those that only wait for what the batch makes itself, and so on."""
        seconds = sum(self._durations.expected(job.code) for job in jobs)
        places = {job.id: place for place, job in enumerate(jobs)}
        for job in jobs:  # grows meanwhile
            found = [
                follower
                for follower in self._followers(job, places)
                if claim_of(follower.task.attempt) == claim and self._is_brief(follower)
            ]
            for follower in found[: -(-len(found) // slots)]:
                seconds += self._durations.expected(follower.code)
                if len(jobs) >= MOST or seconds >= BATCH_S:
                    return
                places[follower.id] = len(jobs)
                jobs.append(follower)

    def _is_brief(self, job: Job, limit_s: float = BRIEF_S) -> bool:
        key = job.code
        return self._learnt and not job.alone and key not in self._bulky and self._durations.expected(key) < limit_s


def _name(jobs: Sequence[Job]) -> str:
    """The key of a Dask task: the id of its first attempt, and what makes it the only one of that name."""
    first, others = jobs[0], len(jobs) - 1
    return f"{first.id}{f'+{others}' if others else ''}{f'#{first.sendings}' if first.sendings else ''}"


def write(
    batch: Batch, topic: str, codes: Mapping[str, Code], age: int, value_of: Callable[[AttemptId], Value | None]
) -> tuple[bytes, list[Any]]:
    """The message of a batch, and the futures that it needs. ``age``: how often code was forgotten until now."""
    places = {job.id: place for place, job in batch.jobs.items()}
    futures: dict[int, tuple[int, Any]] = {}  # number and future, by identity
    if batch.before is not None:
        futures[id(batch.before.future)] = 0, batch.before.future  # so that Dask starts it after that one
    calls: dict[tuple[Any, ...], int] = {}
    new: dict[str, bytes] = {}

    def source_row(source: Source) -> list[Any]:
        if source.key in places:
            return [MADE, places[source.key]]
        value = value_of(source.key)
        if isinstance(value, Frames):
            return [0, join(value.buffers)]
        assert value is not None, "whoever is in a batch has its inputs"
        number, _ = futures.setdefault(id(value.future), (len(futures), value.future))
        node = batch.node.info.name
        if value.node != node:
            batch.needs.add(value.node)
            if node not in value.copies:
                value.copies.add(node)
                batch.copied.append((source.key, value))
        return [GIVEN, number, value.part]

    rows = []
    for job in batch.jobs.values():
        attempt, recipe = job.task.attempt, job.task.recipe
        for key in (*attempt.codes, *attempt.setup, attempt.retry_on):
            if key is not None and key not in batch.node.codes and key not in new:
                new[key] = codes[key].pickled()
        call = (attempt.codes, attempt.retry_on, attempt.setup)
        nodes = None if recipe is None else [[source.node for source in attempt.inputs], attempt.node]
        number = calls.setdefault(call, len(calls))
        rows.append([attempt.label, number, recipe, nodes, [source_row(source) for source in attempt.inputs]])
    batch.codes = set(new)
    spec = {
        "name": batch.name, "topic": topic, "brief": batch.brief, "surely": batch.first.alone, "codes": new, "age": age,
        "calls": list(calls), "rows": rows,
    }  # fmt: skip
    packed: bytes = msgpack.packb(spec)
    return packed, [future for _, future in sorted(futures.values(), key=_number)]


def _number(entry: tuple[int, Sequence[Any]]) -> int:
    return entry[0]
