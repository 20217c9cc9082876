"""What a slot gets next: one function, or several brief ones in one message, with those that follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from handoff_lab.messages import Attempt, AttemptId
from handoff_lab.node.durations import Durations
from handoff_lab.node.queue import Line, Queue
from handoff_lab.node.room import Room
from handoff_lab.node.slot import BRIEF_S
from handoff_lab.node.task import Input, Task, claim_of, task_of
from handoff_lab.node.worker import Worker
from handoff_lab.resources.devices import need_of

BATCH = 240  # tasks
FUSED = 256  # tasks, with those that follow from them
BATCH_BYTES = 256 * 1024
BATCH_S = 0.01  # that a batch may be expected to take


class Lender(Protocol):
    """Keeps the attempts that wait for inputs, and lends those whose inputs a batch makes itself."""

    def followers(self, id: AttemptId, made: Mapping[AttemptId, int], most: int) -> list[tuple[Attempt, list[Input]]]:
        """Attempts that wait for this result, and for no other but those that were asked about with this ``made``."""

    def lend(self, id: AttemptId) -> None:
        """Let an attempt go along."""

    def returned(self, id: AttemptId) -> None:
        """An attempt that was lent did not run."""


class Batches:
    """Takes batches out of a queue. A slot holds the claim of what it runs once; all in it have the same claim."""

    def __init__(self, queue: Queue, durations: Durations, room: Room, lender: Lender | None) -> None:
        self._queue = queue
        self._durations = durations
        self._room = room
        self._lender = lender

    def take(self, worker: Worker, slots: int) -> list[Task]:
        """The next batch for this slot, one of ``slots``; none while it has enough, or there is no room."""
        if worker.unanswered > BATCH:
            return []  # the marks of its ``fence`` are for no more
        line = self._line_behind(worker) if worker.tasks else self._line_of_its_own(worker)
        if line is None:
            return []
        tasks = self._cut(line, slots)
        for task in tasks:
            worker.number(task)
        self._queue.served(tasks[0].attempt.id.run)
        worker.brief = tasks[0].brief
        if worker.brief and self._lender is not None:
            self._fuse(self._lender, tasks, worker, slots)
        return tasks

    def release(self, worker: Worker) -> None:
        """The slot has nothing to do any more: what it held is free."""
        claim, worker.claim = worker.claim, None
        self._room.give_back(claim)

    def _line_of_its_own(self, worker: Worker) -> Line | None:
        line = self._queue.best(self._room.fits)
        self._room.lacks(self, line is None and self._queue.best() is not None)
        if line is not None:
            self._room.take(line.claim)
            worker.claim = line.claim
        return line

    def _line_behind(self, worker: Worker) -> Line | None:
        """More of the same for a slot with one batch of brief functions, unless something else comes first."""
        if not worker.brief or worker.taken_back:
            return None
        line = self._queue.best()
        if line is None or line.claim != worker.claim or self._room.is_wanted_beside(self):
            return None
        head = line.head()
        return line if head is not None and self._durations.brief(head[2].attempt.codes[0]) else None

    def _cut(self, line: Line, slots: int) -> list[Task]:
        share = min(BATCH, -(-len(line) // slots))
        tasks: list[Task] = []
        seconds, nbytes = 0.0, 0
        judged: Task | None = None
        while (head := line.head()) is not None:
            task = head[2]
            if judged is not None and judged.attempt.codes is task.attempt.codes:
                task.seconds, task.brief, task.proven = judged.seconds, judged.brief, judged.proven
            else:
                judged = task
                self._judge(task)
            seconds += task.seconds
            nbytes += task.nbytes
            if tasks and not (task.brief and len(tasks) < share and seconds < BATCH_S and nbytes < BATCH_BYTES):
                break
            line.pop()
            tasks.append(task)
            if not task.brief:
                break
        return tasks

    def _fuse(self, lender: Lender, tasks: list[Task], worker: Worker, slots: int) -> None:
        """Add tasks that follow from those in the batch, and so on."""
        runs_in, claim = tasks[0].attempt.runs_in, tasks[0].claim
        seconds = sum([task.seconds for task in tasks])
        made = {task.attempt.id: task.number for task in tasks}
        for task in tasks:  # grows meanwhile
            followers = lender.followers(task.attempt.id, made, BATCH)
            for attempt, inputs in followers[: -(-len(followers) // slots)]:
                if attempt.runs_in != runs_in or claim_of(attempt) != claim:
                    continue
                if attempt.granted and attempt.cost and need_of(attempt.cost):
                    continue  # a slot that sees its GPUs is for it
                follower = task_of(attempt, inputs)
                self._judge(follower)
                if not (follower.brief and follower.proven):
                    continue
                seconds += follower.seconds
                if len(tasks) >= FUSED or seconds >= BATCH_S:
                    return
                worker.number(follower)
                lender.lend(attempt.id)
                made[attempt.id] = follower.number
                tasks.append(follower)

    def _judge(self, task: Task) -> None:
        key = task.attempt.codes[0]
        task.seconds = self._durations.expected(key)
        task.brief = task.seconds < BRIEF_S
        task.proven = self._durations.known(key)
