"""Takes in what many brief functions of one run made, told in columns, and tells it on in columns."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from operator import attrgetter

from handoff_lab.messages import AttemptId, Command, Finished, FinishedMany, Free, ReportFinished
from handoff_lab.resources import Resources
from handoff_lab.scheduler.dispatch import Dispatcher
from handoff_lab.scheduler.handover import HandOver
from handoff_lab.scheduler.ledger import Ledger, NodeState
from handoff_lab.scheduler.lifecycle import Lifecycle
from handoff_lab.scheduler.state import DONE, SUBMITTED, Progress

_columns = attrgetter("functions", "numbers", "started", "ended", "nbytes", "inline", "slots", "peak_memory", "logs")


class Columns:
    """Handles ``FinishedMany``; what is out of the ordinary goes to ``one``, function by function."""

    def __init__(
        self,
        runs: MutableMapping[str, Progress],
        ledger: Ledger,
        dispatcher: Dispatcher,
        lifecycle: Lifecycle,
        handover: HandOver,
        emit: Callable[[Command], None],
    ) -> None:
        self._runs = runs
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._lifecycle = lifecycle
        self._handover = handover
        self._emit = emit
        self.one: Callable[[Finished], None]

    def take_many(self, event: FinishedMany) -> None:
        """Take in functions that finished; all ran on one node, as a rule without word of their start."""
        run = self._runs.get(event.run)
        if run is None:
            numbers = zip(event.functions, event.numbers, strict=True)
            self._emit(Free(tuple([AttemptId(event.run, function, number) for function, number in numbers])))
            return
        node = self._node(run, event)
        # What holds a claim of the coordinator's own is taken in one by one, which gives the claim back.
        places = self._take_ordinary(run, node, event) if node is not None and node.keeps_ledger else []
        if node is not None and places:
            self._handover.learn(node, sum(event.ended) - sum(event.started), len(event.functions))
            self._handover.flush()
            self._report(run, node, event, places)
        if len(places) < len(event.functions):
            self._take_rest(event, set(places))

    def _node(self, run: Progress, event: FinishedMany) -> NodeState | None:
        for i in event.functions:
            if run.state[i] == SUBMITTED:
                return self._ledger.nodes.get(run.node[i] or "")
        return None

    def _take_ordinary(self, run: Progress, node: NodeState, event: FinishedMany) -> list[int]:
        """Take in those that were on their way on ``node``; their places in the columns."""
        state, number, holder, inline, where = run.state, run.number, run.holder, run.inline, run.node
        made, early, cost_class, name = self._lifecycle.made, run.early, run.cost_class, node.name
        odd = run.cancelled
        places: list[int] = []
        in_flight = 0
        for at, i in enumerate(event.functions):
            if state[i] != SUBMITTED or number[i] != event.numbers[at] or where[i] != name or i in odd:
                continue
            if early[i]:
                early[i] = False
                node.early -= 1
            run.move(i, DONE)
            holder[i] = name
            inline[i] = event.inline[at] is not None
            in_flight += cost_class[i] > 0
            made(run, i)
            places.append(at)
        self._dispatcher.leave_many(run, node, len(places), in_flight)
        return places

    def _take_rest(self, event: FinishedMany, taken: set[int]) -> None:
        rows = zip(*_columns(event), strict=True)
        for at, (function, number, started, ended, nbytes, inline, slot, peak, log) in enumerate(rows):
            if at not in taken:
                id = AttemptId(event.run, function, number)
                self.one(Finished(id, started, ended, nbytes, inline, slot, peak, log))

    def _report(self, run: Progress, node: NodeState, event: FinishedMany, places: Sequence[int]) -> None:
        cost_class = run.cost_class
        shown = [at for at in places if cost_class[event.functions[at]]]
        if not shown:
            return
        functions, _, started, ended, nbytes, _, slots, peaks, logs = (
            _columns(event)
            if len(shown) == len(event.functions)
            else [[column[at] for at in shown] for column in _columns(event)]
        )
        attempts = [run.attempt(i) for i in functions]
        costs: list[Resources] = [run.program.functions[i].cost for i in functions]
        columns = functions, attempts, started, ended, nbytes, slots, peaks, logs, costs
        self._emit(ReportFinished(run.id, node.name, *columns, node.claimed, node.capabilities))
