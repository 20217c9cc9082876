"""Makes events of what workers tell of their batches."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from operator import attrgetter
from typing import Protocol

from handoff_lab.backends.dask.batches import Batch, Job
from handoff_lab.backends.dask.remote import Row
from handoff_lab.backends.dask.values import Far, Values
from handoff_lab.messages import (
    AttemptId,
    BackendEvent,
    Cancelled,
    Failed,
    Failure,
    FailureKind,
    Finished,
    FinishedMany,
    Started,
    Transferred,
)
from handoff_lab.store.payload import Frames

_FIELDS = attrgetter("started", "ended", "nbytes", "inline", "slot", "peak_memory", "log")


class Teller(Protocol):
    """Gets the events, and has attempts end."""

    columns: bool

    def tell(self, event: BackendEvent) -> None: ...
    def end(self, job: Job, event: Failed | Cancelled) -> None: ...
    def settle(self) -> None: ...


class Outcomes:
    """Tells what began and ended, and keeps the results.

    Parameters
    ----------
    learn
        Gets each attempt that made a result, with its seconds and bytes.
    not_run
        Gets those that were in a batch and did not begin.
    """

    def __init__(
        self,
        jobs: MutableMapping[AttemptId, Job],
        values: Values,
        teller: Teller,
        learn: Callable[[Job, float, int], None],
        not_run: Callable[[Job], None],
    ) -> None:
        self._jobs = jobs
        self._values = values
        self._teller = teller
        self._learn = learn
        self._not_run = not_run

    def began(self, batch: Batch, job: Job, moment: float) -> None:
        """A worker began with a batch, or with the only one in it."""
        self._tell_copies(batch, moment)
        if not batch.brief:
            self.start(job, moment)

    def start(self, job: Job, moment: float) -> None:
        """An attempt began, if that was not told yet."""
        if not job.told:
            job.told = True
            assert job.batch is not None
            self._teller.tell(Started(job.id, moment, job.batch.slot))

    def take(self, batch: Batch, rows: list[Row]) -> None:
        """Attempts have ended, or were found not to run."""
        finished: list[tuple[Finished, Frames | Far]] = []
        for row in rows:
            job = batch.jobs.pop(row[0], None)
            if job is None:
                continue  # it was taken back
            if len(row) == 1:
                self._not_run(job)
                continue
            place, started, ended, nbytes, inline, text, failure = row
            self._tell_copies(batch, started)
            if failure is not None:
                self.start(job, started)
                story = Failure(FailureKind(failure[0]), *failure[1:])
                self._teller.end(job, Failed(job.id, story, started, ended, batch.slot, log=text))
                continue
            self._learn(job, ended - started, nbytes)
            small = None if inline is None else tuple(inline)
            batch.kept |= small is None
            value = Far(batch.future, place, batch.node.info.name, nbytes) if small is None else Frames(small)
            finished.append((Finished(job.id, started, ended, nbytes, small, batch.slot, None, text), value))
        self._tell_finished(finished)

    def _tell_finished(self, finished: list[tuple[Finished, Frames | Far]]) -> None:
        together = self._teller.columns and len(finished) > 1
        if together:
            self._teller.tell(_in_columns([event for event, _ in finished]))
        for event, value in finished:
            job = self._jobs[event.id]
            if not together:
                self.start(job, event.started)
                self._teller.tell(event)
            del self._jobs[event.id]
            self._values.put(event.id, value)

    def _tell_copies(self, batch: Batch, moment: float) -> None:
        copied, batch.copied = batch.copied, []
        target = batch.node.info.name
        for key, far in copied:
            self._teller.tell(Transferred(key, far.node, target, far.nbytes, batch.sent, max(batch.sent, moment)))


def _in_columns(events: Sequence[Finished]) -> FinishedMany:
    """Attempts of one batch, and so of one run."""
    columns = zip(*[(*event.id[1:], *_FIELDS(event)) for event in events], strict=True)
    return FinishedMany(events[0].id.run, *map(list, columns))
