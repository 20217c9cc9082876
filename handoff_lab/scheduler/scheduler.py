"""The scheduler: events in, commands out. It does no I/O and has no clock; whoever calls it says what time it is."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from handoff_lab.messages import (
    HERE,
    AttemptId,
    BackendEvent,
    Cancelled,
    Command,
    Failed,
    Finished,
    FinishedMany,
    Forget,
    Free,
    NodeChanged,
    NodeJoined,
    NodeLoad,
    NodeLost,
    ResultLost,
    Started,
    Stop,
    Transferred,
    TransferredMany,
    Wrote,
)
from handoff_lab.resources import Resources, ResourceTracker
from handoff_lab.scheduler import reports
from handoff_lab.scheduler.balance import Balance
from handoff_lab.scheduler.columns import Columns
from handoff_lab.scheduler.dispatch import Dispatcher
from handoff_lab.scheduler.endings import Endings
from handoff_lab.scheduler.handover import HandOver
from handoff_lab.scheduler.ledger import Ledger, NodeState
from handoff_lab.scheduler.lifecycle import Lifecycle
from handoff_lab.scheduler.placement import Placement
from handoff_lab.scheduler.program import Program, RunOptions
from handoff_lab.scheduler.recovery import Recovery
from handoff_lab.scheduler.resuming import Past, Resumption
from handoff_lab.scheduler.state import (
    DELAYED,
    IN_FLIGHT,
    PENDING,
    REVOKED,
    RUNNING,
    SUBMITTED,
    Progress,
    State,
    Step,
)
from handoff_lab.scheduler.timers import Due, Timers

_REMEMBERED_STEPS = 4096


class Scheduler:
    """Decides what runs where and when, for several runs at once over the same nodes.

    Every method that changes something takes the time, in seconds of any
    clock that only goes forward, and returns what is to be done, in order.

    Parameters
    ----------
    tracker
        The ledger of claims; None: one of its own.
    prefetch
        Functions without cost that may wait in a node's own queue beyond its slots.
    advice
        What to do when there are no nodes; empty: add one.
    """

    def __init__(
        self, tracker: ResourceTracker | None = None, *, prefetch: int = 32, advice: Callable[[], str] = str
    ) -> None:
        self._commands: list[Command] = []
        emit = self._commands.append
        self._emit = emit
        self._ledger = Ledger(tracker)
        self._timers = Timers(emit)
        self._handover = HandOver(self._ledger, emit)
        self._dispatcher = Dispatcher(self._ledger, self._timers, self._handover, prefetch, emit)
        self._endings = endings = Endings(self._ledger, self._dispatcher, self._handover, emit)
        self._lifecycle = Lifecycle(self._ledger, self._dispatcher, self._handover, self._timers, endings, emit)
        self._placement = Placement(self._ledger, self._lifecycle, endings, self._timers, emit, advice)
        self._recovery = Recovery(self._ledger, self._dispatcher, self._lifecycle, endings, self._placement, emit)
        self._resumption = Resumption(self._ledger, self._lifecycle, endings, self._handover, self._timers, emit)
        self._balance = Balance(self._ledger, self._dispatcher, self._lifecycle)
        self._runs: dict[str, Progress] = {}
        self._columns = Columns(self._runs, self._ledger, self._dispatcher, self._lifecycle, self._handover, emit)
        self._columns.one = self._finished
        self._steps: deque[tuple[object, ...]] = deque(maxlen=_REMEMBERED_STEPS)
        self._handlers: dict[type, Callable[[Any], None]] = {
            Started: self._started,
            Finished: self._finished,
            FinishedMany: self._columns.take_many,
            Failed: self._failed,
            Cancelled: self._cancelled,
            Transferred: self._transferred,
            TransferredMany: self._transferred_many,
            Wrote: self._wrote,
            NodeJoined: self._node_joined,
            NodeChanged: self._node_changed,
            NodeLost: self._node_lost,
            NodeLoad: self._node_load,
            ResultLost: self._result_lost,
        }

    # -- stimuli -------------------------------------------------------------------

    def submit(self, program: Program, options: RunOptions, now: float) -> list[Command]:
        """Begin a run.

        Raises
        ------
        AllocationError
            When a function fits on no node and may not wait for one, or the allocator's answer breaks a guarantee;
            nothing has begun then.
        """
        if program.run in self._runs:
            raise ValueError(f"there is a run {program.run!r} already")
        run = Progress(program, options, now, self._steps)
        self._placement.allocate(run)
        self._runs[run.id] = run
        try:
            return self._decide(now, lambda: self._begin_run(run))
        except BaseException:
            self._withdraw(run)
            raise

    def resume(self, program: Program, options: RunOptions, past: Past, now: float) -> list[Command]:
        """Take up a run that another scheduler began."""
        run = self._runs[program.run] = Progress(program, options, now - past.elapsed_s, self._steps)
        commands = self._decide(now, lambda: self._resume_run(run, past))
        self._resumption.give_up(run, past, commands)
        return commands

    def _resume_run(self, run: Progress, past: Past) -> None:
        self._resumption.resume(run, past)
        if run.options.timeout_s is not None and run.status == "running":
            self._timers.set(max(0.0, run.options.timeout_s - past.elapsed_s), Due.END_RUN, run.id)

    def _begin_run(self, run: Progress) -> None:
        self._emit(reports.run_start(run, self._ledger.capabilities(run.options.nodes)))
        self._lifecycle.begin(run)
        self._recovery.catch_up(run, self._runs)
        if run.options.timeout_s is not None:
            self._timers.set(run.options.timeout_s, Due.END_RUN, run.id)

    def _withdraw(self, run: Progress) -> None:
        """Take back a run that could not begin: none of its commands was handed out."""
        del self._runs[run.id]
        self._endings.abandon(run)
        self._commands.clear()

    def cancel(self, run: str, now: float, function: int | None = None) -> list[Command]:
        """Cancel a run, or one function of it and what needs that; what is over stays as it is."""
        progress = self._runs[run]
        if progress.status != "running" or progress.ending is not None:
            return []
        if function is None:
            return self._decide(now, lambda: self._endings.stop(progress, "cancelled"))
        return self._decide(now, lambda: self._endings.cancel(progress, function))

    def handle(self, events: Sequence[BackendEvent], now: float) -> list[Command]:
        """Take in what the backend says; what follows from all of it is decided together."""
        return self._decide(now, lambda: self._take_in(events))

    def _take_in(self, events: Sequence[BackendEvent]) -> None:
        handlers = self._handlers
        for event in events:
            handlers[type(event)](event)

    def wake(self, now: float) -> list[Command]:
        """Do what was due until now."""
        return self._decide(now, self._do_what_is_due)

    def _do_what_is_due(self) -> None:
        for timer in self._timers.due():
            if timer.what is Due.ASK_TRACKER:
                self._dispatcher.ask_again()
                continue
            run = self._runs.get(timer.run)
            if run is None or run.status != "running" or run.ending is not None:
                continue
            if timer.what is Due.END_RUN:
                run.overtime = True
                self._endings.stop(run, "failed")
            elif timer.what is Due.GIVE_UP_WAITING:
                self._placement.give_up(run)
            elif run.state[timer.function] == DELAYED:
                self._lifecycle.restart(run, timer.function)

    def retire(self, node: str, now: float) -> list[Command]:
        """Let a node finish what runs there, and what can run nowhere else; the rest goes elsewhere."""
        if node not in self._ledger.open:
            return []
        return self._decide(now, lambda: self._recovery.retire(self._runs.values(), node))

    def is_idle(self, node: str) -> bool:
        """Whether nothing runs on a node that retires, and nothing has to."""
        if self._ledger.nodes[node].in_flight:
            return False
        return not any(
            run.node[i] == node and run.state[i] in PENDING for run in self._runs.values() for i in run.stays
        )

    def drain(self, node: str, now: float) -> list[Command]:
        """Let a node finish what runs there and take nothing new: what waits for it goes elsewhere, as after a loss."""
        if node not in self._ledger.open and node not in self._ledger.retiring:
            return []
        return self._decide(now, lambda: self._recovery.drain(self._runs.values(), node))

    def undrain(self, node: str, now: float) -> list[Command]:
        """Let a node that was drained take functions again."""
        if node not in self._ledger.nodes:
            return []
        return self._decide(now, lambda: self._reopen(node))

    def results_on(self, node: str) -> list[AttemptId]:
        """Keys of the results that lie on a node alone."""
        return list({key: None for run in self._runs.values() for key in self._recovery.results_on(run, node)})

    def keep(self, key: AttemptId) -> bool:
        """Whether a result is of use still. If so the caller has it too from now on: it is not lost with its node."""
        kept = [self._recovery.keep(run, key) for run in self._runs.values()]
        return any(kept)

    def is_draining(self, node: str) -> bool:
        """Whether a node takes nothing new."""
        return node not in self._ledger.open

    def abandon(self, run: str) -> list[Command]:
        """End a run about which this scheduler failed, in whatever state it is; its end is the caller's to tell."""
        progress = self._runs[run]
        if progress.status != "running":
            return []
        progress.status = progress.ending = "failed"
        in_flight = [i for i, state in enumerate(progress.state) if state in IN_FLIGHT]
        self._endings.abandon(progress)
        self._commands.clear()
        return [Stop(AttemptId(run, i, progress.number[i])) for i in in_flight]

    def forget(self, run: str) -> list[Command]:
        """Drop a run that is over, and free its results."""
        progress = self._runs[run]
        if progress.status == "running":
            raise ValueError(f"run {run!r} is not over; cancel it first")
        del self._runs[run]
        self._balance.forget(run)
        return [Forget(run)]

    def _decide(self, now: float, change: Callable[[], None]) -> list[Command]:
        """The commands that follow from a change; when it fails, none is left behind for the next one."""
        self._timers.now = now
        try:
            change()
            self._placement.place_again()
            self._dispatcher.dispatch()
            if self._balance.even_out(self._runs.values(), now):
                self._dispatcher.dispatch()
            self._handover.flush()
            self._timers.ask()
            self._endings.end(now)
            return self._commands.copy()
        finally:
            self._commands.clear()

    # -- views ---------------------------------------------------------------------

    @property
    def nodes(self) -> Mapping[str, NodeState]:
        """The nodes that are there, by name; not to be changed."""
        return MappingProxyType(self._ledger.nodes)

    def capabilities(self, node: str) -> Resources:
        """What a node has."""
        return self._ledger.nodes[node].capabilities

    def used(self, node: str) -> Resources:
        """What is claimed on a node."""
        return self._ledger.nodes[node].claimed

    def available(self, node: str, cost: Resources) -> bool:
        """Whether a node could take ``cost`` now."""
        return node in self._ledger.nodes and self._ledger.tracker.available(node, cost)

    def progress(self, run: str) -> Progress:
        """The state of a run; not to be changed."""
        return self._runs[run]

    def in_flight(self, node: str) -> int:
        """Attempts that a node was given and has not ended."""
        return self._ledger.nodes[node].in_flight

    def is_over(self, run: str) -> bool:
        """Whether a run has ended."""
        return self._runs[run].status != "running"

    def holder(self, run: str, function: int) -> tuple[AttemptId, str] | None:
        """Key and node of a function's result; None: there is none."""
        return self._runs[run].source(function)

    def target_node(self, id: AttemptId) -> str:
        """The node for which a serializer makes its result; "" for any other attempt."""
        run = self._runs[id.run]
        toward = run.program.functions[id.function].toward
        return "" if toward is None else run.node[toward] or ""

    def state(self, run: str, function: int) -> State:
        """The state of a function."""
        return State(self._runs[run].state[function])

    def story(self, run: str, function: int) -> list[Step]:
        """The latest transitions of a function, for debugging."""
        return self._runs[run].story(function)

    # -- what a backend says -----------------------------------------------------------

    def _current(self, id: AttemptId) -> Progress | None:
        """The run of an attempt that is in flight; None for one that was given up."""
        run = self._runs.get(id.run)
        if run is None or run.number[id.function] != id.number or run.state[id.function] not in IN_FLIGHT:
            return None
        return run

    def _started(self, event: Started) -> None:
        run = self._current(event.id)
        if run is None:
            return
        i = event.id.function
        if run.state[i] == SUBMITTED or (run.state[i] == REVOKED and self._ledger.takes_ahead(run.node[i])):
            self._begin(run, i, event.started, event.slot)  # what was recalled too late runs on

    def _begin(self, run: Progress, i: int, started: float, slot: int) -> None:
        run.move(i, RUNNING)
        run.moving.pop(i, None)
        node = self._ledger.nodes[run.node[i] or ""]
        if node.keeps_ledger:
            self._handover.flush()
            self._dispatcher.began(run, i, node)
        if run.cost_class[i]:
            self._emit(reports.start(run, i, started, slot))

    def _over(self, event: Finished | Failed | Cancelled) -> Progress | None:
        """The run of an attempt that is over, which holds nothing any more; None for one that was given up."""
        run = self._current(event.id)
        if run is not None:
            i = event.id.function
            node = run.node[i]
            assert node is not None
            self._dispatcher.leave(run, i, self._ledger.nodes[node])
        return run

    def _finished(self, event: Finished) -> None:
        run = self._current(event.id)
        if run is None:
            self._free_stray(event.id)
            return
        i = event.id.function
        node = self._ledger.nodes[run.node[i] or ""]
        untold = run.state[i] == SUBMITTED  # a backend may leave out that a short function has started
        if node.keeps_ledger:
            self._handover.learn(node, event.ended - event.started, 1)
            if untold:
                self._begin(run, i, event.started, event.slot)
        self._over(event)
        if untold and not node.keeps_ledger:
            self._begin(run, i, event.started, event.slot)
        self._lifecycle.succeed(run, i, event)

    def _free_stray(self, key: AttemptId) -> None:
        run = self._runs.get(key.run)
        source = None if run is None else run.source(key.function)
        if source is None or source[0] != key:
            self._emit(Free((key,)))

    def _failed(self, event: Failed) -> None:
        run = self._over(event)
        if run is not None:
            self._lifecycle.attempt_failed(run, event.id.function, event)

    def _cancelled(self, event: Cancelled) -> None:
        run = self._over(event)
        if run is not None:
            self._lifecycle.attempt_cancelled(run, event.id.function, event)

    def _transferred(self, event: Transferred) -> None:
        run = self._runs.get(event.key.run)
        if run is not None and run.status == "running" and 0 <= event.key.function < len(run.state):
            self._emit(reports.transferred(run, event.key.function, event))

    def _transferred_many(self, event: TransferredMany) -> None:
        run = self._runs.get(event.run)
        known = run is not None and 0 <= max(event.functions, default=-1) < len(run.state)
        if run is not None and known and run.status == "running":
            self._emit(reports.transferred_many(run, event))

    def _wrote(self, event: Wrote) -> None:
        run = self._runs.get(event.id.run)
        if run is not None and run.cost_class[event.id.function]:
            self._emit(reports.log(run, event.id.function, event.id.number, event.text))

    def _node_joined(self, event: NodeJoined) -> None:
        if event.info.name in self._ledger.nodes:
            self._node_lost(NodeLost(event.info.name, "it started anew"))
        node = self._ledger.join(event.info)
        self._emit(reports.node("up", node))
        self._placement.look_again(self._runs.values(), node)

    def _node_changed(self, event: NodeChanged) -> None:
        if event.name in self._ledger.nodes:
            before = self._ledger.nodes[event.name].capabilities
            node = self._ledger.change(event.name, event.capabilities, event.slots)
            self._dispatcher.changed(node)
            facts = {"draining": True} if self.is_draining(event.name) else {}
            self._emit(reports.node("changed", node, **facts))
            self._placement.look_again(self._runs.values(), node)
            if not before.fits_in(node.capabilities):
                self._balance.clear_out(self._runs.values(), node)

    def _reopen(self, name: str) -> None:
        self._ledger.reopen(name)
        self._emit(reports.node("changed", self._ledger.nodes[name]))
        self._placement.look_again(self._runs.values(), self._ledger.nodes[name])

    def _node_lost(self, event: NodeLost) -> None:
        if event.name in self._ledger.nodes:
            self._recovery.lose_node(self._runs.values(), event)

    def _node_load(self, event: NodeLoad) -> None:
        node = self._ledger.nodes.get(event.name)
        if node is not None:
            self._emit(reports.utilization(event, node, self._runs))

    def _result_lost(self, event: ResultLost) -> None:
        if event.node == HERE:
            return  # it is here, whoever could not fetch it; an input cannot be made again
        self._recovery.lose_result(self._runs.values(), event.key, event.node)
