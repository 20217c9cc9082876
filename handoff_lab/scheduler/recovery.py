"""What is done when a node or a result is lost: attempts end, results are made again, functions move."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from handoff_lab.messages import AttemptId, Command, Failed, Failure, FailureKind, NodeLost
from handoff_lab.scheduler import reports
from handoff_lab.scheduler.dispatch import Dispatcher
from handoff_lab.scheduler.ledger import Ledger, NodeState
from handoff_lab.scheduler.lifecycle import Lifecycle
from handoff_lab.scheduler.placement import Placement
from handoff_lab.scheduler.state import (
    DONE,
    IN_FLIGHT,
    PENDING,
    READY,
    REVOKED,
    STOPPING,
    SUBMITTED,
    WAITING,
    Progress,
)


class Recovery:
    """Brings runs through losses."""

    def __init__(
        self,
        ledger: Ledger,
        dispatcher: Dispatcher,
        lifecycle: Lifecycle,
        placement: Placement,
        emit: Callable[[Command], None],
    ) -> None:
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._lifecycle = lifecycle
        self._placement = placement
        self._emit = emit

    def lose_node(self, runs: Iterable[Progress], event: NodeLost) -> None:
        """A node is gone with its attempts and its results."""
        name = event.name
        node = self._ledger.nodes[name]
        affected = [run for run in runs if name in run.node or name in run.holder]
        ended = [(run, i) for run in affected for i in _in_flight_on(run, name)]
        for run, i in ended:
            self._dispatcher.leave(run, i, node)
        self._ledger.leave(name)
        self._placement.remember(name, event.reason)
        results = sum(run.holder.count(name) for run in affected)
        self._emit(reports.node("down", node, reason=event.reason, lost=results))
        untried = _cannot_have_run(node, ended)
        if node.keeps_ledger:
            ended.reverse()  # what was handed over early counts as tried before its inputs are found missing
        for run, i in ended:
            if run.state[i] not in IN_FLIGHT:
                continue  # taken back, because of another that ended here
            if (run, i) in untried and run.state[i] != STOPPING:  # the run may be ended by another that ended here
                self._lifecycle.withdraw(run, i)
                continue
            failure = Failure(FailureKind.NODE, f"node {name!r} was lost: {event.reason}")
            failed = Failed(AttemptId(run.id, i, run.number[i]), failure)
            self._lifecycle.attempt_failed(run, i, failed, expected=event.expected)
        for run in affected:
            self._evacuate(run, name)
            self._lose(run, [i for i, holder in enumerate(run.holder) if holder == name])

    def drain(self, runs: Iterable[Progress], name: str) -> None:
        """A node takes no more functions; those that run there go on."""
        self._emit(reports.node("changed", self._ledger.open.pop(name), draining=True))
        self._placement.remember(name, "it is being drained")
        for run in runs:
            if run.status == "running" and name in run.node:
                self._evacuate(run, name)
                if self._ledger.nodes[name].keeps_ledger:
                    self._recall(run, name)

    def _recall(self, run: Progress, name: str) -> None:
        """What the node was given in advance goes elsewhere."""
        for i, node in enumerate(run.node):
            if node == name and run.state[i] == SUBMITTED:
                self._lifecycle.revoke(run, i)

    def lose_result(self, runs: Iterable[Progress], key: AttemptId, node: str) -> None:
        """One result is not on its node any more."""
        for run in runs:
            if run.id == key.run:
                i = key.function
                self._lose(run, [i] if 0 <= i < len(run.state) and run.source(i) == (key, node) else [])
            elif run.given:
                self._lose(run, [i for i, given in run.given.items() if (given, run.holder[i]) == (key, node)])

    def _evacuate(self, run: Progress, name: str) -> None:
        """What was to run on the node waits for another one."""
        self._dispatcher.drop_node(run, name)
        for i, node in enumerate(run.node):
            if node != name or run.state[i] not in PENDING:
                continue
            if run.state[i] == READY:
                run.move(i, WAITING)
            if run.is_hidden(i):
                self._lifecycle.resume(run, i)
            else:
                self._lifecycle.need_node(run, i)

    def _lose(self, run: Progress, results: Sequence[int]) -> None:
        lost = [i for i in results if run.state[i] == DONE]
        for i in lost:
            self._lifecycle.lose(run, i)
        if run.ending is not None or run.status != "running":
            return
        for i in lost:
            if run.is_lost(i) and self._lifecycle.is_needed(run, i):
                self._lifecycle.recompute(run, i)


def _in_flight_on(run: Progress, name: str) -> list[int]:
    return [i for i, node in enumerate(run.node) if node == name and run.state[i] in IN_FLIGHT]


def _cannot_have_run(node: NodeState, ended: Sequence[tuple[Progress, int]]) -> set[tuple[Progress, int]]:
    """Attempts that the node was given in advance: all but the most urgent, of which the news may have been lost."""
    if not node.keeps_ledger:
        return set()
    waited = [(run.priority[i], i, run) for run, i in ended if run.state[i] in (SUBMITTED, REVOKED)]
    waited.sort(key=lambda entry: entry[:2])
    return {(run, i) for _, i, run in waited[2 * node.slots :]}
