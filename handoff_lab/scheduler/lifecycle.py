"""The life of a run's functions: made ready, done, failed, tried again, skipped, cancelled; and the end of the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from handoff_lab.messages import (
    HERE,
    AttemptId,
    Cancelled,
    Command,
    Ended,
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
from handoff_lab.scheduler.handover import HandOver
from handoff_lab.scheduler.ledger import Ledger
from handoff_lab.scheduler.state import (
    CANCELLED,
    DEAD,
    DELAYED,
    DONE,
    FAILED,
    IN_FLIGHT,
    PENDING,
    READY,
    REVOKED,
    RUNNING,
    SKIPPED,
    STOPPING,
    SUBMITTED,
    WAITING,
    Ending,
    FinalFailure,
    Progress,
    State,
)  # fmt: skip
from handoff_lab.scheduler.timers import Due, Timers

_POISON = 3  # deaths of slots or nodes under one function


class Lifecycle:
    """Moves functions from state to state and says so; where they run is not decided here."""

    def __init__(
        self,
        ledger: Ledger,
        dispatcher: Dispatcher,
        handover: HandOver,
        timers: Timers,
        emit: Callable[[Command], None],
    ) -> None:
        self._ledger = ledger
        self._handover = handover
        self._dispatcher = dispatcher
        dispatcher.fail = self.fail_unstarted
        self._timers = timers
        self._emit = emit
        self.finished: dict[Progress, None] = {}  # runs that may be over
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
                run.given[i], run.holder[i] = function.given
                if function.function is not None:
                    run.node[i] = run.holder[i]
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
        self.settle(run)

    def ready(self, run: Progress, i: int) -> None:
        """All inputs of ``i``, which waits, are there."""
        function = run.program.functions[i]
        if function.beside is not None and function.toward is not None:
            if run.node[function.toward] is None:
                return  # it is not known yet for which node it serializes
            beside = run.holder[function.beside]
            run.node[i] = beside if beside in self._ledger.open else run.node[function.toward]
        if run.node[i] in self._ledger.open:
            self._dispatcher.enqueue(run, i)
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
            self._set_cancelled(run, i, event)
            return
        run.move(i, DONE)
        run.holder[i] = run.node[i]
        run.inline[i] = event.inline is not None
        if run.cost_class[i]:
            self._emit(reports.stop(run, i, event))
        self.made(run, (i,))

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
        if not run.unfinished:
            self.finished[run] = None

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
                self._skip(run, i, consumer)
                self.settle(run)
                continue
            if run.node[i] not in self._ledger.open and not run.is_hidden(i):
                self.need_node(run, i)
            if not run.missing[i]:
                self.ready(run, i)
                continue
            for producer in run.program.functions[i].inputs:
                if run.is_lost(producer):
                    self._revive(run, producer)
                    stack.append(producer)
                elif run.state[producer] in DEAD:
                    self._skip(run, i, producer)
                    self._skip_dependents(run, i, producer)
                    break
            else:
                self._handover.consider(run, i)

    def need_node(self, run: Progress, i: int) -> None:
        """Function ``i`` has to be given another node before it can be ready."""
        run.unplaced.add(i)
        self.unplaced[run] = None

    # -- failure -----------------------------------------------------------------

    def attempt_failed(self, run: Progress, i: int, event: Failed, *, expected: bool = False) -> None:
        """The attempt at ``i`` failed: try again, or not. ``expected``: its node was asked to go."""
        before = run.state[i]
        failure = event.failure
        self._handover.break_promise(run, i)
        never_ran = failure.kind is FailureKind.INPUT and self.is_ahead(run, i)
        if never_ran and (before == REVOKED or (before == SUBMITTED and run.missing[i])):
            if before == SUBMITTED:  # its node heard before us that an input will not come
                run.late.add(i)
            self.withdraw(run, i)
            return
        died = failure.kind in (FailureKind.DIED, FailureKind.NODE)
        if before == STOPPING and (died or never_ran or i in run.cancelled):
            self._set_cancelled(run, i, event)
            return
        if run.cost_class[i]:
            self._emit(reports.exception(run, i, event))
        if failure.kind is FailureKind.DIED or (died and before == RUNNING and not expected):
            failure = self._count_death(run, i, failure)
        if before == STOPPING or not self._may_retry(run, i, failure, before == REVOKED):
            self.fail(run, i, failure)
        else:
            self._retry(run, i, failure)

    def is_ahead(self, run: Progress, i: int) -> bool:
        """Whether the node of ``i`` takes functions before they can begin."""
        node = self._ledger.nodes.get(run.node[i] or "")
        return node is not None and node.keeps_ledger

    def withdraw(self, run: Progress, i: int) -> None:
        """The attempt at ``i`` is over and never ran: it is not counted, and starts again when it can."""
        self._handover.break_promise(run, i)
        self._handover.withdraw(run, i)
        target = self._ledger.open.get(run.moving.pop(i, ""))
        if target is not None and run.program.functions[i].cost.fits_in(target.capabilities):
            self.relocate(run, i, target.name)
        self._pursue(run, i)

    def relocate(self, run: Progress, i: int, target: str) -> None:
        """Function ``i``, which waits, goes to a node where it can begin sooner."""
        source, run.node[i] = run.node[i] or "", target
        self._emit(reports.move(run, i, source, target, f"node {target!r} can take it sooner"))

    def _count_death(self, run: Progress, i: int, failure: Failure) -> Failure:
        deaths = run.deaths[i] = run.deaths.get(i, 0) + 1
        if deaths < _POISON:
            return failure
        story = f"{failure.message}; {deaths} slots or nodes died under it, so it is not tried again"
        return replace(failure, message=story, retryable=False)

    def _may_retry(self, run: Progress, i: int, failure: Failure, revoked: bool) -> bool:
        if not failure.retryable:
            return False
        if failure.kind is FailureKind.NODE:
            return True
        if failure.kind is FailureKind.INPUT and (revoked or run.missing[i]):
            return True  # the input was lost with its node
        own = run.program.functions[i].max_retries
        used = run.retried.get(i, 0)
        if used >= (run.options.max_retries if own is None else own):
            return False
        run.retried[i] = used + 1
        return True

    def _retry(self, run: Progress, i: int, failure: Failure) -> None:
        delay = 0.0 if failure.kind is FailureKind.NODE else self._delay(run, i)
        if run.cost_class[i]:
            run.retries += 1
            self._emit(reports.retry(run, i, delay, failure.message.partition("\n")[0]))
        if delay:
            run.move(i, DELAYED)
            self._timers.set(delay, Due.TRY_AGAIN, run.id, i)
        else:
            self.restart(run, i)

    def _delay(self, run: Progress, i: int) -> float:
        first = run.program.functions[i].retry_delay
        if not first:
            return 0.0
        seed = f"{run.id} {i} {run.number[i]}"
        return run.options.backoff.delay(first, run.retried.get(i, 1), seed)

    def fail(self, run: Progress, i: int, failure: Failure) -> None:
        """Function ``i`` failed for good."""
        self._die(run, i, FAILED)
        consumer = run.program.functions[i].toward
        if consumer is not None:
            if run.state[consumer] in PENDING:
                self.fail_unstarted(run, consumer, failure)
        else:
            run.failures[i] = FinalFailure(run.attempt(i), run.deaths.get(i, 0), run.node[i], failure)
        if run.ending is None:
            self._skip_dependents(run, i, i)
            if run.failures and run.options.on_error == "stop":
                self.stop(run, "failed")
        self.settle(run)

    def fail_unstarted(self, run: Progress, i: int, failure: Failure) -> None:
        """Function ``i``, which does not run, failed for good."""
        if run.cost_class[i]:
            self._emit(reports.exception(run, i, Failed(AttemptId(run.id, i, run.number[i]), failure)))
        self.fail(run, i, failure)

    def _skip_dependents(self, run: Progress, i: int, because: int) -> None:
        stack = list(run.dependents[i])
        while stack:
            dependent = stack.pop()
            if run.state[dependent] in PENDING:
                self._skip(run, dependent, because)
                stack.extend(run.dependents[dependent])
        self.settle(run)

    def _skip(self, run: Progress, i: int, because: int) -> None:
        self._die(run, i, SKIPPED)
        if run.cost_class[i]:
            self._emit(reports.skip(run, i, because))

    def _die(self, run: Progress, i: int, state: State) -> None:
        """Function ``i`` won't be done; what would be serialized for it is of no use to another."""
        run.move(i, state)
        run.unfinished -= 1
        if run.program.serializers:
            for producer in run.program.functions[i].inputs:
                if run.is_hidden(producer) and run.state[producer] in PENDING:
                    self._skip(run, producer, i)

    # -- being told to stop --------------------------------------------------------

    def stop(self, run: Progress, status: Ending) -> None:
        """Nothing of the run starts any more, and what runs is told to end."""
        run.ending = status
        self._dispatcher.drop_run(run)
        for i, state in enumerate(run.state):
            if state in PENDING:
                self._set_cancelled(run, i, None)
            elif state in IN_FLIGHT:
                self._tell_to_stop(run, i)
        self.settle(run)

    def cancel(self, run: Progress, i: int) -> None:
        """Cancel one function; what needs it is skipped."""
        if run.state[i] in PENDING:
            self._set_cancelled(run, i, None)
        elif run.state[i] in IN_FLIGHT:
            run.cancelled.add(i)
            self._tell_to_stop(run, i)
        else:
            return
        self._handover.break_promise(run, i)
        self._skip_dependents(run, i, i)

    def attempt_cancelled(self, run: Progress, i: int, event: Cancelled) -> None:
        """The attempt at ``i`` ended as it was told to, or its backend's nodes are being closed."""
        self._handover.break_promise(run, i)
        if run.state[i] == REVOKED and self.is_ahead(run, i):
            self.withdraw(run, i)
        elif run.state[i] == REVOKED:
            self.restart(run, i)
        else:
            self._set_cancelled(run, i, event)
            if run.ending is None:
                self._skip_dependents(run, i, i)

    def _tell_to_stop(self, run: Progress, i: int) -> None:
        told = run.state[i] == STOPPING or (run.state[i] == REVOKED and not self.is_ahead(run, i))  # a recall is no end
        if run.state[i] != STOPPING:
            run.move(i, STOPPING)
        if not told:
            self._emit(Stop(AttemptId(run.id, i, run.number[i])))

    def _set_cancelled(self, run: Progress, i: int, event: Cancelled | Failed | Finished | None) -> None:
        self._die(run, i, CANCELLED)
        if run.cost_class[i]:
            self._emit(reports.cancel(run, i, event))
        self.settle(run)

    # -- results that are gone ---------------------------------------------------------

    def lose(self, run: Progress, i: int) -> None:
        """The result of ``i`` is not where it was; who has not begun to use it waits again."""
        if run.inline[i]:
            run.holder[i] = HERE
            for dependent in run.dependents[i]:  # what was handed over may look for it where it was
                if run.state[dependent] == SUBMITTED and self.is_ahead(run, dependent):
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

    def revoke(self, run: Progress, i: int) -> None:
        """Take back an attempt that was submitted: it starts again, unless it runs by now."""
        how: HowToEnd = "recall" if self.is_ahead(run, i) else "interrupt"
        run.move(i, REVOKED)
        self._emit(Stop(AttemptId(run.id, i, run.number[i]), how))

    def is_needed(self, run: Progress, i: int) -> bool:
        """Whether the result of ``i`` is wanted, or something that has not begun to run takes it."""
        if i in run.wanted:
            return True
        return any(run.state[d] in PENDING or run.state[d] == REVOKED for d in run.dependents[i])

    # -- the end -------------------------------------------------------------------

    def end(self, now: float) -> None:
        """End the runs that are over."""
        finished, self.finished = self.finished, {}
        for run in finished:
            if not run.unfinished and run.status == "running":
                run.status = run.ending or self._verdict(run)
                self._dispatcher.drop_run(run)
                self._emit(reports.run_stop(run, now))
                self._emit(_ended(run))

    def _verdict(self, run: Progress) -> Ending:
        if run.failures:
            return "failed"
        return "cancelled" if CANCELLED in run.state else "done"

    def abandon(self, run: Progress) -> None:
        """The run holds nothing and waits for nothing any more, and nobody is told."""
        for i, state in enumerate(run.state):
            node = self._ledger.nodes.get(run.node[i] or "")
            if state in IN_FLIGHT and node is not None:
                self._dispatcher.leave(run, i, node)
            if state in (*PENDING, *IN_FLIGHT):
                run.state[i] = CANCELLED  # whatever comes of it is fenced off
        self._dispatcher.drop_run(run)
        self.finished.pop(run, None)
        self.unplaced.pop(run, None)

    def settle(self, run: Progress) -> None:
        """See whether the run is over."""
        if not run.unfinished:
            self.finished[run] = None


def _ended(run: Progress) -> Ended:
    assert run.status != "running"
    if run.status != "failed":
        return Ended(run.id, run.status)
    if run.overtime:
        return Ended(run.id, "failed", timeout_s=run.options.timeout_s)
    function, (attempts, deaths, node, failure) = next(iter(run.failures.items()))
    return Ended(run.id, "failed", function, attempts, node, failure, deaths)
