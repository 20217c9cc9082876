"""Takes in what many brief functions of one run made, told in columns, and tells it on in columns."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence

from handoff_lab.messages import Command, Finished, FinishedMany, Free, ReportFinished
from handoff_lab.scheduler.dispatch import Dispatcher
from handoff_lab.scheduler.handover import HandOver
from handoff_lab.scheduler.ledger import Ledger, NodeState
from handoff_lab.scheduler.lifecycle import Lifecycle
from handoff_lab.scheduler.state import DONE, SUBMITTED, Progress


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
            self._emit(Free(tuple(event.ids())))
            return
        node = self._node(run, event)
        places = [] if node is None else self._ordinary(run, node, event)
        if len(places) < len(event.functions):  # first: what holds a claim by itself gives it back
            self._take_rest(event, set(places))
        if node is not None and places:
            self._take_ordinary(run, node, event, places)
            self._handover.learn(node, sum(event.ended) - sum(event.started), len(event.functions))
            self._handover.flush()
            self._report(run, node, event, places)

    def _node(self, run: Progress, event: FinishedMany) -> NodeState | None:
        for i in event.functions:
            if run.state[i] == SUBMITTED:
                return self._ledger.nodes.get(run.node[i] or "")
        return None

    def _ordinary(self, run: Progress, node: NodeState, event: FinishedMany) -> list[int]:
        """Places in the columns of those that were on their way on ``node``, of which no start was told.

        Where the coordinator grants claims there are none: each gives back its own. Nor where one is told twice.
        """
        if not node.keeps_ledger or len({*event.functions}) < len(event.functions):
            return []
        state, number, where, name, cancelled = run.state, run.number, run.node, node.name, run.cancelled
        return [
            at
            for at, (i, n) in enumerate(zip(event.functions, event.numbers, strict=True))
            if state[i] == SUBMITTED and number[i] == n and where[i] == name and i not in cancelled
        ]

    def _take_ordinary(self, run: Progress, node: NodeState, event: FinishedMany, places: Sequence[int]) -> None:
        holder, inline, early, cost_class = run.holder, run.inline, run.early, run.cost_class
        functions = [event.functions[at] for at in places]
        run.move_all(functions, DONE)
        in_flight = 0
        for at, i in zip(places, functions, strict=True):
            if early[i]:
                self._handover.settle(run, i, node)
            holder[i] = node.name
            inline[i] = event.inline[at] is not None
            in_flight += cost_class[i] > 0
        self._lifecycle.made(run, functions)
        self._dispatcher.leave_many(run, node, len(places), in_flight)

    def _take_rest(self, event: FinishedMany, taken: set[int]) -> None:
        for at, finished in enumerate(event.each()):
            if at not in taken:
                self.one(finished)

    def _report(self, run: Progress, node: NodeState, event: FinishedMany, places: Sequence[int]) -> None:
        cost_class = run.cost_class
        shown = [at for at in places if cost_class[event.functions[at]]]
        if not shown:
            return
        told = event if len(shown) == len(event.functions) else event.at(shown)
        attempts = [run.attempt(i) for i in told.functions]
        costs = [run.program.functions[i].cost for i in told.functions]
        self._emit(
            ReportFinished(
                run.id,
                node.name,
                told.functions,
                attempts,
                told.started,
                told.ended,
                told.nbytes,
                told.slots,
                told.peak_memory,
                told.logs,
                costs,
                node.claimed,
                node.capabilities,
            )
        )
