"""Attempts that wait for their inputs, and what becomes of them when an input will not come."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from handoff_lab.backends.dask.batches import Job
from handoff_lab.backends.dask.values import Value, Values
from handoff_lab.messages import AttemptId
from handoff_lab.store.payload import Frames

Lacking = Callable[[Job, AttemptId], None]


class Inputs:
    """Counts what each attempt waits for.

    Parameters
    ----------
    values
        All values.
    on_ready
        Gets an attempt whose inputs are all there.
    on_lacking
        Gets an attempt, and the input that will not come.
    """

    def __init__(self, values: Values, on_ready: Callable[[Job], None], on_lacking: Lacking) -> None:
        self._values = values
        self._on_ready = on_ready
        self._on_lacking = on_lacking
        self._awaited: dict[AttemptId, list[Job]] = {}  # by the value that is missing

    def take_in(self, job: Job) -> None:
        """Let an attempt wait for its inputs."""
        job.missing = 1 + len(job.task.attempt.inputs)
        for source in job.task.attempt.inputs:
            key = source.key
            if source.inline is not None:
                self._values.put(key, Frames(source.inline))
            if key in self._awaited:
                self._awaited[key].append(job)
            else:
                self._awaited[key] = [job]
                self._values.want(key, partial(self._came, key))
        self._count_down(job)

    def drop(self, job: Job) -> None:
        """An attempt waits no more."""
        job.missing = -1

    def followers(self, job: Job, made: Mapping[AttemptId, int]) -> list[Job]:
        """Attempts on the same node that wait for this result, and for nothing but results of ``made``."""
        return [
            waiting
            for waiting in self._awaited.get(job.id, ())
            if 0 < waiting.missing <= len(made)  # else it is not worth a look at all its inputs
            and waiting.batch is None
            and waiting.node is job.node
            and waiting.id not in made
            and sum(source.key in made for source in waiting.task.attempt.inputs) == waiting.missing
        ]

    def returned(self, job: Job) -> None:
        """An attempt that was in a batch did not run."""
        if job.lacks is not None:
            self._on_lacking(job, job.lacks)
        elif not job.missing:
            self._check(job)

    def _came(self, key: AttemptId, value: Value | None) -> None:
        for job in self._awaited.pop(key, ()):
            if job.missing <= 0:
                continue  # it ended, or lacks another
            if value is not None:
                self._count_down(job)
            elif job.batch is not None:
                job.lacks = key
            else:
                self._on_lacking(job, key)

    def _count_down(self, job: Job) -> None:
        job.missing -= 1
        if not job.missing and job.batch is None:
            self._check(job)

    def _check(self, job: Job) -> None:
        """All inputs were there: see that they are, and that each can be given to a batch."""
        node = job.node
        for source in job.task.attempt.inputs:
            key = source.key
            if key not in self._values:
                self._on_lacking(job, key)
                return
            if self._values.place(key, node.info.name, node.address, partial(self._placed, job, key)):
                return
        self._on_ready(job)

    def _placed(self, job: Job, key: AttemptId, well: bool) -> None:
        if job.missing == 0 and job.batch is None:
            if well:
                self._check(job)
            else:
                self._on_lacking(job, key)
