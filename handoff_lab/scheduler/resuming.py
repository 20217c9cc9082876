"""Takes up a run whose coordinator was killed: what nodes hold is done, what runs there goes on, the rest is to do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from handoff_lab.messages import HERE, AttemptId, Command, Failed, FailureKind, Finished, Start, Started
from handoff_lab.scheduler import reports, retrying
from handoff_lab.scheduler.endings import Endings
from handoff_lab.scheduler.handover import HandOver
from handoff_lab.scheduler.ledger import Ledger
from handoff_lab.scheduler.lifecycle import Lifecycle
from handoff_lab.scheduler.state import (
    CANCELLED,
    DEAD,
    DELAYED,
    DONE,
    FAILED,
    WAITING,
    Ending,
    FinalFailure,
    Progress,
    State,
)  # fmt: skip
from handoff_lab.scheduler.timers import Due, Timers

_APART = 10**6  # between the numbers of attempts of one coordinator and of the next
_FIRST = -1.0  # before all others, whose priorities are their numbers
_WHY = "its coordinator was started again"


class Tried(NamedTuple):
    """What became of a function's attempts so far, as far as that was told."""

    retries: int  # used up
    deaths: int  # of slots under it
    wait_s: float = 0.0  # that are left until it is tried again


@dataclass(frozen=True, slots=True)
class Past:
    """How far a run was. Functions are named by their numbers."""

    generation: int  # coordinators before this one
    elapsed_s: float = 0.0
    status: Literal["running"] | Ending = "running"
    nodes: Mapping[int, str] = field(default_factory=dict)  # that were given to functions
    attempts: Mapping[int, int] = field(default_factory=dict)  # that were told of
    done: Collection[int] = ()  # functions of which it was told that they are
    begun: Collection[int] = ()  # functions of which it was told last that they run
    dead: Mapping[int, State] = field(default_factory=dict)
    failures: Mapping[int, FinalFailure] = field(default_factory=dict)
    untold: Collection[int] = ()  # functions that failed for good before that was told
    tried: Mapping[int, Tried] = field(default_factory=dict)  # functions that failed, and are or were tried again
    unheard: Mapping[int, Sequence[Failed]] = field(default_factory=dict)  # attempts that failed, not told of
    cancelled: Sequence[int | None] = ()  # functions that were to be cancelled; None: all of it
    made: Mapping[int, tuple[str, Finished]] = field(default_factory=dict)  # results that nodes hold
    running: Mapping[int, tuple[str, Started]] = field(default_factory=dict)  # attempts that go on there
    present: Collection[tuple[AttemptId, str]] = ()  # all that nodes hold, of other runs too

    def over(self, i: int) -> int:
        """Attempts at a function of which it was told that they are over."""
        return self.attempts.get(i, 0) - (i in self.begun)


class Resumption:
    """Brings the state of a run to where it was."""

    def __init__(
        self,
        ledger: Ledger,
        lifecycle: Lifecycle,
        endings: Endings,
        handover: HandOver,
        timers: Timers,
        emit: Callable[[Command], None],
    ) -> None:
        self._ledger = ledger
        self._lifecycle = lifecycle
        self._endings = endings
        self._handover = handover
        self._timers = timers
        self._emit = emit

    def resume(self, run: Progress, past: Past) -> None:
        """Go on with ``run``, which is new; one that is over has its results, no more."""
        self._number(run, past)
        self._count(run, past)
        for i in range(len(run.state)):
            self._settle(run, i, past)
        for i, holder in enumerate(run.holder):
            if holder is not None:
                for dependent in run.dependents[i]:
                    run.missing[dependent] -= 1
        run.failures.update(past.failures)
        run.status = past.status
        if run.status == "running":
            self._go_on(run, past)

    def give_up(self, run: Progress, past: Past, commands: Iterable[Command]) -> None:
        """What was to go on and was not started at once gets an attempt of its own."""
        started = {command.id for command in commands if isinstance(command, Start)}
        for i, (_, event) in past.running.items():
            if run.number[i] < event.id.number and event.id not in started and i not in past.made:
                self._count_from(run, i, past.generation * _APART, past.attempts.get(i, 0))

    def _number(self, run: Progress, past: Past) -> None:
        for i, function in enumerate(run.program.functions):
            run.priority[i] = float(i if function.toward is None else function.toward)
            run.place(i, past.nodes.get(i))
            self._count_from(run, i, past.generation * _APART, past.attempts.get(i, 0))

    def _count_from(self, run: Progress, i: int, number: int, told: int) -> None:
        """Let the next attempt at ``i`` have the next number, and people see it as the one after ``told``."""
        run.number[i] = number
        run.withdrawn[i] = number - told

    def _count(self, run: Progress, past: Past) -> None:
        """Let what was tried count on."""
        for i, tried in past.tried.items():
            run.retried[i] = tried.retries
            run.deaths[i] = tried.deaths
            run.retries += tried.retries

    def _settle(self, run: Progress, i: int, past: Past) -> None:
        """What is over is over."""
        function = run.program.functions[i]
        if i in past.dead:
            run.state[i] = past.dead[i]
        elif function.given is not None or function.dormant or i in past.done or i in past.made:
            run.state[i] = DONE
        elif function.toward in past.done or function.toward in past.made:
            run.state[i] = DONE  # nobody needs what it made
        elif function.toward in past.dead:
            run.state[i] = CANCELLED
        if run.state[i] == WAITING:
            return
        run.unfinished -= 1
        if function.given is not None and (function.given[1] == HERE or function.given in past.present):
            run.take_given(i, function.given)
            run.place(i, run.holder[i] if function.function is not None else None)
        elif run.state[i] == DONE and i in past.made and not run.is_hidden(i):
            self._have(run, i, past)

    def _have(self, run: Progress, i: int, past: Past) -> None:
        node, event = past.made[i]
        run.have(i, (event.id, node))
        run.place(i, node)
        self._count_from(run, i, event.id.number, max(1, past.over(i) + (i not in past.done)))
        if i not in past.done:
            self._emit(reports.stop(run, i, event))

    def _go_on(self, run: Progress, past: Past) -> None:
        self._spread_failures(run, past)
        waiting = [i for i, state in enumerate(run.state) if state == WAITING]
        for i in waiting:
            self._pick_up(run, i, past)
        for i, holder in enumerate(run.holder):
            if holder is not None:
                self._handover.promise(run, i)
        for i in range(len(run.state)):
            if run.is_lost(i) and self._lifecycle.is_needed(run, i):
                self._lifecycle.recompute(run, i)
        for i in waiting:
            self._await_turn(run, i)
        if FAILED in run.state and run.options.on_error == "stop":
            self._endings.stop(run, "failed")
        else:
            self._cancel(run, past)
        self._endings.settle(run)

    def _cancel(self, run: Progress, past: Past) -> None:
        for i in past.cancelled:
            if i is not None:
                self._endings.cancel(run, i)
        if None in past.cancelled:
            self._endings.stop(run, "cancelled")

    def _spread_failures(self, run: Progress, past: Past) -> None:
        """The kill may have come between a failure and what followed from it."""
        for i in past.untold:
            final = past.failures[i]
            self._count_from(run, i, run.number[i], final.attempts)
            self._emit(reports.exception(run, i, Failed(AttemptId(run.id, i, run.number[i]), final.failure)))
        for i, state in enumerate(run.state):
            if state in DEAD:
                self._endings.skip_dependents(run, i, i)

    def _pick_up(self, run: Progress, i: int, past: Past) -> None:
        if run.state[i] != WAITING:
            return  # another's failure was its end
        if i in past.unheard:
            self._take_failures(run, i, past)
        elif i in past.running and not run.missing[i]:
            self._adopt(run, i, past)
        elif i in past.tried and past.tried[i].wait_s > 0:
            self._delay(run, i, past.tried[i].wait_s)
        elif i in past.begun:
            node = run.node[i] or ""
            self._emit(reports.move(run, i, node, node, _WHY))

    def _take_failures(self, run: Progress, i: int, past: Past) -> None:
        for attempt, event in enumerate(past.unheard[i], past.over(i) + 1):
            self._count_from(run, i, past.generation * _APART, attempt)
            self._emit(reports.exception(run, i, event))
            failure = event.failure
            if failure.kind is FailureKind.DIED:
                failure = retrying.count_death(run, i, failure)
            if not retrying.may_retry(run, i, failure, revoked=False):
                self._endings.fail(run, i, failure)
                return
            run.retries += 1
            self._emit(reports.retry(run, i, retrying.delay_of(run, i, failure), failure.message.partition("\n")[0]))
        if delay := retrying.delay_of(run, i, failure):
            self._delay(run, i, delay)

    def _delay(self, run: Progress, i: int, seconds: float) -> None:
        run.state[i] = DELAYED
        self._timers.set(seconds, Due.TRY_AGAIN, run.id, i)

    def _adopt(self, run: Progress, i: int, past: Past) -> None:
        """The attempt that goes on is the next one: its node knows it, and does not begin it twice."""
        node, event = past.running[i]
        if node in self._ledger.open:
            run.place(i, node)
            run.priority[i] = _FIRST
            self._count_from(run, i, event.id.number - 1, past.over(i))

    def _await_turn(self, run: Progress, i: int) -> None:
        if run.state[i] != WAITING:
            return
        if run.node[i] not in self._ledger.open and not run.is_hidden(i):
            self._lifecycle.need_node(run, i)
        elif not run.missing[i]:
            self._lifecycle.ready(run, i)
        else:
            self._handover.consider(run, i)
