"""The life of a run's functions: made ready, done, tried again, taken back; and made anew when a result is lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from handoff_lab.messages import (
    AttemptId,
    Cancelled,
    Command,
    Failed,
    Failure,
    FailureKind,
    Finished,
    Free,
    HowToEnd,
    Stop,
)
from handoff_lab.scheduler import reports
from handoff_lab.scheduler.dispatch import Dispatcher
from handoff_lab.scheduler.endings import Endings
from handoff_lab.scheduler.handover import HandOver
from handoff_lab.scheduler.ledger import Ledger
from handoff_lab.scheduler.retrying import count_death, delay_of, may_retry
from handoff_lab.scheduler.state import (
    DEAD,
    DELAYED,
    DONE,
    PENDING,
    READY,
    REVOKED,
    RUNNING,
    STOPPING,
    SUBMITTED,
    WAITING,
    Progress,
)
from handoff_lab.scheduler.timers import Due, Timers


class Lifecycle:
    """Moves functions from state to state and says so; where they run is not decided here."""

    def __init__(
        self,
        ledger: Ledger,
        dispatcher: Dispatcher,
        handover: HandOver,
        timers: Timers,
        endings: Endings,
        emit: Callable[[Command], None],
    ) -> None:
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._handover = handover
        self._timers = timers
        self._endings = endings
        self._emit = emit
        self.unplaced: dict[Progress, None] = {}  # runs with functions that need another node

    # -- forward -----------------------------------------------------------------

    def begin(self, run: Progress) -> None:
        """Begin a run whose functions have their nodes."""
        functions = run.program.functions
        for i, function in enumerate(functions):
            if function.toward is not None:
                run.priority[i] = run.priority[function.toward]
            if function.given is not None or function.dormant:
                run.state[i] = DONE
                run.unfinished -= 1
            if function.given is not None:
                run.take_given(i, function.given)
                if function.function is not None:
                    run.place(i, run.holder[i])
                    self._emit(reports.cached(run, i))
                for dependent in run.dependents[i]:
                    run.missing[dependent] -= 1
                self._handover.promise(run, i)
        ready = [i for i, missing in enumerate(run.missing) if not missing and run.state[i] == WAITING]
        if run.unplaced:
            ready = [i for i in ready if i not in run.unplaced]
        hidden = [i for i in ready if run.is_hidden(i)] if run.program.serializers else []
        for i in hidden:
            self.ready(run, i)
        self._dispatcher.enqueue_many(run, [i for i in ready if i not in hidden] if hidden else ready)
        self._endings.settle(run)

    def ready(self, run: Progress, i: int) -> None:
        """All inputs of ``i``, which waits, are there."""
        function = run.program.functions[i]
        if function.beside is not None and function.toward is not None:
            if run.node[function.toward] is None:
                return  # it is not known yet for which node it serializes
            beside = run.holder[function.beside]
            run.place(i, beside if beside in self._ledger.open else run.node[function.toward])
        if self._ledger.home(run, i) is not None:
            self._dispatcher.enqueue(run, i)
        elif function.toward is not None and run.state[function.toward] == DONE:
            run.move(i, DONE)  # without a result, like one that was lost and is not needed
            run.unfinished -= 1
        # else it, or the function that it serializes for, is about to be given another node

    def resume(self, run: Progress, i: int) -> None:
        """Function ``i``, or what it serializes for, was given another node."""
        if run.state[i] == WAITING and not run.missing[i]:
            self.ready(run, i)
        else:
            self._handover.consider(run, i)

    def succeed(self, run: Progress, i: int, event: Finished) -> None:
        """The attempt at ``i`` made its result."""
        if i in run.cancelled:
            self._emit(Free((event.id,)))
            self._handover.break_promise(run, i)
            self._endings.mark_cancelled(run, i, event)
            return
        run.move(i, DONE)
        run.holder[i] = run.node[i]
        run.inline[i] = event.inline is not None
        if run.cost_class[i]:
            self._emit(reports.stop(run, i, event))
        if run.program.serializers:
            self._spare(run, i)
        self.made(run, (i,))

    def _spare(self, run: Progress, i: int) -> None:
        """Function ``i`` ended before it could be recalled: what would serialize for it again waits for no node."""
        for producer in run.program.functions[i].inputs:
            if run.is_hidden(producer) and run.state[producer] == WAITING and not run.missing[producer]:
                self.ready(run, producer)

    def made(self, run: Progress, functions: Sequence[int]) -> None:
        """The results of these are there: those who wait for them may be ready."""
        run.unfinished -= len(functions)
        missing, state, dependents = run.missing, run.state, run.dependents
        for i in functions:
            for dependent in dependents[i]:
                missing[dependent] -= 1
                if missing[dependent] or self._handover.complete(run, dependent):
                    continue
                if state[dependent] == READY:
                    self._dispatcher.enqueue(run, dependent)
                elif state[dependent] == WAITING:
                    self.ready(run, dependent)
            self._handover.promise(run, i)
        self._endings.settle(run)

    # -- again ---------------------------------------------------------------------

    def restart(self, run: Progress, i: int) -> None:
        """Have ``i`` run again as soon as its inputs are there; those that were lost are made again."""
        run.move(i, WAITING)
        self._pursue(run, i)

    def recompute(self, run: Progress, i: int) -> None:
        """Make the lost result of ``i`` again."""
        self._revive(run, i)
        self._pursue(run, i)

    def _revive(self, run: Progress, i: int) -> None:
        run.move(i, WAITING)
        run.given.pop(i, None)
        run.unfinished += 1
        run.recomputed += not run.is_hidden(i)

    def _pursue(self, run: Progress, first: int) -> None:
        stack = [first]
        while stack:
            i = stack.pop()
            if run.state[i] != WAITING:
                continue  # skipped meanwhile
            consumer = run.program.functions[i].toward
            if consumer is not None and run.state[consumer] in DEAD:
                self._endings.skip(run, i, consumer)
                self._endings.settle(run)
                continue
            if self._ledger.home(run, i) is None and not run.is_hidden(i):
                self.need_node(run, i)
            if not run.missing[i]:
                self.ready(run, i)
                continue
            for producer in run.program.functions[i].inputs:
                if run.is_lost(producer):
                    self._revive(run, producer)
                    stack.append(producer)
                elif run.state[producer] in DEAD:
                    self._endings.skip(run, i, producer)
                    self._endings.skip_dependents(run, i, producer)
                    break
            else:
                self._handover.consider(run, i)

    def need_node(self, run: Progress, i: int) -> None:
        """Function ``i`` has to be given another node before it can be ready."""
        run.unplaced.add(i)
        self.unplaced[run] = None

    def relocate(self, run: Progress, i: int, target: str) -> None:
        """Function ``i``, which waits, goes to a node where it can begin sooner."""
        source = run.node[i] or ""
        run.place(i, target)
        self._emit(reports.move(run, i, source, target, f"node {target!r} can take it sooner"))

    def withdraw(self, run: Progress, i: int) -> None:
        """The attempt at ``i`` is over and never ran: it is not counted, and starts again when it can."""
        self._handover.break_promise(run, i)
        self._handover.withdraw(run, i)
        target = self._ledger.open.get(run.moving.pop(i, ""))
        if target is not None and run.program.functions[i].cost.fits_in(target.capabilities):
            self.relocate(run, i, target.name)
        self._pursue(run, i)

    # -- attempts that made nothing --------------------------------------------------

    def attempt_failed(self, run: Progress, i: int, event: Failed, *, expected: bool = False) -> None:
        """The attempt at ``i`` failed: try again, or not. ``expected``: its node was asked to go."""
        before = run.state[i]
        failure = event.failure
        self._handover.break_promise(run, i)
        never_ran = failure.kind is FailureKind.INPUT and self._ledger.takes_ahead(run.node[i])
        if never_ran and (before == REVOKED or (before == SUBMITTED and run.missing[i])):
            if before == SUBMITTED:  # its node heard before us that an input will not come
                run.late.add(i)
            self.withdraw(run, i)
            return
        died = failure.kind in (FailureKind.DIED, FailureKind.NODE)
        if before == STOPPING and (died or never_ran or i in run.cancelled):
            self._endings.mark_cancelled(run, i, event)
            return
        if run.cost_class[i]:
            self._emit(reports.exception(run, i, event))
        if failure.kind is FailureKind.DIED or (died and before == RUNNING and not expected):
            failure = count_death(run, i, failure)
        if before == STOPPING or not may_retry(run, i, failure, before == REVOKED):
            self._endings.fail(run, i, failure)
        else:
            self._retry(run, i, failure)

    def _retry(self, run: Progress, i: int, failure: Failure) -> None:
        delay = delay_of(run, i, failure)
        if run.cost_class[i]:
            run.retries += 1
            self._emit(reports.retry(run, i, delay, failure.message.partition("\n")[0]))
        if delay:
            run.move(i, DELAYED)
            self._timers.set(delay, Due.TRY_AGAIN, run.id, i)
        else:
            self.restart(run, i)

    def attempt_cancelled(self, run: Progress, i: int, event: Cancelled) -> None:
        """The attempt at ``i`` ended as it was told to, or its backend's nodes are being closed."""
        self._handover.break_promise(run, i)
        if run.state[i] == REVOKED and self._ledger.takes_ahead(run.node[i]):
            self.withdraw(run, i)
        elif run.state[i] == REVOKED:
            self.restart(run, i)
        else:
            self._endings.mark_cancelled(run, i, event)

    def revoke(self, run: Progress, i: int) -> None:
        """Take back an attempt that was submitted: it starts again, unless it runs by now."""
        how: HowToEnd = "recall" if self._ledger.takes_ahead(run.node[i]) else "interrupt"
        run.move(i, REVOKED)
        self._emit(Stop(AttemptId(run.id, i, run.number[i]), how))

    # -- results that are gone ---------------------------------------------------------

    def lose(self, run: Progress, i: int) -> None:
        """The result of ``i`` is not where it was; who has not begun to use it waits again."""
        if run.inline[i]:
            run.hold_here(i)
            for dependent in run.dependents[i]:  # what was handed over may look for it where it was
                if run.state[dependent] == SUBMITTED and self._ledger.takes_ahead(run.node[dependent]):
                    self.revoke(run, dependent)
            return
        run.holder[i] = None
        self._handover.break_promise(run, i)
        for dependent in run.dependents[i]:
            run.missing[dependent] += 1
            state = run.state[dependent]
            if state == READY:
                run.move(dependent, WAITING)
            elif state == SUBMITTED:
                self.revoke(run, dependent)

    def is_needed(self, run: Progress, i: int) -> bool:
        """Whether the result of ``i`` is wanted, or something that has not begun to run takes it."""
        if i in run.wanted:
            return True
        return any(run.state[d] in PENDING or run.state[d] == REVOKED for d in run.dependents[i])
