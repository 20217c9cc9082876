"""Looks at what runs in the slots, for as long as something does.

What it writes, whether it holds others up, and whether it uses more memory than it may.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from handoff_lab.node.memory import claimed_by, limit_of
from handoff_lab.node.task import Task
from handoff_lab.node.worker import Worker

if TYPE_CHECKING:
    from handoff_lab.transport.loop import Loop

LOG_S = 0.2  # between looks at logs
MEMORY_S = 0.05  # between looks at what functions use that claim memory; a gigabyte takes longer to fill
BATCH_S = 0.01  # between looks at batches; a function that runs longer is no company for one
SETTLE_S = 0.001  # until marks in shared memory are surely seen by the slot


class Rounds:
    """Makes the rounds.

    Parameters
    ----------
    workers
        The slots of now.
    on_text
        Gets what a running task wrote since the last look.
    on_long
        Gets a task that was expected to be brief and still runs.
    on_taken_back
        Gets a task that was sent in a batch and will not run there, because one before it runs long.
    on_excess
        Gets a running task that uses more memory than it may, and the bytes that it uses.
    """

    def __init__(
        self,
        loop: Loop,
        workers: Callable[[], Iterable[Worker]],
        on_text: Callable[[Task, str], None],
        on_long: Callable[[Task], None],
        on_taken_back: Callable[[Task], None],
        on_excess: Callable[[Task, int], None],
    ) -> None:
        self._loop = loop
        self._workers = workers
        self._on_text = on_text
        self._on_long = on_long
        self._on_taken_back = on_taken_back
        self._on_excess = on_excess
        self._going: set[float] = set()  # periods, in seconds, of the rounds that go on

    def keep_going(self) -> None:
        """Something was sent to a slot: look after it."""
        self._go(LOG_S, self._look_at_logs)
        if any(worker.brief and worker.tasks for worker in self._workers()):
            self._go(BATCH_S, self._look_at_batches)
        if any(worker.claims_memory and worker.tasks for worker in self._workers()):
            self._go(MEMORY_S, self._look_at_memory)

    def _go(self, period_s: float, look: Callable[[], bool]) -> None:
        """Look every ``period_s`` for as long as ``look`` finds it worth while."""
        if period_s in self._going:
            return
        self._going.add(period_s)

        def again() -> None:
            self._going.discard(period_s)
            if look():
                self._go(period_s, look)

        self._loop.call_later(period_s, again)

    def _look_at_logs(self) -> bool:
        busy = [worker for worker in self._workers() if worker.tasks]
        for worker in busy:
            task = worker.first
            if task is not None and task.number == worker.fence.current:
                text = worker.log.news(task.number)
                if text and task.number == worker.fence.current:  # else it may be that of the next
                    self._on_text(task, text)
        return bool(busy)

    def _look_at_memory(self) -> bool:
        busy = [worker for worker in self._workers() if worker.claims_memory and worker.tasks]
        for worker in busy:
            task = worker.tasks.get(worker.fence.current)
            if task is not None and task.stop is None and (claimed := claimed_by(task.attempt)):
                used = worker.used_by(task)
                if used > limit_of(claimed):
                    self._on_excess(task, used)
        return bool(busy)

    def _look_at_batches(self) -> bool:
        busy = [worker for worker in self._workers() if worker.brief and worker.tasks]
        for worker in busy:
            current = worker.fence.current
            if current and current == worker.seen_running:
                self._runs_long(worker, current)
            worker.seen_running = current
        return bool(busy)

    def _runs_long(self, worker: Worker, current: int) -> None:
        task = worker.tasks.get(current)
        if task is not None:
            self._on_long(task)
        if len(worker.tasks) > 1:  # again and again: a nudge between two functions goes unheard
            self._break_up(worker, current)

    def _break_up(self, worker: Worker, current: int) -> None:
        """Get out of a slot what was done before the function that runs long, and what waits behind it."""
        worker.nudge()
        worker.take_back()

        def settle() -> None:
            # If it still runs the same, the slot will skip what was marked; else it tells what it skipped.
            if not worker.closed and worker.fence.current == current:
                for task in list(worker.waiting()):
                    del worker.tasks[task.number]
                    self._on_taken_back(task)

        self._loop.call_later(SETTLE_S, settle)
