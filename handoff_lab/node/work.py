"""A node's attempts: each waits here until its inputs are there, then goes to a slot or to the kernel.

A value that lies elsewhere is fetched once, however many wait for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, Protocol

from handoff_lab.messages import (
    Attempt,
    AttemptId,
    BackendEvent,
    Cancelled,
    Failed,
    Failure,
    FailureKind,
    Finished,
    ResultLost,
    Source,
    Started,
    Transferred,
    Wrote,
)
from handoff_lab.store.memory import MemoryStore
from handoff_lab.store.payload import Frames, join
from handoff_lab.transport.peers import Peers
from handoff_lab.transport.wire import INLINE_LIMIT, TEXT_LIMIT


class Runner(Protocol):
    """What runs attempts whose inputs are there: the slots, or the kernel."""

    def run(self, attempt: Attempt, inputs: Sequence[Frames]) -> None: ...
    def cancel(self, id: AttemptId, how: Literal["interrupt", "kill"]) -> None: ...


@dataclass(slots=True)
class _Waiting:
    attempt: Attempt
    missing: int


class Work:
    """Takes attempts in, listens to those who run them, and tells what happened."""

    def __init__(
        self, name: str, store: MemoryStore[Frames], peers: Peers, runner: Callable[[Attempt], Runner],
        tell: Callable[[BackendEvent], None],
    ) -> None:  # fmt: skip
        self._name = name
        self._store = store
        self._peers = peers
        self._runner = runner
        self._tell = tell
        self._waiting: dict[AttemptId, _Waiting] = {}
        self._running: dict[AttemptId, Runner] = {}
        self._fetching: set[AttemptId] = set()
        self._reasons: dict[AttemptId, str] = {}  # why a value could not be fetched

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs."""
        return not self._running

    def submit(self, attempts: Iterable[Attempt]) -> None:
        """Take attempts in; one that is known already is not run twice."""
        for attempt in attempts:
            id = attempt.id
            if id not in self._running and id not in self._waiting and not self._store.knows(id):
                self._take_in(attempt)

    def cancel(self, id: AttemptId, how: Literal["interrupt", "kill"]) -> None:
        """End an attempt; one that ended already stays as it is."""
        if self._waiting.pop(id, None) is not None:
            self.cancelled(Cancelled(id))
        elif id in self._running:
            self._running[id].cancel(id, how)

    # -- inputs --------------------------------------------------------------

    def _take_in(self, attempt: Attempt) -> None:
        waiting = _Waiting(attempt, len(attempt.inputs) + 1)
        self._waiting[attempt.id] = waiting
        for source in attempt.inputs:
            self._store.want(source.key, partial(self._came, waiting, source))  # first: fetching may fail at once
            self._bring(source)
        self._count_down(waiting)

    def _bring(self, source: Source) -> None:
        """See to it that a value comes into this node's store."""
        if source.key in self._store or source.key in self._fetching:
            return
        if source.inline is not None:
            self._store.put(source.key, Frames(source.inline))
        elif source.node != self._name:
            self._fetching.add(source.key)
            started = time.time()
            self._peers.read(source.node, source.key, lambda value: self._fetched(source, started, value))

    def _fetched(self, source: Source, started: float, value: Frames | str) -> None:
        key = source.key
        self._fetching.discard(key)
        if isinstance(value, str):
            self._tell(ResultLost(key, source.node))
            self._reasons[key] = value
            self._store.give_up(key)
            del self._reasons[key]
            return
        self._store.put(key, value)
        self._tell(Transferred(key, source.node, self._name, value.nbytes, started, time.time()))

    def _came(self, waiting: _Waiting, source: Source, value: Frames | None) -> None:
        if value is not None:
            self._count_down(waiting)
        elif self._waiting.pop(waiting.attempt.id, None) is not None:
            reason = self._reasons.get(source.key, "it was not made, or is not there any more")
            message = f"an input (made by {source.key}) could not be had: {reason}"
            self.failed(Failed(waiting.attempt.id, Failure(FailureKind.INPUT, message)))

    def _count_down(self, waiting: _Waiting) -> None:
        waiting.missing -= 1
        attempt = waiting.attempt
        if waiting.missing or self._waiting.pop(attempt.id, None) is None:
            return  # something is still to come, or the attempt was cancelled
        inputs = [self._store.get(source.key) for source in attempt.inputs]
        if None in inputs:
            missing = Failure(FailureKind.INPUT, "an input was freed before the attempt could start")
            self.failed(Failed(attempt.id, missing))
            return
        runner = self._running[attempt.id] = self._runner(attempt)
        runner.run(attempt, [value for value in inputs if value is not None])

    # -- what those who run attempts say ---------------------------------------

    def started(self, event: Started) -> None:
        """An attempt began."""
        self._tell(event)

    def finished(self, event: Finished, value: Frames) -> None:
        """An attempt made its result."""
        self._running.pop(event.id, None)
        if event.nbytes <= INLINE_LIMIT:
            small = join(value.buffers)  # a copy: what arrived may be a view of much more
            event, value = replace(event, inline=small), Frames(small)
        self._store.put(event.id, value)
        self._tell(event)

    def failed(self, event: Failed) -> None:
        """An attempt failed."""
        self._running.pop(event.id, None)
        self._store.free([event.id])  # so that nobody waits for it
        self._tell(replace(event, failure=_clipped(event.failure)))

    def cancelled(self, event: Cancelled) -> None:
        """An attempt was ended."""
        self._running.pop(event.id, None)
        self._store.free([event.id])  # so that nobody waits for it
        self._tell(event)

    def wrote(self, event: Wrote) -> None:
        """A running attempt wrote something."""
        self._tell(event)


def _clipped(failure: Failure) -> Failure:
    """The failure with texts that fit into a message."""
    if max(len(failure.message), len(failure.type_name), len(failure.traceback)) <= TEXT_LIMIT:
        return failure
    message, type_name = failure.message[:TEXT_LIMIT], failure.type_name[:TEXT_LIMIT]
    return replace(failure, message=message, type_name=type_name, traceback=failure.traceback[-TEXT_LIMIT:])
