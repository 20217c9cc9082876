"""A node's attempts: each waits here until its inputs are there, then goes to a slot or to the kernel.

A value that lies elsewhere is fetched once, however many wait for it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from handoff_lab.messages import (
    HERE,
    Attempt,
    AttemptId,
    BackendEvent,
    Cancelled,
    Failed,
    Failure,
    FailureKind,
    Finished,
    FinishedMany,
    HowToEnd,
    ResultLost,
    Source,
    Started,
    Transferred,
    Wrote,
)
from handoff_lab.node.failures import sendable
from handoff_lab.node.outcomes import homeless
from handoff_lab.node.task import Input
from handoff_lab.store.memory import MemoryStore
from handoff_lab.store.payload import Frames
from handoff_lab.transport.wire import INLINE_LIMIT

if TYPE_CHECKING:
    from handoff_lab.transport.peers import Peers


class Runner(Protocol):
    """What runs attempts whose inputs are there: the slots, or the kernel."""

    def run(self, attempt: Attempt, inputs: Sequence[Frames]) -> None: ...
    def cancel(self, id: AttemptId, how: HowToEnd) -> None: ...


@dataclass(slots=True)
class _Waiting:
    """An attempt and the number of its inputs that are not there."""

    attempt: Attempt
    missing: int = 0
    batch: Mapping[AttemptId, int] | None = None  # that is being put together
    promised: int = 0  # inputs that it makes, of those that are missing
    lent: bool = False  # it went out in a batch that makes what is missing
    lacks: str = ""  # why it can't run, found out while it was lent


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
        self._lent: dict[AttemptId, _Waiting] = {}
        self._running: dict[AttemptId, Runner] = {}  # given to a runner, lent ones too
        self._awaited: dict[AttemptId, list[_Waiting]] = {}  # by the value that is missing
        self._fetching: set[AttemptId] = set()
        self._held: list[Source] = []  # not fetched yet, for the store is full
        self._begun: set[AttemptId] = set()  # attempts that began and did not end since `is_urgent` was asked
        self._failing: deque[Failed] = deque()  # that lack an input; the first is being told

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs, and nothing will before more is said or sent."""
        return not self._running and not self._waiting

    @property
    def attempts(self) -> list[AttemptId]:
        """All that was taken in and has not ended."""
        return [*self._waiting, *self._running]

    @property
    def running(self) -> list[AttemptId]:
        """Those whose inputs are all here."""
        return [id for id in self._running if id not in self._lent]

    def is_urgent(self) -> bool:
        """Whether what was told should not wait for more.

        So it is when nothing runs, and, said once, when something began that may run long: if the node is lost, its
        start and the results that it needed must be known.
        """
        begun, self._begun = self._begun, set()
        return bool(begun) or self.is_idle

    def submit(self, attempts: Iterable[Attempt]) -> None:
        """Take attempts in; one that is known already is not run twice."""
        for attempt in attempts:
            id = attempt.id
            if id in self._running or id in self._waiting or self._store.knows(id):
                continue
            if attempt.inputs:
                self._take_in(attempt)
            else:
                self._run(attempt, ())

    def cancel(self, id: AttemptId, how: HowToEnd) -> None:
        """End an attempt; one that ended already stays as it is."""
        if self._waiting.pop(id, None) is not None:
            self.cancelled(Cancelled(id))
        elif id in self._running:
            self._running[id].cancel(id, how)

    def free(self, keys: Sequence[AttemptId]) -> None:
        """Forget these values; attempts that wait for one of them fail."""
        for key in self._awaited.keys() & keys if self._awaited else ():
            self._give_up(key)
        self._store.free(keys)  # last: where that makes room, what is awaited still is fetched

    def forget(self, run: str) -> None:
        """Forget all values of a run."""
        for key in [key for key in self._awaited if key.run == run]:
            self._give_up(key)
        self._store.forget(run)

    # -- inputs --------------------------------------------------------------

    def _take_in(self, attempt: Attempt) -> None:
        waiting = self._waiting[attempt.id] = _Waiting(attempt)
        awaited = self._awaited
        for source in attempt.inputs:
            key = source.key
            if source.inline is not None:
                self._keep(key, Frames(source.inline))
            if (others := awaited.get(key)) is not None:
                waiting.missing += 1
                others.append(waiting)
            elif key not in self._store:
                waiting.missing += 1
                awaited[key] = [waiting]
                if self._store.knows(key):
                    self._give_up(key)  # it was freed
                elif source.node != self._name:
                    self._fetch(source)
        if not waiting.missing:
            self._start(waiting)

    def fetch_more(self) -> None:
        """There is room again for what was not fetched because the store was full."""
        held, self._held = self._held, []
        for source in held:
            self._fetch(source)

    def _fetch(self, source: Source) -> None:
        key, node = source.key, source.node
        if self._store.is_full:
            self._held.append(source)
            return
        if key in self._awaited and key not in self._fetching:
            self._fetching.add(key)
            started = time.time()
            self._peers.read(node, key, lambda value: self._fetched(key, node, started, value))

    def _fetched(self, key: AttemptId, node: str, started: float, value: Frames | str) -> None:
        self._fetching.discard(key)
        if isinstance(value, str):
            if node != HERE:  # what the coordinator's process holds is not lost, and cannot be made again
                self._tell(ResultLost(key, node))
            self._give_up(key, value)
            return
        if value.nbytes > INLINE_LIMIT and (reason := self._store.refusal(value)):
            self._give_up(key, reason)
            return
        self._keep(key, value)
        self._tell(Transferred(key, node, self._name, value.nbytes, started, time.time()))

    def _keep(self, key: AttemptId, value: Frames) -> None:
        self._store.put(key, value)
        self._came(key)

    def _give_up(self, key: AttemptId, reason: str = "it was not made, or is not there any more") -> None:
        self._store.give_up(key)
        message = f"an input (made by {key}) could not be had: {reason}"
        for waiting in self._awaited.pop(key, ()):
            self._lack(waiting, message)

    def _came(self, key: AttemptId) -> None:
        for waiting in self._awaited.pop(key, ()):
            waiting.missing -= 1
            if not waiting.missing and not waiting.lent:
                self._start(waiting)

    def _start(self, waiting: _Waiting) -> None:
        attempt = waiting.attempt
        if self._waiting.pop(attempt.id, None) is None:
            return  # it was cancelled
        inputs = [self._store.get(source.key) for source in attempt.inputs]
        if None in inputs:
            missing = Failure(FailureKind.INPUT, "an input was freed before the attempt could start")
            self.failed(Failed(attempt.id, missing))
        else:
            self._run(attempt, [value for value in inputs if value is not None])

    def _run(self, attempt: Attempt, inputs: Sequence[Frames]) -> None:
        runner = self._running[attempt.id] = self._runner(attempt)
        runner.run(attempt, inputs)

    def _lack(self, waiting: _Waiting, message: str) -> None:
        id = waiting.attempt.id
        if waiting.lent:
            waiting.lacks = message
        elif self._waiting.pop(id, None) is not None:
            self._fail_in_turn(Failed(id, Failure(FailureKind.INPUT, message)))

    def _fail_in_turn(self, event: Failed) -> None:
        """Tell this failure, and then those that it leads to: a chain of them is longer than Python's stack."""
        self._failing.append(event)
        if len(self._failing) > 1:
            return
        while self._failing:
            self.failed(self._failing[0])
            self._failing.popleft()

    # -- what goes along with those that make its inputs ------------------------

    def followers(self, id: AttemptId, made: Mapping[AttemptId, int], most: int) -> list[tuple[Attempt, list[Input]]]:
        """Attempts that wait for this result, and for no other but those that were asked about with this ``made``.

        ``made`` has the numbers of a batch's tasks, by id; each of them is to be asked about once.
        """
        found: list[tuple[Attempt, list[Input]]] = []
        for waiting in self._awaited.get(id, ()):
            if waiting.batch is not made:
                waiting.batch, waiting.promised = made, 0
            waiting.promised += 1
            if waiting.promised < waiting.missing or waiting.attempt.id not in self._waiting:
                continue
            if len(found) == most:
                break
            values = [made.get(source.key) or self._store.get(source.key) for source in waiting.attempt.inputs]
            if None not in values:  # else one was freed, as the attempt itself will find
                found.append((waiting.attempt, [value for value in values if value is not None]))
        return found

    def lend(self, id: AttemptId) -> None:
        """Let an attempt go along: whoever has it runs it, or gives it back."""
        waiting = self._lent[id] = self._waiting.pop(id)
        waiting.lent = True
        self._running[id] = self._runner(waiting.attempt)

    def returned(self, id: AttemptId) -> None:
        """An attempt that was lent did not run."""
        waiting = self._waiting[id] = self._lent.pop(id)
        waiting.lent = False
        del self._running[id]
        if waiting.lacks:
            self._lack(waiting, waiting.lacks)
        elif not waiting.missing:
            self._start(waiting)

    # -- what those who run attempts say ---------------------------------------

    def started(self, event: Started) -> None:
        """An attempt began."""
        self._begun.add(event.id)
        self._tell(event)

    def finished(self, event: Finished, value: Frames) -> None:
        """An attempt made its result."""
        if self._store.is_stuck and event.inline is None and (reason := self._store.refusal(value)):
            self.failed(homeless(event, reason))
            return
        self._forget(event.id)
        self._keep(event.id, value)
        self._tell(event)

    def finished_many(self, event: FinishedMany, ids: Sequence[AttemptId], values: Sequence[Frames]) -> None:
        """Brief attempts of one run made their results."""
        if self._store.is_stuck:
            for one, value in zip(event.each(), values, strict=True):
                self.finished(one, value)
            return
        running, lent, awaited = self._running, self._lent, self._awaited
        for id in ids:
            del running[id]
            if lent:
                lent.pop(id, None)
        if self._begun:
            self._begun.difference_update(ids)
        self._store.put_many(ids, values, event.nbytes)
        for id in ids if awaited else ():
            if id in awaited:
                self._came(id)
        self._tell(event)

    def failed(self, event: Failed) -> None:
        """An attempt failed."""
        self._forget(event.id)
        self.free([event.id])  # so that nobody waits for it
        self._tell(replace(event, failure=sendable(event.failure)))

    def cancelled(self, event: Cancelled) -> None:
        """An attempt was ended."""
        self._forget(event.id)
        self.free([event.id])  # so that nobody waits for it
        self._tell(event)

    def _forget(self, id: AttemptId) -> None:
        self._begun.discard(id)
        self._running.pop(id, None)
        self._lent.pop(id, None)

    def wrote(self, event: Wrote) -> None:
        """A running attempt wrote something."""
        self._tell(event)
