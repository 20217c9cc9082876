"""Moves functions that wait on a slow or overfull node to one that has nothing to do.

Only for runs whose allocator says that its answer may be changed (``RunOptions.rebalances``), only functions that are
bound to no node and have not begun, and only where it is known how long functions take, or that the first one takes
long, so that the wait would be.
What a node cannot hold any more, because it has less than before, moves whatever the allocator says.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from handoff_lab.scheduler.dispatch import Dispatcher
from handoff_lab.scheduler.ledger import Ledger, NodeState
from handoff_lab.scheduler.lifecycle import Lifecycle
from handoff_lab.scheduler.state import PENDING, READY, SUBMITTED, WAITING, Progress
from handoff_lab.scheduler.surplus import WORTH_S, Surplus, is_bound

_AGAIN_S, _EACH_S = 0.1, 1e-4  # between looks for nodes that have too much: at least; for each node, as it sees all
_PATIENCE = 16  # times as long while nothing can move


class Balance:
    """Finds who has too much for those who have nothing."""

    def __init__(self, ledger: Ledger, dispatcher: Dispatcher, lifecycle: Lifecycle) -> None:
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._lifecycle = lifecycle
        self._next = 0.0  # when to look again
        self._patience = 1
        self._vain: dict[tuple[str, str], float] = {}  # when a node is worth another look, by run and node

    def even_out(self, runs: Iterable[Progress], now: float) -> bool:
        """Give nodes that have nothing to do some of what waits elsewhere; whether anything moved."""
        if now < self._next:
            return False
        pause = max(_AGAIN_S, _EACH_S * len(self._ledger.open))
        self._next = now + pause
        nodes = [node for node in self._ledger.open.values() if node.keeps_ledger]
        idle = [node for node in nodes if node.in_flight - node.early < node.slots and not node.lanes]
        if not idle or len(idle) == len(nodes):
            return False
        willing = [run for run in runs if run.status == "running" and run.ending is None and run.options.rebalances]
        has_nothing = set(idle)
        paces = {node: _pace(node, now) for node in nodes if node not in has_nothing}
        looked = moved = False
        for run in willing:
            busy = {node: pace for node, pace in paces.items() if pace * run.unfinished > WORTH_S}
            if busy:
                looked = True
                moved |= self._relieve(run, idle, busy, now)
        self._patience = min(2 * self._patience, _PATIENCE) if looked and not moved else 1
        self._next = now + self._patience * pause
        return moved

    def clear_out(self, runs: Iterable[Progress], source: NodeState) -> None:
        """The node has less than before: what it cannot hold any more goes to one that can, if there is one."""
        for run in runs:
            if run.status != "running" or run.ending is not None:
                continue
            for i in self._too_large(run, source):
                fitting = self._fitting(run, i)
                if fitting:
                    self._move(run, source, {i: min(fitting, key=_startable)})

    def _too_large(self, run: Progress, node: NodeState) -> list[int]:
        """Functions that have not begun on the node, and cost more than it has."""
        states = (*PENDING, SUBMITTED) if node.keeps_ledger else PENDING
        functions = run.program.functions
        return [
            i
            for i in run.given_to(node.name)
            if run.node[i] == node.name
            and run.state[i] in states
            and not functions[i].cost.fits_in(node.capabilities)
            and not is_bound(run, i)
        ]

    def _fitting(self, run: Progress, i: int) -> list[NodeState]:
        cost, allowed = run.program.functions[i].cost, run.options.nodes
        nodes = (node for node in self._ledger.open.values() if allowed is None or node.name in allowed)
        return [node for node in nodes if cost.fits_in(node.capabilities)]

    def forget(self, run: str) -> None:
        """Nothing moves of this run any more."""
        self._vain = {kind: until for kind, until in self._vain.items() if kind[0] != run}

    def _relieve(self, run: Progress, idle: Sequence[NodeState], busy: Mapping[NodeState, float], now: float) -> bool:
        """Give each idle node some of what waits longest for another one."""
        allowed = None if run.options.nodes is None else frozenset(run.options.nodes)
        surplus = Surplus(run, busy, len(idle), self._vain, now)
        going: defaultdict[NodeState, dict[int, NodeState]] = defaultdict(dict)  # by source: who goes, and where to
        for target in idle:
            if allowed is None or target.name in allowed:
                taken = surplus.take(target)
                if taken is not None:
                    source, functions = taken
                    going[source].update(dict.fromkeys(functions, target))
                elif surplus.is_over:
                    break
        for source, targets in going.items():
            self._move(run, source, targets)
        return bool(going)

    def _move(self, run: Progress, source: NodeState, targets: Mapping[int, NodeState]) -> None:
        self._dispatcher.take_out(run, source, targets.keys())
        for i in sorted(targets):
            target = targets[i].name
            if run.state[i] == SUBMITTED:  # it goes when its node says that it has not begun
                run.moving[i] = target
                self._lifecycle.revoke(run, i)
                continue
            if run.state[i] == READY:
                run.move(i, WAITING)
            self._lifecycle.relocate(run, i, target)
            self._lifecycle.resume(run, i)


def _startable(node: NodeState) -> int:
    return node.in_flight - node.early


def _pace(node: NodeState, now: float) -> float:
    """Seconds that a function takes on the node: if none is over, what the first took so far, if that is long."""
    if node.pace is not None:
        return node.pace
    elapsed = now - node.since
    return elapsed if elapsed > WORTH_S else 0.0
