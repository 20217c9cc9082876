"""The agent's side of one slot: its descriptors, what it was sent, what is on its way."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from handoff_lab.node.channel import Channel, Message, close_fds, pair
from handoff_lab.node.fence import Fence, Mark
from handoff_lab.node.lifeline import has_ended
from handoff_lab.node.memory import Footprint, claimed_by
from handoff_lab.node.output import LogFile
from handoff_lab.node.task import Claim, Task
from handoff_lab.store.segments import Buffer, Part, Segment

if TYPE_CHECKING:
    from handoff_lab.messages import Attempt
    from handoff_lab.transport.loop import Loop

SPARE = 32  # descriptors that a new slot leaves to those that are starting, to connections and to values
HANG_UP_S = 0.1  # for a process whose connection ended to end as well
OnRows: TypeAlias = "Callable[[Worker, list[list[Any]], list[memoryview | Segment]], None]"


class Worker:
    """One slot as the pool sees it.

    Parameters
    ----------
    index
        The slot's number within its node; a process that replaces a dead one has the same.
    token
        The launch's number, which no other process ever has.
    on_up
        Called when the process is there.
    on_rows
        Gets outcomes; see ``slot`` for the rows.

    Raises
    ------
    OSError
        When it can't be started, as where too few descriptors are left; nothing stays open then.
    """

    def __init__(
        self,
        index: int,
        token: int,
        launch: Callable[[int, Sequence[int]], None],
        loop: Loop,
        on_up: Callable[[Worker], None],
        on_rows: OnRows,
    ) -> None:
        self.index = index
        self.token = token
        self.tasks: dict[int, Task] = {}  # on their way, by number, in order
        self.claim: Claim = None  # held for all of them
        self.brief = False  # whether all of them are expected to be
        self.claims_memory = False  # whether any of them does
        self.pid: int | None = None
        self.retiring = False
        self.spoilt = False  # it retires for good: an interrupt left it with half an import
        self.killed = False  # by us, for one of its tasks
        self.hung_up = False  # whether it closed its connection and went on
        self.closed = False
        self.taken_back = False  # whether tasks that wait in the slot were asked back
        self.seen_running = 0  # the number that ran at the last look
        self.answered = 0  # the latest number of which it told
        self._latest = 0  # the latest number
        self._known: set[str] = set()  # keys of code that it has
        self._handle: int | None = None
        self._footprint: Footprint | None = None
        self._loop = loop
        self._on_up = on_up
        self._on_rows = on_rows
        with contextlib.ExitStack() as opened:
            self.fence = Fence()
            opened.callback(self.fence.close)
            self.log = LogFile()
            opened.callback(self.log.close)
            ours, theirs = pair()
            opened.enter_context(ours)
            with theirs:
                _leave_spare(theirs.fileno())
                self._channel = Channel(loop, ours, self._on_message, self._on_end)
                opened.callback(self._channel.close)
                launch(token, [theirs.fileno(), self.fence.fd, self.log.fd])
            opened.pop_all()

    @property
    def first(self) -> Task | None:
        """The first task that has not reported: it runs, or what runs reports after it."""
        return next(iter(self.tasks.values()), None)

    @property
    def unanswered(self) -> int:
        """Tasks of which the slot has not told, those among them that were taken back and that it has yet to skip."""
        return self._latest - self.answered

    def waiting(self) -> Iterator[Task]:
        """The tasks behind the one that runs."""
        numbers = iter(list(self.tasks))
        current = self.fence.current
        for number in numbers:
            if number == current:
                break
        return (self.tasks[number] for number in numbers)

    def number(self, task: Task) -> None:
        """Give a task that goes to this slot next the number it has there; see ``fence``."""
        self._latest += 1
        task.number = self._latest

    def send(self, tasks: Sequence[Task], codes: Mapping[str, Buffer]) -> None:
        """Send tasks, after the code that they need."""
        self.claims_memory = self.claims_memory and bool(self.tasks)
        calls: dict[tuple[Any, ...], int] = {}
        rows = []
        frames: list[Part] = []
        latest: Attempt | None = None
        place = 0
        for task in tasks:
            attempt = task.attempt
            if latest is None or not _is_same_call(attempt, latest):
                latest = attempt
                counts = claimed_by(attempt) > 0
                self.claims_memory |= counts
                place = calls.setdefault((attempt.codes, attempt.retry_on, attempt.setup, counts), len(calls))
                self._send_codes((*attempt.codes, *attempt.setup, attempt.retry_on), codes)
            task.worker = self
            self.tasks[task.number] = task
            rows.append(task.row(place, frames))
        self._channel.send(["run", list(calls), rows], frames)

    def unload(self, keys: Sequence[str]) -> None:
        """Let the slot forget this code."""
        gone = self._known.intersection(keys)
        if gone:
            self._known -= gone
            self._channel.send(["unload", list(gone)])

    def used_by(self, task: Task) -> int:
        """Bytes of memory that a task uses; 0 if it does not run, or no longer."""
        if self._footprint is None:
            assert self.pid is not None
            self._footprint = Footprint(self.pid)
        before = self.fence.before
        used = self._footprint.own() - before
        return max(0, used) if self.fence.current == task.number else 0

    def interrupt(self, task: Task) -> None:
        """Raise ``KeyboardInterrupt`` in this task, now or as soon as it begins; in no other."""
        self.fence.mark(task.number, Mark.INTERRUPT)
        self._signal(signal.SIGINT)

    def nudge(self) -> None:
        """Ask for the outcomes that the slot holds back; what runs goes on."""
        self._signal(signal.SIGINT)

    def blamed(self) -> Task | None:
        """The task that answers for the death: what ran, unless it was another that we killed the slot for.

        For a slot that never came up it is the first, so that nothing waits for ever for one that can't; so it is for
        one whose word was lost, in which nothing runs any more.
        """
        task = self.tasks.get(self.fence.current)
        if self.pid is None or (self.hung_up and task is None):
            return self.first
        return None if task is None or (self.killed and task.stop is None) else task

    def take_back(self) -> None:
        """Ask the slot to skip the tasks that wait."""
        self.taken_back = True
        for task in self.waiting():
            if task.stop is None:
                self.skip(task)

    def skip(self, task: Task) -> None:
        """Ask the slot to skip a task, unless it began; it says so when it gets there."""
        self.fence.mark(task.number, Mark.SKIP)

    def kill(self) -> None:
        """End the process with SIGKILL; its launcher reports the death."""
        self.killed = True
        self._signal(signal.SIGKILL)

    def drain(self) -> None:
        """Take in what a process that died had sent before."""
        self._channel.drain()

    def close(self) -> None:
        """Free everything; an idle slot ends by itself, a busy one is killed."""
        if self.tasks:
            self.kill()
        self.closed = True
        self._channel.close()
        self.fence.close()
        self.log.close()
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
        if self._footprint is not None:
            self._footprint.close()
            self._footprint = None

    def _send_codes(self, keys: Sequence[str | None], codes: Mapping[str, Buffer]) -> None:
        for key in keys:
            if key is not None and key not in self._known and key in codes:
                self._known.add(key)
                self._channel.send(["code", key], [codes[key]])

    def _signal(self, number: signal.Signals) -> None:
        if self._handle is not None:
            try:
                signal.pidfd_send_signal(self._handle, number)
            except ProcessLookupError:
                pass  # it died: its launcher reports it

    def _on_message(self, message: Message) -> None:
        kind, *rest = message.fields
        if self.closed:  # by what came just before
            close_fds(message.fds)
        elif kind == "hello":
            self.pid = rest[0]
            close_fds(message.fds[1:])
            self._handle = message.fds[0]
            self._on_up(self)
        else:
            self._on_rows(self, rest[0], message.frames)

    def _on_end(self) -> None:
        # As a rule it is dead and its launcher says so next; but a function can close descriptors and go on.
        self._loop.call_later(HANG_UP_S, self._hang_up)

    def _hang_up(self) -> None:
        if self._handle is None or not has_ended(self._handle):
            self.hung_up = True
            self._signal(signal.SIGKILL)
        if self._handle is None:  # there was no descriptor left for it: without its connection the process ends
            self._channel.close()


def _leave_spare(latest: int) -> None:
    """Raise `OSError` if few descriptors are left beyond the latest, which got the lowest number that was free."""
    if latest + SPARE >= resource.getrlimit(resource.RLIMIT_NOFILE)[0]:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def _is_same_call(one: Attempt, other: Attempt) -> bool:
    """Whether two attempts are known to share a call; those of one message share the parts of it."""
    same = one.codes is other.codes and one.setup is other.setup and one.cost is other.cost
    return same and one.retry_on == other.retry_on
