"""Sends batches to Dask as its tasks, takes back what can't run, and hears what becomes of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from functools import partial
from typing import Any

import msgpack  # type: ignore[import-untyped]

from handoff_lab.backends.base import Code
from handoff_lab.backends.dask import remote
from handoff_lab.backends.dask.batches import LONG_S, Batch, Cutter, DaskNode, Job, write
from handoff_lab.backends.dask.inputs import Inputs
from handoff_lab.backends.dask.link import Link
from handoff_lab.backends.dask.outcomes import Outcomes, Teller
from handoff_lab.backends.dask.values import Values
from handoff_lab.messages import (
    AttemptId,
    Cancelled,
    Failed,
    Failure,
    FailureKind,
    HowToEnd,
    Wrote,
)

_UNSTOPPABLE = "It was cancelled, but Dask can't interrupt a function: it runs to its end.\n"
_NOTHING_TOLD = "its worker told nothing of it"


class Tasks:
    """The batches that are on their way."""

    def __init__(
        self,
        link: Link,
        topic: str,
        jobs: MutableMapping[AttemptId, Job],
        codes: Mapping[str, Code],
        values: Values,
        inputs: Inputs,
        teller: Teller,
    ) -> None:
        self._link = link
        self._topic = topic
        self._jobs = jobs
        self._codes = codes
        self._values = values
        self._inputs = inputs
        self._teller = teller
        self._cutter = Cutter(jobs, inputs.followers)
        self._outcomes = Outcomes(jobs, values, teller, self._cutter.learn, self._not_run)
        self._batches: dict[str, Batch] = {}
        self._touched: dict[DaskNode, None] = {}
        self._looking = False
        self._age = 0  # how often code was forgotten
        link.listen(topic, self._heard)

    def close(self) -> None:
        """Hear no more."""
        self._batches.clear()

    def forget(self, keys: set[str], nodes: Iterable[DaskNode]) -> None:
        """These functions run no more: forget their code, on these nodes too."""
        self._age += 1
        self._cutter.forget(keys)
        for batch in self._batches.values():
            batch.codes -= keys
        for node in nodes:
            if known := keys & node.codes:
                node.codes -= known
                question = self._link.calling(
                    remote.unload, self._topic, sorted(known), self._age, workers=[node.address]
                )
                self._link.ask(question)

    # -- sending ---------------------------------------------------------------

    def touch(self, node: DaskNode) -> None:
        """Something may start on the node."""
        self._touched[node] = None

    def fill(self) -> None:
        """Start what there is room for."""
        while self._touched:
            node, _ = self._touched.popitem()
            while not node.left and (batch := self._cutter.cut(node)) is not None:
                self._send(batch)

    def _send(self, batch: Batch) -> None:
        self._batches[batch.name] = batch
        batch.sent = time.time()
        if not self._has_inputs(batch):  # some were lost while it waited for room
            self._return(batch)
            return
        try:
            message, futures = write(batch, self._topic, self._codes, self._age, self._values.ready)
        except Exception as error:
            self._fail(batch, f"it could not be sent: {error!r}", FailureKind.CODE)
            return
        batch.stream = self._link.stream
        try:
            batch.future = self._link.submit(
                remote.run_batch,
                message,
                futures,
                key=batch.name,
                worker=batch.node.address,
                on_end=partial(self._ended, batch),
            )
        except Exception as error:
            self._fail(batch, f"it could not be sent to Dask: {error!r}", FailureKind.DIED)
            return
        if batch.brief or batch.before is not None:
            self._look_later()

    def _has_inputs(self, batch: Batch) -> bool:
        made = {job.id for job in batch.jobs.values()}
        needed = {source.key for job in batch.jobs.values() for source in job.task.attempt.inputs}
        return all(self._values.ready(key) is not None for key in needed - made)

    def _look_later(self) -> None:
        if not self._looking:
            self._looking = True
            self._link.loop.call_later(LONG_S, self._look)

    def _look(self) -> None:
        """Take apart the batches in which a function runs longer than was thought."""
        self._looking = False
        now = time.monotonic()
        for batch in list(self._batches.values()):
            if (batch.brief and not batch.long) or batch.before is not None:
                self._look_later()
            if batch.heard is not None and not batch.long and now - batch.heard > self._cutter.patience(batch):
                self._runs_long(batch)

    def _runs_long(self, batch: Batch) -> None:
        batch.long = True
        for behind in batch.node.batches[batch.slot][1:]:
            self._take_back(behind, list(behind.jobs))
        if batch.brief:
            self._take_back(batch, list(batch.jobs)[1:], partial(self._tell_running, batch))

    def _tell_running(self, batch: Batch) -> None:
        """The last one of a batch that was taken apart runs; what ran before it may be told later than this."""
        if batch.long and len(batch.jobs) == 1:
            self._outcomes.start(batch.first, time.time())

    # -- taking back -------------------------------------------------------------

    def cancel(self, job: Job, how: HowToEnd) -> None:
        """End an attempt that was sent, unless it began."""
        if job.told and how == "recall":
            return
        job.cancelled = True
        assert job.batch is not None

        def unless_it_runs() -> None:
            if how != "recall" and job.batch is not None and job.id in self._jobs:
                self._teller.tell(Wrote(job.id, _UNSTOPPABLE))

        self._take_back(job.batch, [job.place], unless_it_runs)

    def revoke(self, node: str) -> None:
        """Take back what can't begin any more, because of inputs that lay on this node."""
        for batch in list(self._batches.values()):
            needs = batch.needs if batch.before is None else batch.needs | batch.before.needs
            if node in needs and batch.heard is None:
                self._take_back(batch, list(batch.jobs))

    def _take_back(self, batch: Batch, places: list[int], then: Callable[[], None] = lambda: None) -> None:
        address = batch.node.address

        def answered(answers: Any) -> None:
            if self._batches.get(batch.name) is not batch:
                return
            answer = answers.get(address) if isinstance(answers, dict) else answers
            for place in answer if isinstance(answer, list) else ():
                if (job := batch.jobs.pop(place, None)) is not None:
                    self._not_run(job)
            then()
            self._close_if_done(batch)
            self._teller.settle()

        self._link.ask(
            self._link.calling(remote.take_back, self._topic, batch.name, places, workers=[address]), answered
        )

    def _return(self, batch: Batch) -> None:
        """Nothing of it runs."""
        for place in list(batch.jobs):
            self._not_run(batch.jobs.pop(place))
        self._close_if_done(batch)

    def _not_run(self, job: Job) -> None:
        """An attempt that was in a batch did not begin: it is cancelled, or waits again."""
        job.batch = None
        if job.cancelled:
            self._teller.end(job, Cancelled(job.id))
        else:
            self._inputs.returned(job)

    # -- hearing -----------------------------------------------------------------

    def lose(self, node: DaskNode, *, died: bool) -> list[Job]:
        """A node is gone; what may have been at work there, of which what was heard of counts as begun.

        The rest may have been sent to a worker that was dead already.
        """
        at_work: list[Job] = []
        for running, *behind in node.batches.values():
            if died and running.heard is not None:
                self._outcomes.start(running.first, time.time())
            at_work += running.jobs.values()
            for batch in (running, *behind):
                del self._batches[batch.name]
                batch.release()
        node.left = True
        return at_work

    def _heard(self, message: Any) -> None:
        name, kind, *rest = msgpack.unpackb(message, strict_map_key=False)
        batch = self._batches.get(name)
        if batch is None:
            return  # its node was given up, or all of it was taken back
        if batch.heard is None:
            batch.node.codes |= batch.codes
        batch.heard = time.monotonic()
        if kind == "rows":
            self._outcomes.take(batch, rest[0])
            self._tell_running(batch)
            self._close_if_done(batch)
        elif (job := batch.jobs.get(rest[0])) is not None:
            if kind == "wrote":
                self._teller.tell(Wrote(job.id, rest[1]))
            else:
                self._outcomes.began(batch, job, rest[1])
        self._teller.settle()

    def _ended(self, batch: Batch, future: Any) -> None:
        """A Dask task has ended; what its worker told of it has arrived by now."""
        if self._batches.get(batch.name) is not batch or self._link.was_cut(batch.stream):
            return  # with a connection all its nodes are lost, which is told of each
        for behind in [other for other in batch.node.batches[batch.slot] if other.before is batch]:
            self._return(behind)  # without this one it can't run
        story = future.exception() if future.status == "error" else _NOTHING_TOLD
        self._fail(batch, f"its Dask task ended as {future.status!r}: {story}", FailureKind.DIED)
        self._teller.settle()

    def _fail(self, batch: Batch, message: str, kind: FailureKind) -> None:
        jobs, batch.jobs = batch.jobs, {}
        for job in jobs.values():
            self._teller.end(job, Failed(job.id, Failure(kind, message, retryable=kind is FailureKind.DIED)))
        self._close_if_done(batch)

    def _close_if_done(self, batch: Batch) -> None:
        if not batch.jobs and self._batches.pop(batch.name, None) is not None:
            node = batch.node
            node.batches[batch.slot].remove(batch)
            if not node.batches[batch.slot]:
                del node.batches[batch.slot]
                node.room.give_back(batch.claim)
            self.touch(node)
            batch.release()
