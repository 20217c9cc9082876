"""What will not be done: functions that failed for good, were skipped or cancelled; and the ends of runs."""

from __future__ import annotations

from collections.abc import Callable

from handoff_lab.messages import AttemptId, Cancelled, Command, Ended, Failed, Failure, Finished, Stop
from handoff_lab.scheduler import reports
from handoff_lab.scheduler.dispatch import Dispatcher
from handoff_lab.scheduler.handover import HandOver
from handoff_lab.scheduler.ledger import Ledger
from handoff_lab.scheduler.state import (
    CANCELLED,
    FAILED,
    IN_FLIGHT,
    PENDING,
    REVOKED,
    SKIPPED,
    STOPPING,
    Ending,
    FinalFailure,
    Progress,
    State,
)


class Endings:
    """Ends functions before they are done, tells what runs to stop, and says when a run is over."""

    def __init__(
        self, ledger: Ledger, dispatcher: Dispatcher, handover: HandOver, emit: Callable[[Command], None]
    ) -> None:
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._handover = handover
        self._emit = emit
        self._finished: dict[Progress, None] = {}  # runs that may be over
        dispatcher.fail = self.fail_unstarted

    # -- of functions ----------------------------------------------------------------

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
            self.skip_dependents(run, i, i)
            if run.failures and run.options.on_error == "stop":
                self.stop(run, "failed")
        self.settle(run)

    def fail_unstarted(self, run: Progress, i: int, failure: Failure) -> None:
        """Function ``i``, which does not run, failed for good."""
        if run.cost_class[i]:
            self._emit(reports.exception(run, i, Failed(AttemptId(run.id, i, run.number[i]), failure)))
        self.fail(run, i, failure)

    def skip_dependents(self, run: Progress, i: int, because: int) -> None:
        """What needs ``i``, and has not begun, will not be done."""
        stack = list(run.dependents[i])
        while stack:
            dependent = stack.pop()
            if run.state[dependent] in PENDING:
                self.skip(run, dependent, because)
                stack.extend(run.dependents[dependent])
        self.settle(run)

    def skip(self, run: Progress, i: int, because: int) -> None:
        """Function ``i`` is not run, because of another."""
        self._die(run, i, SKIPPED)
        if run.cost_class[i]:
            self._emit(reports.skip(run, i, because))

    def mark_cancelled(self, run: Progress, i: int, event: Cancelled | Failed | Finished | None) -> None:
        """Function ``i`` ends as cancelled, with what its attempt told last; what needs it is skipped."""
        self._die(run, i, CANCELLED)
        if run.cost_class[i]:
            self._emit(reports.cancel(run, i, event))
        if run.ending is None:
            self.skip_dependents(run, i, i)
        else:
            self.settle(run)

    def _die(self, run: Progress, i: int, state: State) -> None:
        """Function ``i`` won't be done; what would be serialized for it is of no use to another."""
        run.move(i, state)
        run.unfinished -= 1
        if run.program.serializers:
            for producer in run.program.functions[i].inputs:
                if run.is_hidden(producer) and run.state[producer] in PENDING:
                    self.skip(run, producer, i)

    # -- of what runs ----------------------------------------------------------------

    def stop(self, run: Progress, status: Ending) -> None:
        """Nothing of the run starts any more, and what runs is told to end."""
        run.ending = status
        self._dispatcher.drop_run(run)
        for i, state in enumerate(run.state):
            if state in PENDING:
                self.mark_cancelled(run, i, None)
            elif state in IN_FLIGHT:
                self._tell_to_stop(run, i)
        self.settle(run)

    def cancel(self, run: Progress, i: int) -> None:
        """Cancel one function; what needs it is skipped."""
        if run.state[i] in PENDING:
            self.mark_cancelled(run, i, None)
        elif run.state[i] in IN_FLIGHT:
            run.cancelled.add(i)
            self._tell_to_stop(run, i)
        else:
            return
        self._handover.break_promise(run, i)
        self.skip_dependents(run, i, i)

    def _tell_to_stop(self, run: Progress, i: int) -> None:
        state = run.state[i]
        if state == STOPPING:
            return
        run.move(i, STOPPING)
        if state != REVOKED or self._ledger.takes_ahead(run.node[i]):  # a recall is no end
            self._emit(Stop(AttemptId(run.id, i, run.number[i])))

    # -- of runs -----------------------------------------------------------------------

    def settle(self, run: Progress) -> None:
        """See whether the run is over."""
        if not run.unfinished:
            self._finished[run] = None

    def end(self, now: float) -> None:
        """End the runs that are over."""
        finished, self._finished = self._finished, {}
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
        self._finished.pop(run, None)


def _ended(run: Progress) -> Ended:
    assert run.status != "running"
    if run.status != "failed":
        return Ended(run.id, run.status)
    if run.overtime:
        return Ended(run.id, "failed", timeout_s=run.options.timeout_s)
    function, (attempts, deaths, node, failure) = next(iter(run.failures.items()))
    return Ended(run.id, "failed", function, attempts, node, failure, deaths)
