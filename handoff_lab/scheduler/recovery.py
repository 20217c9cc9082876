"""What is done when a node or a result is lost: attempts end, results are made again, functions move."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from handoff_lab.messages import AttemptId, Command, Failed, Failure, FailureKind, NodeLost
from handoff_lab.scheduler import reports
from handoff_lab.scheduler.dispatch import Dispatcher
from handoff_lab.scheduler.endings import Endings
from handoff_lab.scheduler.ledger import Ledger, NodeState
from handoff_lab.scheduler.lifecycle import Lifecycle
from handoff_lab.scheduler.placement import Placement
from handoff_lab.scheduler.state import (
    DONE,
    IN_FLIGHT,
    PENDING,
    READY,
    REVOKED,
    RUNNING,
    STOPPING,
    SUBMITTED,
    WAITING,
    Progress,
)

_VANISHED = 4  # times that a result is made in vain while the nodes that lose it are there


class Recovery:
    """Brings runs through losses."""

    def __init__(
        self,
        ledger: Ledger,
        dispatcher: Dispatcher,
        lifecycle: Lifecycle,
        endings: Endings,
        placement: Placement,
        emit: Callable[[Command], None],
    ) -> None:
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._lifecycle = lifecycle
        self._endings = endings
        self._placement = placement
        self._emit = emit

    def lose_node(self, runs: Iterable[Progress], event: NodeLost) -> None:
        """A node is gone with its attempts and its results."""
        name = event.name
        node = self._ledger.nodes[name]
        there = {run: given for run in runs if (given := run.given_to(name))}
        ended = [
            (run, i) for run, given in there.items() for i in given if run.node[i] == name and run.state[i] in IN_FLIGHT
        ]
        untried = _cannot_have_run(node, ended)
        for run, i in ended:
            self._dispatcher.leave(run, i, node)
        self._ledger.leave(name)
        self._placement.remember(name, event.reason)
        results = sum(run.holder[i] == name for run, given in there.items() for i in given)
        self._emit(reports.node("down", node, reason=event.reason, lost=results))
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
        for run, given in there.items():
            run.vanished = {i: [place for place in places if place != name] for i, places in run.vanished.items()}
            self._evacuate(run, name, given)
            self._lose(run, [i for i in given if run.holder[i] == name])

    def retire(self, runs: Iterable[Progress], name: str) -> None:
        """A node takes no more functions but those that can run nowhere else; those that run there go on."""
        self._emit(reports.node("changed", self._ledger.nodes[name], draining=True))
        self._ledger.retire(name)
        self._clear(runs, name)

    def drain(self, runs: Iterable[Progress], name: str) -> None:
        """A node takes no more functions; those that run there go on."""
        if name in self._ledger.open:
            self._emit(reports.node("changed", self._ledger.nodes[name], draining=True))
        self._ledger.shut(name)
        self._placement.remember(name, "it is being drained")
        self._clear(runs, name)

    def _clear(self, runs: Iterable[Progress], name: str) -> None:
        """What has not begun on the node goes elsewhere, if it can."""
        for run in runs:
            run.stays = {i for i in run.stays if run.node[i] != name}
            if run.status == "running":
                given = run.given_to(name)
                self._evacuate(run, name, given)
                if self._ledger.nodes[name].keeps_ledger:
                    self._recall(run, name, given)

    def _recall(self, run: Progress, name: str, given: Sequence[int]) -> None:
        """What the node was given in advance goes elsewhere."""
        for i in given:
            if run.node[i] == name and run.state[i] == SUBMITTED:
                self._lifecycle.revoke(run, i)

    def lose_result(self, runs: Iterable[Progress], key: AttemptId, node: str) -> None:
        """One result is not on its node any more, or another node cannot fetch it from there."""
        for run in runs:
            if run.id == key.run:
                i = key.function
                lost = [i] if 0 <= i < len(run.state) and run.source(i) == (key, node) else []
            else:
                lost = [i for i, given in run.given.items() if (given, run.holder[i]) == (key, node)]
            for i in lost:
                run.vanished.setdefault(i, []).append(node)
            self._lose(run, lost)

    def catch_up(self, run: Progress, runs: Mapping[str, Progress]) -> None:
        """What a new run was given of earlier ones may have been lost, or moved, since someone asked where it is."""
        for i, key in list(run.given.items()):
            earlier = runs.get(key.run)
            given = key, run.holder[i] or ""
            source = given if earlier is None else earlier.source(key.function)
            if source is None or source[0] != key:
                self.lose_result((run,), *given)
            elif source != given:
                run.have(i, source)

    def results_on(self, run: Progress, node: str) -> Iterator[AttemptId]:
        """Keys of the run's results that lie on a node alone."""
        for i in run.given_to(node):
            source = run.source(i) if run.holder[i] == node and not run.inline[i] else None
            if source is not None and not (run.is_hidden(i) and not self._lifecycle.is_needed(run, i)):
                yield source[0]

    def keep(self, run: Progress, key: AttemptId) -> bool:
        """The coordinator has a result too; whether the run has a use for it."""
        places = [key.function] if run.id == key.run else [i for i, given in run.given.items() if given == key]
        kept = [i for i in places if (source := run.source(i)) is not None and source[0] == key]
        for i in kept:
            run.inline[i] = True
        return bool(kept)

    def _evacuate(self, run: Progress, name: str, given: Sequence[int]) -> None:
        """What was to run on the node waits for another one."""
        self._dispatcher.drop_node(run, name)
        for i in given:
            if run.node[i] != name or run.state[i] not in PENDING:
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
                self._end_vain_efforts(run, i)

    def _end_vain_efforts(self, run: Progress, i: int) -> None:
        """Do not make a result for ever that those who need it never get."""
        places = run.vanished.get(i, ())
        if len(places) >= _VANISHED and run.state[i] in PENDING:
            where = " and ".join(map(repr, sorted(set(places))))
            story = f"its result was made {len(places)} times on {where} and could not be had from there; see node logs"
            self._endings.fail_unstarted(run, i, Failure(FailureKind.INPUT, story, retryable=False))


def _cannot_have_run(node: NodeState, ended: Sequence[tuple[Progress, int]]) -> set[tuple[Progress, int]]:
    """Attempts that the node was given in advance, and had no slot, no room or no input for.

    Where it was not said what a slot runs, the news may have been lost: of two attempts, the most urgent ones. None
    whose inputs were not said to be made: what makes them is more urgent.
    """
    if not node.keeps_ledger:
        return set()
    waited = [(run, i) for run, i in ended if run.state[i] in (SUBMITTED, REVOKED)]
    behind: set[tuple[Progress, int]] = set()
    for run, i in waited:
        function = run.program.functions[i]
        waits = any(run.state[p] != DONE for p in function.inputs)
        if waits or not function.cost.fits_beside(node.claimed, node.capabilities):
            behind.add((run, i))
    free = sorted(
        (entry for entry in waited if entry not in behind), key=lambda entry: (entry[0].priority[entry[1]], entry[1])
    )
    silent = max(0, node.slots - sum(run.state[i] == RUNNING for run, i in ended))
    return behind.union(free[2 * silent :])
