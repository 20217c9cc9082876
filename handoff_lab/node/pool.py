"""The slots of a node: who runs what, how it is stopped, and what becomes of it when a slot dies.

Attempts wait here, by priority, until a slot is free. Brief functions go out in batches, at most two on their way to a
slot; when one of them turns out long, those behind it are taken back for other slots. Every attempt gets exactly one
terminal event.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import cloudpickle  # type: ignore[import-untyped]

from handoff_lab.messages import (
    Attempt,
    AttemptId,
    Cancelled,
    Failed,
    Failure,
    FailureKind,
    Finished,
    Started,
    Wrote,
)
from handoff_lab.node.deaths import death_of
from handoff_lab.node.durations import Durations
from handoff_lab.node.listener import Listener
from handoff_lab.node.rounds import Rounds
from handoff_lab.node.slot import CONNECTION_LOST
from handoff_lab.node.worker import Task, Worker
from handoff_lab.node.zygote import Launcher
from handoff_lab.store.payload import Frames
from handoff_lab.store.segments import Buffer, Part

if TYPE_CHECKING:
    from handoff_lab.transport.loop import Loop

BATCH = 64  # brief functions in one message to a slot
BATCH_BYTES = 256 * 1024
GRACE_S = 2.0  # between the interrupt and the kill
RELAUNCH_S = 1.0  # after a slot that never came up


class SlotPool:
    """Runs attempts in slots; all calls on the loop's thread.

    Parameters
    ----------
    launcher
        Starts the slots' processes: the zygote.
    slots
        Functions that run at the same time; started now, before they are needed.
    on_lost
        Called with a reason when no slot can be started any more: the node must end, and ``lifeline.end_descendants``.
    """

    def __init__(
        self, loop: Loop, launcher: Launcher, listener: Listener, slots: int, on_lost: Callable[[str], None]
    ) -> None:
        self._loop = loop
        self._launcher = launcher
        self._listener = listener
        self._wanted = 0
        self._codes: dict[str, Buffer] = {}
        self._durations = Durations()
        self._tasks: dict[AttemptId, Task] = {}
        self._queue: list[tuple[float, int, Task]] = []
        self._workers: dict[int, Worker] = {}  # by token
        self._numbers = itertools.count(1)
        self._tokens = itertools.count()
        self._fill_due = False
        self._closed = False
        self._rounds = Rounds(loop, lambda: list(self._workers.values()), self._tell_text, self._give_back)
        launcher.watch(loop, self._died, on_lost)
        self.resize(slots)

    @property
    def pids(self) -> list[int]:
        """The slots' processes that are up."""
        return [worker.pid for worker in self._workers.values() if worker.pid is not None]

    def load(self, codes: Mapping[str, Buffer]) -> None:
        """Keep pickled code; each slot gets it once, before the first attempt that names it."""
        self._codes.update(codes)

    def run(self, attempt: Attempt, inputs: Sequence[Frames]) -> None:
        """Queue an attempt whose inputs, in the order of ``attempt.inputs``, are there.

        Its recipe may be pickled already, as ``transport.rows`` leaves it.
        """
        task = Task(attempt, inputs, _pickled(attempt.recipe))
        self._tasks[attempt.id] = task
        self._enqueue(task)

    def cancel(self, id: AttemptId, how: Literal["interrupt", "kill"] = "interrupt") -> None:
        """End an attempt: one that waits goes at once, one that runs is interrupted, and killed after a grace."""
        task = self._tasks.get(id)
        if task is None:
            return
        if task.worker is None:
            self._forget(task)
            self._listener.cancelled(Cancelled(id))
            return
        self._stop(task, "cancel")
        if how == "kill":
            self._kill(task)

    def resize(self, slots: int) -> None:
        """Have this many slots; those too many end when they are idle."""
        self._wanted = slots
        busy_first = sorted(self._workers.values(), key=lambda worker: not worker.tasks)
        for rank, worker in enumerate(busy_first):
            worker.retiring = worker.spoilt or rank >= slots
            self._retire(worker)
        self._grow()
        self._wake()

    def close(self) -> None:
        """End all slots; nothing is reported any more. The launcher stays open."""
        self._closed = True
        for worker in self._workers.values():
            worker.close()
        for task in self._tasks.values():
            _disarm(task)
        self._workers.clear()
        self._tasks.clear()
        self._queue.clear()

    # -- handing out ---------------------------------------------------------

    def _enqueue(self, task: Task) -> None:
        task.worker = None
        task.number = next(self._numbers)
        heapq.heappush(self._queue, (task.attempt.priority, task.number, task))
        self._wake()

    def _wake(self) -> None:
        # Once per turn of the loop: attempts that come together travel together.
        if not self._fill_due:
            self._fill_due = True
            self._loop.call_soon(self._fill)

    def _fill(self) -> None:
        self._fill_due = False
        while (task := self._next()) is not None:
            worker = self._choose(task)
            if worker is None:
                break
            worker.send(self._batch(), self._codes)
            self._begin(worker)
            self._rounds.keep_going()

    def _next(self) -> Task | None:
        """The task at the head of the queue; those that were cancelled meanwhile go."""
        while self._queue:
            task = self._queue[0][2]
            if self._tasks.get(task.attempt.id) is task:
                key = task.attempt.codes[0]
                task.brief, task.proven = self._durations.brief(key), self._durations.known(key)
                return task
            heapq.heappop(self._queue)
        return None

    def _choose(self, task: Task) -> Worker | None:
        """A slot with nothing to do; for a brief function also one that has but one batch of such."""
        second = None
        for worker in self._workers.values():
            if worker.retiring or worker.killed:
                continue
            if not worker.tasks:
                return worker
            if len(worker.tasks) <= BATCH // 2 and not worker.taken_back and _all_brief(worker):
                second = second or worker
        return second if task.brief else None

    def _batch(self) -> list[Task]:
        share = -(-len(self._queue) // max(1, len(self._workers)))
        room = min(BATCH, share)
        tasks: list[Task] = []
        nbytes = 0
        while (task := self._next()) is not None:
            nbytes += task.nbytes
            if tasks and not (task.brief and tasks[0].brief and len(tasks) < room and nbytes < BATCH_BYTES):
                break
            heapq.heappop(self._queue)
            tasks.append(task)
        return tasks

    def _begin(self, worker: Worker) -> None:
        """Tell that the slot's first task runs now, if the slot is up."""
        task = worker.first
        if task is not None and task.started is None and worker.pid is not None:
            self._announce(task, time.time())
            if task.attempt.timeout_s is not None and task.timer is None:
                task.timer = self._loop.call_later(task.attempt.timeout_s, lambda: self._stop(task, "timeout"))

    def _announce(self, task: Task, started: float) -> None:
        if task.started is None:
            task.started = started
            assert task.worker is not None
            self._listener.started(Started(task.attempt.id, started, task.worker.index))

    def _tell_text(self, task: Task, text: str) -> None:
        self._listener.wrote(Wrote(task.attempt.id, text))

    # -- what comes back -----------------------------------------------------

    def _take_rows(self, worker: Worker, rows: list[list[Any]], frames: list[Part]) -> None:
        at = 0
        for number, started, ended, peak, log, spoilt, count, failure in rows:
            if spoilt and not worker.spoilt:
                worker.spoilt = worker.retiring = True
                self._grow()
            parts = frames[at : at + count]
            at += count
            task = worker.tasks.pop(number, None)
            if task is None:
                continue  # it was taken back
            if not started:
                self._give_back(task)
                continue
            self._announce(task, started)
            self._forget(task)
            if failure is None and task.stop != "timeout":
                self._durations.add(task.attempt.codes[0], ended - started)
                value = Frames(tuple(parts)).settled()
                done = Finished(task.attempt.id, started, ended, value.nbytes, None, worker.index, peak, log)
                self._listener.finished(done, value)
            else:
                story = None if failure is None else Failure(FailureKind(failure[0]), *failure[1:])
                self._end(task, worker, story, started, ended, peak, log)
        if not worker.tasks:
            worker.taken_back = False
            self._retire(worker)
        self._begin(worker)
        self._wake()

    def _end(
        self,
        task: Task,
        worker: Worker,
        failure: Failure | None,
        started: float | None,
        ended: float,
        peak: int | None,
        log: str,
    ) -> None:
        """Tell the end of a task that has no result."""
        id = task.attempt.id
        if task.stop == "cancel":
            self._listener.cancelled(Cancelled(id, started, ended, log))
            return
        if task.stop == "timeout":
            failure = _timeout(task.attempt, failure)
        assert failure is not None
        self._listener.failed(Failed(id, failure, started, ended, worker.index, peak, log))

    def _give_back(self, task: Task) -> None:
        """Queue a task again that was sent but did not run."""
        if task.stop == "cancel":
            self._forget(task)
            self._listener.cancelled(Cancelled(task.attempt.id))
        else:
            _disarm(task)
            self._enqueue(task)

    def _forget(self, task: Task) -> None:
        _disarm(task)
        del self._tasks[task.attempt.id]

    # -- stopping ------------------------------------------------------------

    def _stop(self, task: Task, why: Literal["cancel", "timeout"]) -> None:
        if task.worker is not None and task.stop != "cancel":
            _disarm(task)
            task.stop = why
            task.worker.interrupt(task)
            task.timer = self._loop.call_later(GRACE_S, lambda: self._kill(task))

    def _kill(self, task: Task) -> None:
        worker = task.worker
        if worker is None or task.number not in worker.tasks:
            return
        if worker.first is task:
            worker.kill()
        else:  # it waits behind another in the slot, where the interrupt meets it
            _disarm(task)
            task.timer = self._loop.call_later(GRACE_S, lambda: self._kill(task))

    # -- slots ---------------------------------------------------------------

    def _grow(self) -> None:
        if self._closed:
            return
        taken = {worker.index for worker in self._workers.values()}
        missing = self._wanted - sum(not worker.retiring for worker in self._workers.values())
        free = (index for index in itertools.count() if index not in taken)
        for index in itertools.islice(free, max(0, missing)):
            token = next(self._tokens)
            self._workers[token] = Worker(index, token, self._launcher.launch, self._loop, self._begin, self._take_rows)
        self._wake()

    def _retire(self, worker: Worker) -> None:
        if worker.retiring and not worker.tasks:
            del self._workers[worker.token]
            worker.close()

    def _died(self, token: int, status: int) -> None:
        worker = self._workers.get(token)
        if worker is None:
            return
        worker.drain()
        if self._workers.pop(token, None) is None:
            return  # it was retiring, and that was its last outcome
        blamed, log = worker.blamed(), worker.log.read()
        tasks = list(worker.tasks.values())
        worker.tasks.clear()
        for task in tasks:
            if task is blamed:
                self._announce(task, time.time())
                self._forget(task)
                failure = death_of(CONNECTION_LOST if worker.hung_up else status, worker.pid is not None, log)
                self._end(task, worker, failure, task.started, time.time(), None, log)
            else:
                self._give_back(task)
        worker.close()
        if worker.pid is None:
            self._loop.call_later(RELAUNCH_S, self._grow)
        else:
            self._grow()


def _pickled(recipe: object) -> Buffer | None:
    return recipe if isinstance(recipe, bytes | None) else cloudpickle.dumps(recipe, protocol=5)


def _all_brief(worker: Worker) -> bool:
    return all(task.brief for task in worker.tasks.values())


def _disarm(task: Task) -> None:
    if task.timer is not None:
        task.timer.cancel()
        task.timer = None


def _timeout(attempt: Attempt, failure: Failure | None) -> Failure:
    traceback = failure.traceback if failure is not None else ""
    message = f"it ran longer than its timeout of {attempt.timeout_s:g} s"
    return Failure(FailureKind.TIMEOUT, message, "TimeoutError", traceback)
