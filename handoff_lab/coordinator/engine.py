"""The middle of the coordinator, on its thread: takes events to the scheduler, and carries out what that decides."""

from __future__ import annotations

import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from handoff_lab.backends.base import Backend, Feature
from handoff_lab.coordinator.delivery import Delivery
from handoff_lab.coordinator.garbage import collection_paused
from handoff_lab.coordinator.state import RunState
from handoff_lab.coordinator.thread import LoopThread
from handoff_lab.messages import (
    Attempt,
    BackendEvent,
    Cancelled,
    Command,
    Ended,
    Failed,
    Failure,
    FailureKind,
    Finished,
    FinishedMany,
    Forget,
    Free,
    NodeChanged,
    NodeJoined,
    NodeLost,
    Report,
    ReportFinished,
    ReportQueued,
    ReportTransferred,
    ResultLost,
    Start,
    Started,
    Stop,
    Transferred,
    TransferredMany,
    Wake,
    Wrote,
)
from handoff_lab.scheduler import Scheduler
from handoff_lab.telemetry.batches import FunctionBatch, finished_batch, queued_batch, transferred_batch
from handoff_lab.telemetry.events import Event

log = logging.getLogger(__name__)

_FIRST, _MOST = 128, 1024  # attempts that are made and handed to the backend together, at first and later


class Engine:
    """Decides nothing itself.

    Parameters
    ----------
    runs
        The runs that were not forgotten; the caller's, which changes them.
    note
        Called with each event before the scheduler has it.
    """

    def __init__(
        self,
        backend: Backend,
        scheduler: Scheduler,
        thread: LoopThread,
        delivery: Delivery,
        runs: Mapping[str, RunState],
        note: Callable[[BackendEvent], None],
    ) -> None:
        self._backend = backend
        self._scheduler = scheduler
        self._thread = thread
        self._delivery = delivery
        self._runs = runs
        self._note = note
        self._inbox: deque[BackendEvent] = deque()
        self._pumping = False

    def take(self, events: Iterable[BackendEvent]) -> None:
        """Take events from the backend; those it emits while commands are carried out wait their turn."""
        self._inbox.extend(events)
        self._pump()

    def carry_out(self, commands: Iterable[Command]) -> None:
        """Do what the scheduler wants, and then what follows from it."""
        self._pumping, before = True, self._pumping
        try:
            self._obey(commands)
        finally:
            self._pumping = before
        self._pump()

    def cancel_all(self) -> None:
        """End all runs, whatever it takes: nodes are about to go, and someone may wait for each."""
        for run, state in self._runs.items():
            if state.end is None and not self._scheduler.is_over(run):
                try:
                    commands = self._scheduler.cancel(run, time.monotonic())
                    self.carry_out(commands)
                    self.take(Cancelled(command.id) for command in commands if isinstance(command, Stop))
                except Exception as error:
                    self._abandon([run], "its end failed", error)
                if not self._scheduler.is_over(run):
                    self._delivery.end(state, Ended(run, "cancelled"))
        self._inbox.clear()

    # -- events ------------------------------------------------------------------

    def _pump(self) -> None:
        if self._pumping:
            return
        self._pumping = True
        try:
            while self._inbox:
                events = list(self._inbox)
                self._inbox.clear()
                with collection_paused():
                    for event in events:
                        self._note(event)
                    self._obey(self._decide(events))
        finally:
            self._pumping = False
        self._thread.look()

    def _decide(self, events: Sequence[BackendEvent]) -> Sequence[Command]:
        """What follows from ``events``; runs about which the scheduler fails end, so that no one waits for ever."""
        try:
            return self._scheduler.handle(events, time.monotonic())
        except Exception as error:
            commands = self._abandon(_runs_of(events), "the scheduler failed", error)
        lost = [event for event in events if isinstance(event, NodeLost) and event.name in self._scheduler.nodes]
        return [*commands, *self._decide(lost)] if commands or len(lost) < len(events) else commands

    def _wake(self) -> None:
        try:
            commands: Sequence[Command] = self._scheduler.wake(time.monotonic())
        except Exception as error:
            commands = self._abandon(None, "the scheduler failed", error)
        self.carry_out(commands)

    def _abandon(self, runs: Collection[str] | None, what: str, error: Exception) -> list[Command]:
        """End these runs, or all."""
        log.error("%s; this is a bug of handoff_lab", what, exc_info=error)
        failure = Failure(FailureKind.NODE, f"{what}: {error!r}", retryable=False)
        commands: list[Command] = []
        for run, state in self._runs.items():
            if (runs is None or run in runs) and not self._scheduler.is_over(run):
                self._delivery.end(state, Ended(run, "failed", failure=failure))
                commands += self._scheduler.abandon(run)
        return commands

    # -- commands ----------------------------------------------------------------

    def _obey(self, commands: Iterable[Command]) -> None:
        """Carry out; a run of which something could not be done ends, because it would wait for that for ever."""
        commands = list(commands)
        try:
            self._do(commands)
        except Exception as error:
            runs = {command.id.run for command in commands if isinstance(command, (Start, Stop))}
            ends = [command for command in commands if isinstance(command, Ended)]
            self._do([*self._abandon(runs, "what the run needs could not be done", error), *ends])

    def _do(self, commands: Sequence[Command]) -> None:
        moment = time.time()
        told: list[tuple[Sequence[RunState], Event | FunctionBatch]] = []
        starts: list[Start] = []
        ending = {command.run for command in commands if isinstance(command, Ended)}
        for command in commands:
            match command:
                case Start():
                    starts.append(command)
                case Report():
                    event = Event(command.name, moment, command.measurements, command.metadata)
                    told.append((self._concerned(command, ending), event))
                case ReportQueued() | ReportFinished() | ReportTransferred():
                    state = self._runs[command.run]
                    told.append(((state,), _batch(command, state, moment)))
                case Stop():
                    self._backend.cancel(command.id, command.how)
                case Wake():
                    delay = max(0.0, command.at - time.monotonic())
                    self._thread.loop.call_later(delay, self._wake)
                case Free():
                    self._backend.free(command.keys)
                case Forget():
                    self._backend.forget(command.run)
                case Ended():
                    self._delivery.events(told)
                    told = []
                    self._delivery.end(self._runs[command.run], command)
                    ending.discard(command.run)
        for some in _in_turns(starts):  # so that nodes have something to do while the rest is made ready
            self._submit(some)
        if told:  # last: whoever hears of it competes for this process's time
            self._delivery.events(told)

    def _concerned(self, report: Report, ending: Collection[str]) -> Sequence[RunState]:
        """The run that is named, or all that go on; some of them are ``ending``, later among the same commands."""
        run = report.metadata.get("run")
        if run is not None:
            return (self._runs[run],)
        return [state for id, state in self._runs.items() if id in ending or not self._scheduler.is_over(id)]

    def _submit(self, starts: Sequence[Start]) -> None:
        """Make attempts of what is to start, and hand them to the backend together."""
        attempts: list[Attempt] = []
        elsewhere: dict[str, bool] = {}  # whether a node is another process
        for start in starts:
            state = self._runs[start.id.run]
            node = start.node
            if node not in elsewhere:
                elsewhere[node] = Feature.PROCESSES in self._backend.features_of(node)
            hidden = start.id.function in state.program.serializers
            target_node = self._scheduler.target_node(start.id) if hidden else ""
            attempt = state.calls.attempt(start, target_node, elsewhere[node])
            if isinstance(attempt, Failure):
                self._inbox.append(Failed(start.id, attempt))
            else:
                attempts.append(attempt)
        self._backend.submit(attempts)


def _in_turns(starts: Sequence[Start]) -> Iterator[Sequence[Start]]:
    """What is to start, in parts that have the next few of each node."""
    if len(starts) <= _FIRST:
        yield starts
        return
    by_node: defaultdict[str, list[Start]] = defaultdict(list)
    for start in starts:
        by_node[start.node].append(start)
    lots = list(by_node.values())
    at, together = 0, _FIRST
    while lots:
        share = max(1, together // len(lots))
        yield [start for lot in lots for start in lot[at : at + share]]
        at, together = at + share, min(2 * together, _MOST)
        lots = [lot for lot in lots if len(lot) > at]


def _batch(command: ReportQueued | ReportFinished | ReportTransferred, state: RunState, moment: float) -> FunctionBatch:
    match command:
        case ReportQueued():
            return queued_batch(command, state.ids, moment)
        case ReportFinished():
            return finished_batch(command, state.ids)
        case ReportTransferred():
            return transferred_batch(command, state.ids)


def _runs_of(events: Iterable[BackendEvent]) -> set[str] | None:
    """The runs of which something was told; None: maybe all."""
    runs = set()
    for event in events:
        match event:
            case NodeJoined() | NodeChanged() | NodeLost() | ResultLost():
                return None
            case Started() | Finished() | Failed() | Cancelled() | Wrote():
                runs.add(event.id.run)
            case FinishedMany() | TransferredMany():
                runs.add(event.run)
            case Transferred():
                runs.add(event.key.run)
    return runs
