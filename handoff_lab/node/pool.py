"""The slots of a node: who runs what, how it is stopped, and what becomes of it when a slot dies.

Attempts wait here until a slot is free and there is room for their claim. Brief functions go out in batches, the next
before the last is done; when one of them turns out long, those behind it are taken back for other slots. Every attempt
gets exactly one terminal event.
"""

from __future__ import annotations

import itertools
import logging
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from handoff_lab.messages import (
    Attempt,
    AttemptId,
    Cancelled,
    Failed,
    HowToEnd,
    Started,
    Wrote,
)
from handoff_lab.node.batches import Batches, Lender
from handoff_lab.node.deaths import death_of
from handoff_lab.node.durations import Durations
from handoff_lab.node.listener import Listener
from handoff_lab.node.outcomes import Outcome, Successes, ended, finished, read_outcome
from handoff_lab.node.queue import Queue
from handoff_lab.node.room import Room
from handoff_lab.node.rounds import Rounds
from handoff_lab.node.slot import BRIEF_ROW, CONNECTION_LOST, SPOILT
from handoff_lab.node.task import Task, task_of
from handoff_lab.node.worker import Worker
from handoff_lab.node.zygote import Launcher
from handoff_lab.store.payload import Frames
from handoff_lab.store.segments import Buffer, Segment

if TYPE_CHECKING:
    from handoff_lab.transport.loop import Loop

log = logging.getLogger(__name__)

GRACE_S = 2.0  # between the interrupt and the kill
RELAUNCH_S = 1.0  # after a slot that never came up, or could not be started
AHEAD = 16  # slots that are started before they are needed, and that may be starting at the same time


class SlotPool:
    """Runs attempts in slots; all calls on the loop's thread.

    Parameters
    ----------
    launcher
        Starts the slots' processes: the zygote.
    slots
        Functions that run at the same time, at most; the first of these processes are started before they are needed.
    on_lost
        Called with a reason when no slot can be started any more: the node must end, and ``lifeline.end_descendants``.
    room
        Where attempts without a granted claim must fit; without it everything does.
    lender
        Has the attempts that wait for others and can go along with them.
    first
        The number of the first slot.
    """

    def __init__(
        self,
        loop: Loop,
        launcher: Launcher,
        listener: Listener,
        slots: int,
        on_lost: Callable[[str], None],
        room: Room | None = None,
        lender: Lender | None = None,
        first: int = 0,
    ) -> None:
        self._loop = loop
        self._launcher = launcher
        self._listener = listener
        self._wanted = 0
        self._first = first
        self._codes: dict[str, Buffer] = {}
        self._durations = Durations()
        self._tasks: dict[AttemptId, Task] = {}
        self._queue = Queue()
        self._room = Room() if room is None else room
        self._lender = lender
        self._batches = Batches(self._queue, self._durations, self._room, lender)
        self._room.watch(self._batches, self._wake)
        self._workers: dict[int, Worker] = {}  # by token
        self._tokens = itertools.count()
        self._fill_due = False
        self._waits = False  # whether slots that could not be started are tried again later
        self._warned = False
        self._closed = False
        workers = self._workers
        self._rounds = Rounds(
            loop, lambda: list(workers.values()), self._tell_text, self._tell_late, self._give_back, self._end_excess
        )
        launcher.watch(loop, self._died, on_lost)
        self.resize(slots)

    @property
    def pids(self) -> list[int]:
        """The slots' processes that are up."""
        return [worker.pid for worker in self._workers.values() if worker.pid is not None]

    def load(self, codes: Mapping[str, Buffer]) -> None:
        """Keep pickled code; each slot gets it once, before the first attempt that names it."""
        self._codes.update(codes)

    def unload(self, keys: Iterable[str]) -> None:
        """Forget code that is not needed any more."""
        gone = [key for key in keys if self._codes.pop(key, None) is not None]
        for worker in self._workers.values():
            worker.unload(gone)

    def run(self, attempt: Attempt, inputs: Sequence[Frames]) -> None:
        """Queue an attempt whose inputs, in the order of ``attempt.inputs``, are there."""
        task = self._tasks[attempt.id] = task_of(attempt, inputs)
        self._enqueue(task)

    def cancel(self, id: AttemptId, how: HowToEnd = "interrupt") -> None:
        """End an attempt: one that waits goes at once, one that runs is interrupted, and killed after a grace.

        A recall ends only what does not run yet.
        """
        task = self._tasks.get(id)
        if task is None:
            return
        if task.worker is None:
            self._forget(task)
            self._listener.cancelled(Cancelled(id))
        elif how == "recall":
            self._recall(task, task.worker)
        else:
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
        self._room.unwatch(self._batches)
        for worker in self._workers.values():
            worker.close()
        for task in self._tasks.values():
            task.disarm()
        self._workers.clear()
        self._tasks.clear()
        self._queue.clear()

    # -- handing out ---------------------------------------------------------

    def _enqueue(self, task: Task) -> None:
        task.worker = task.stop = None
        self._queue.push(task)
        self._wake()

    def _wake(self) -> None:
        # Once per turn of the loop: attempts that come together travel together.
        if not self._fill_due and not self._closed:
            self._fill_due = True
            self._loop.call_soon(self._fill)

    def _fill(self) -> None:
        self._fill_due = False
        if self._room.is_full():
            return  # it tells when it is not
        open_to_more = [worker for worker in self._workers.values() if not (worker.retiring or worker.killed)]
        for worker in sorted(open_to_more, key=lambda worker: bool(worker.tasks)):  # those with nothing to do first
            if batch := self._batches.take(worker, len(self._workers)):
                self._send(worker, batch)
        if self._lacks_slots():
            self._grow(1)

    def _lacks_slots(self) -> bool:
        """Whether something waits for a slot that is not there yet, and may be started now."""
        if self._present() >= self._wanted or self._queue.best(self._room.fits) is None:
            return False
        return sum(worker.pid is None for worker in self._workers.values()) < AHEAD

    def _send(self, worker: Worker, batch: list[Task]) -> None:
        idle = not worker.tasks
        for task in batch:
            self._tasks[task.attempt.id] = task
        worker.send(batch, self._codes)
        if idle:
            self._begin(worker)
        self._rounds.keep_going()

    def _is_up(self, worker: Worker) -> None:
        self._begin(worker)
        if len(self._workers) < self._wanted:
            self._wake()  # another may start now

    def _begin(self, worker: Worker) -> None:
        """The slot's first task runs now, if the slot is up; of one that is known to be brief that is told later."""
        task = worker.first
        if task is not None and worker.pid is not None:
            if not (task.brief and task.proven) and task.stop != "recall":  # else it may never begin
                self._announce(task, time.time())
            self._set_clock(task)

    def _set_clock(self, task: Task) -> None:
        timeout_s = task.attempt.timeout_s
        if timeout_s is not None and task.timer is None and task.stop is None:
            task.timer = self._loop.call_later(timeout_s, lambda: self._stop(task, "timeout"))

    def _announce(self, task: Task, started: float) -> None:
        if task.started is None:
            task.started = started
            assert task.worker is not None
            self._listener.started(Started(task.attempt.id, started, task.worker.index))

    def _tell_late(self, task: Task) -> None:
        """It runs long; those before it in its slot are done, though the slot may be unable to say so."""
        self._announce(task, time.time())
        assert task.worker is not None
        for other in task.worker.tasks.values():
            if other is task:
                break
            if other.stop is None:
                other.disarm()
        self._set_clock(task)

    def _tell_text(self, task: Task, text: str) -> None:
        self._listener.wrote(Wrote(task.attempt.id, text))

    # -- what comes back -----------------------------------------------------

    def _take_rows(self, worker: Worker, rows: list[list[Any]], frames: list[memoryview | Segment]) -> None:
        together: Successes | None = None
        at = 0
        for row in rows:
            number, started, ended, count = row if len(row) == BRIEF_ROW else row[:BRIEF_ROW]
            task = worker.tasks.pop(number, None)
            parts = frames[at : at + count]
            at += count
            worker.answered = number
            if task is None:
                continue  # it was taken back
            if len(rows) > 1 and len(row) == BRIEF_ROW and started and task.stop is None:
                attempt = task.attempt
                if together is None or together.run != attempt.id.run:
                    self._tell_together(together)
                    together = Successes(attempt.id.run, worker.index)
                self._forget(task)
                self._durations.add(attempt.codes[0], ended - started)
                together.add(attempt.id, started, ended, parts)
                continue
            self._tell_together(together)
            together = None
            self._take_row(worker, task, row, parts)
            if len(row) > BRIEF_ROW and row[SPOILT] and not worker.spoilt:
                worker.spoilt = worker.retiring = True
                self._grow()
        self._tell_together(together)
        if worker.tasks:
            self._go_on(worker)
        else:
            self._idle(worker)
        self._wake()

    def _tell_together(self, successes: Successes | None) -> None:
        if successes is not None:
            self._listener.finished_many(successes.event(), successes.ids, successes.values)

    def _take_row(self, worker: Worker, task: Task, row: list[Any], parts: list[memoryview | Segment]) -> None:
        outcome = read_outcome(row, worker.index)
        if not outcome.started:
            self._give_back(task)
            return
        self._announce(task, outcome.started)
        self._forget(task)
        if outcome.failure is None and task.stop != "timeout":
            self._durations.add(task.attempt.codes[0], outcome.ended - outcome.started)
            self._listener.finished(*finished(task, outcome, parts))
        else:
            self._end(ended(task, outcome))

    def _go_on(self, worker: Worker) -> None:
        task = worker.first
        assert task is not None
        if task.brief:
            self._set_clock(task)  # it is told that it started when it turns out long
        else:
            self._begin(worker)

    def _idle(self, worker: Worker) -> None:
        worker.taken_back = False
        self._batches.release(worker)
        self._retire(worker)

    def _end(self, event: Failed | Cancelled) -> None:
        if isinstance(event, Cancelled):
            self._listener.cancelled(event)
        else:
            self._listener.failed(event)

    def _give_back(self, task: Task) -> None:
        """Queue a task again that was sent but did not run."""
        task.disarm()
        if task.stop in ("cancel", "recall"):
            self._forget(task)
            self._listener.cancelled(Cancelled(task.attempt.id))
        elif task.is_fused and self._lender is not None:
            self._forget(task)
            self._lender.returned(task.attempt.id)
        else:
            self._enqueue(task)

    def _forget(self, task: Task) -> None:
        task.disarm()
        task.queued = False
        del self._tasks[task.attempt.id]

    # -- stopping ------------------------------------------------------------

    def _end_excess(self, task: Task, used: int) -> None:
        """End what uses too much memory, at once; in the kernel, whose namespace is worth a try, by an interrupt."""
        task.used = used
        self._stop(task, "memory")
        if task.attempt.runs_in == "process":
            self._kill(task)

    def _stop(self, task: Task, why: Literal["cancel", "timeout", "memory"]) -> None:
        if task.worker is not None and task.stop != "cancel":
            task.disarm()
            task.stop = why
            task.worker.interrupt(task)
            task.timer = self._loop.call_later(GRACE_S, lambda: self._kill(task))

    def _recall(self, task: Task, worker: Worker) -> None:
        if task.stop is None and task.started is None and task.number != worker.fence.current:
            task.stop = "recall"
            worker.skip(task)

    def _kill(self, task: Task) -> None:
        worker = task.worker
        if worker is None or task.number not in worker.tasks:
            return
        if worker.first is task or worker.fence.current == task.number:
            worker.kill()
        else:  # it waits behind another in the slot, where the interrupt meets it
            task.disarm()
            task.timer = self._loop.call_later(GRACE_S, lambda: self._kill(task))

    # -- slots ---------------------------------------------------------------

    def _grow(self, more: int = 0) -> None:
        """Have the slots that are to be ready, and so many more than there are."""
        if self._closed or self._waits:
            return
        taken = {worker.index for worker in self._workers.values()}
        present = self._present()
        missing = min(self._wanted, max(AHEAD, present + more)) - present
        free = (index for index in itertools.count(self._first) if index not in taken)
        for index in itertools.islice(free, max(0, missing)):
            token = next(self._tokens)
            try:
                worker = Worker(index, token, self._launcher.launch, self._loop, self._is_up, self._take_rows)
            except OSError as error:
                self._grow_later(error)
                break
            self._workers[token] = worker
        self._warned = self._warned and self._present() < self._wanted
        self._wake()

    def _grow_later(self, error: OSError) -> None:
        self._waits = True
        self._loop.call_later(RELAUNCH_S, self._grow_again)
        if not self._warned:
            self._warned = True
            told = "the node's process %d could start %d of its %d slots, and tries again: %s; %s"
            advice = "raise `ulimit -n` where the node is started, or have fewer slots"
            log.warning(told, os.getpid(), self._present(), self._wanted, error, advice)

    def _grow_again(self) -> None:
        self._waits = False
        self._grow()

    def _present(self) -> int:
        return sum(not worker.retiring for worker in self._workers.values())

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
        blamed, written = worker.blamed(), worker.log.read()
        tasks = list(worker.tasks.values())
        worker.tasks.clear()
        self._batches.release(worker)
        for task in tasks:
            if task is blamed:
                self._announce(task, time.time())
                self._forget(task)
                if worker.hung_up and status == -signal.SIGKILL:  # else it died by itself, and its end came first
                    status = CONNECTION_LOST
                failure = death_of(status, worker.pid is not None, written, worker.fence.sets_up)
                self._end(ended(task, Outcome(task.started, time.time(), worker.index, None, written, failure)))
            else:
                self._give_back(task)
        worker.close()
        if worker.pid is None:
            self._loop.call_later(RELAUNCH_S, self._grow)
        else:
            self._grow()
