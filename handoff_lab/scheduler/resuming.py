"""Takes up a run whose coordinator was killed: what nodes hold is done, what runs there goes on, the rest is to do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from handoff_lab.messages import HERE, AttemptId, Command, Finished, Start, Started
from handoff_lab.scheduler import reports
from handoff_lab.scheduler.handover import HandOver
from handoff_lab.scheduler.ledger import Ledger
from handoff_lab.scheduler.lifecycle import Lifecycle
from handoff_lab.scheduler.state import CANCELLED, DONE, FAILED, WAITING, Ending, FinalFailure, Progress, State

_APART = 10**6  # between the numbers of attempts of one coordinator and of the next
_FIRST = -1.0  # before all others, whose priorities are their numbers
_WHY = "its coordinator was started again"


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
    made: Mapping[int, tuple[str, Finished]] = field(default_factory=dict)  # results that nodes hold
    running: Mapping[int, tuple[str, Started]] = field(default_factory=dict)  # attempts that go on there
    present: Collection[tuple[AttemptId, str]] = ()  # all that nodes hold, of other runs too


class Resumption:
    """Brings the state of a run to where it was."""

    def __init__(
        self, ledger: Ledger, lifecycle: Lifecycle, handover: HandOver, emit: Callable[[Command], None]
    ) -> None:
        self._ledger = ledger
        self._lifecycle = lifecycle
        self._handover = handover
        self._emit = emit

    def resume(self, run: Progress, past: Past) -> None:
        """Go on with ``run``, which is new; one that is over has its results, no more."""
        self._number(run, past)
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
            if run.number[i] < event.id.number and event.id not in started:
                self._count_from(run, i, past.generation * _APART, past.attempts.get(i, 0))

    def _number(self, run: Progress, past: Past) -> None:
        for i, function in enumerate(run.program.functions):
            run.priority[i] = float(i if function.toward is None else function.toward)
            run.node[i] = past.nodes.get(i)
            self._count_from(run, i, past.generation * _APART, past.attempts.get(i, 0))

    def _count_from(self, run: Progress, i: int, number: int, told: int) -> None:
        """Let the next attempt at ``i`` have the next number, and people see it as the one after ``told``."""
        run.number[i] = number
        run.withdrawn[i] = number - told

    def _settle(self, run: Progress, i: int, past: Past) -> None:
        """What is over is over."""
        function = run.program.functions[i]
        is_done = i in past.done or i in past.made
        if i in past.dead and not is_done:
            run.state[i] = past.dead[i]
        elif function.given is not None or function.dormant or is_done:
            run.state[i] = DONE
        elif function.toward in past.done or function.toward in past.made:
            run.state[i] = DONE  # nobody needs what it made
        elif function.toward in past.dead:
            run.state[i] = CANCELLED
        if run.state[i] == WAITING:
            return
        run.unfinished -= 1
        if function.given is not None and (function.given[1] == HERE or function.given in past.present):
            run.given[i], run.holder[i] = function.given
            run.node[i] = run.holder[i] if function.function is not None else None
        elif i in past.made and not run.is_hidden(i):
            self._have(run, i, past)

    def _have(self, run: Progress, i: int, past: Past) -> None:
        node, event = past.made[i]
        run.holder[i] = run.node[i] = node
        run.latest[i] = event.id
        self._count_from(run, i, event.id.number, max(1, past.attempts.get(i, 0)))
        if i not in past.done:
            self._emit(reports.stop(run, i, event))

    def _go_on(self, run: Progress, past: Past) -> None:
        waiting = [i for i, state in enumerate(run.state) if state == WAITING]
        for i in waiting:
            if i in past.running and not run.missing[i]:
                self._adopt(run, i, past)
            elif i in past.begun:
                node = run.node[i] or ""
                self._emit(reports.move(run, i, node, node, _WHY))
        for i, holder in enumerate(run.holder):
            if holder is not None:
                self._handover.promise(run, i)
        for i in range(len(run.state)):
            if run.is_lost(i) and self._lifecycle.is_needed(run, i):
                self._lifecycle.recompute(run, i)
        for i in waiting:
            self._await_turn(run, i)
        if FAILED in run.state and run.options.on_error == "stop":
            self._lifecycle.stop(run, "failed")
        self._lifecycle.settle(run)

    def _adopt(self, run: Progress, i: int, past: Past) -> None:
        """The attempt that goes on is the next one: its node knows it, and does not begin it twice."""
        node, event = past.running[i]
        if node in self._ledger.open:
            run.node[i] = node
            run.priority[i] = _FIRST
            self._count_from(run, i, event.id.number - 1, max(1, past.attempts.get(i, 0)) - 1)

    def _await_turn(self, run: Progress, i: int) -> None:
        if run.state[i] != WAITING:
            return
        if run.node[i] not in self._ledger.open and not run.is_hidden(i):
            self._lifecycle.need_node(run, i)
        elif not run.missing[i]:
            self._lifecycle.ready(run, i)
        else:
            self._handover.consider(run, i)
