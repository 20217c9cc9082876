"""Moves functions that wait on a slow or overfull node to one that has nothing to do.

Only for runs whose allocator says that its answer may be changed (``RunOptions.rebalances``), only functions that are
bound to no node and have not begun, and only once it is known how long functions take and the wait would be long.
What a node cannot hold any more, because it has less than before, moves whatever the allocator says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet

from handoff_lab.graph import Collocated
from handoff_lab.scheduler.dispatch import Dispatcher
from handoff_lab.scheduler.ledger import Ledger, NodeState
from handoff_lab.scheduler.lifecycle import Lifecycle
from handoff_lab.scheduler.state import PENDING, READY, SUBMITTED, WAITING, Progress

_WORTH_S = 0.5  # of waiting on the one node, while the other has nothing to do
_AGAIN_S, _LATE_S = 0.1, 1.6  # between looks for nodes that have too much: at first, and while nothing can move


class Balance:
    """Finds who has too much for those who have nothing."""

    def __init__(self, ledger: Ledger, dispatcher: Dispatcher, lifecycle: Lifecycle) -> None:
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._lifecycle = lifecycle
        self._next = 0.0  # when to look again
        self._patience = _AGAIN_S
        self._bound: dict[str, frozenset[int]] = {}  # functions that stay where they are, by run

    def even_out(self, runs: Iterable[Progress], now: float) -> bool:
        """Give nodes that have nothing to do some of what waits elsewhere; whether anything moved."""
        if now < self._next:
            return False
        self._next = now + _AGAIN_S
        nodes = [node for node in self._ledger.open.values() if node.keeps_ledger]
        idle = [node for node in nodes if _startable(node) < node.slots and not node.lanes]
        if not idle or len(idle) == len(nodes):
            return False
        willing = [run for run in runs if run.status == "running" and run.ending is None and run.options.rebalances]
        working = [node for node in nodes if node.pace and (_startable(node) >= node.slots or node.lanes)]
        looked = moved = False
        for run in willing:
            busy = [node for node in working if (node.pace or 0.0) * run.unfinished > _WORTH_S]
            if busy:
                looked = True
                moved |= self._relieve(run, idle, busy)
        self._patience = min(2 * self._patience, _LATE_S) if looked and not moved else _AGAIN_S
        self._next = now + self._patience
        return moved

    def clear_out(self, runs: Iterable[Progress], source: NodeState) -> None:
        """The node has less than before: what it cannot hold any more goes to one that can, if there is one."""
        for run in runs:
            if run.status != "running" or run.ending is not None or source.name not in run.node:
                continue
            for i in self._too_large(run, source):
                fitting = self._fitting(run, i)
                if fitting:
                    self._move(run, {i}, source, min(fitting, key=_startable))

    def _too_large(self, run: Progress, node: NodeState) -> list[int]:
        """Functions that have not begun on the node, and cost more than it has."""
        states = (*PENDING, SUBMITTED) if node.keeps_ledger else PENDING
        bound, functions = self._bound_of(run), run.program.functions
        return [
            i
            for i, name in enumerate(run.node)
            if name == node.name
            and run.state[i] in states
            and i not in bound
            and not functions[i].cost.fits_in(node.capabilities)
        ]

    def _fitting(self, run: Progress, i: int) -> list[NodeState]:
        cost, allowed = run.program.functions[i].cost, run.options.nodes
        nodes = (node for node in self._ledger.open.values() if allowed is None or node.name in allowed)
        return [node for node in nodes if cost.fits_in(node.capabilities)]

    def forget(self, run: str) -> None:
        """Nothing moves of this run any more."""
        self._bound.pop(run, None)

    def _relieve(self, run: Progress, idle: Sequence[NodeState], busy: Sequence[NodeState]) -> bool:
        """Give each idle node half of what waits longest for another one."""
        waiting = self._waiting(run, busy)
        moved = False
        for target in idle:
            if run.options.nodes is not None and target.name not in run.options.nodes:
                continue
            source, functions = max(waiting.items(), key=lambda entry: _seconds(*entry))
            if _seconds(source, functions) < _WORTH_S:
                break
            movable = [i for i in functions if run.program.functions[i].cost.fits_in(target.capabilities)]
            going = set(movable[len(movable) // 2 :])
            self._move(run, going, source, target)
            waiting[source] = [i for i in functions if i not in going]
            moved |= bool(going)
        return moved

    def _waiting(self, run: Progress, nodes: Sequence[NodeState]) -> dict[NodeState, list[int]]:
        """Functions that could begin, had their nodes room: the most urgent first, without those that are bound."""
        bound = self._bound_of(run)
        could: dict[str | None, set[int]] = {node.name: set() for node in nodes}
        for (name, _), lane in run.lanes.items():
            if name in could:
                could[name].update(i for _, i in lane.heap if run.state[i] == READY)
        for i in _submitted(run):
            if run.node[i] in could and not run.missing[i]:
                could[run.node[i]].add(i)
        waiting = {node: sorted(could[node.name], key=lambda i: (run.priority[i], i))[node.slots :] for node in nodes}
        return {node: [i for i in functions if i not in bound] for node, functions in waiting.items()}

    def _bound_of(self, run: Progress) -> frozenset[int]:
        bound = self._bound.get(run.id)
        if bound is None:
            bound = self._bound[run.id] = _bound(run)
        return bound

    def _move(self, run: Progress, going: AbstractSet[int], source: NodeState, target: NodeState) -> None:
        self._dispatcher.take_out(run, source, going)
        for i in sorted(going):
            if run.state[i] == SUBMITTED:  # it goes when its node says that it has not begun
                run.moving[i] = target.name
                self._lifecycle.revoke(run, i)
                continue
            if run.state[i] == READY:
                run.move(i, WAITING)
            self._lifecycle.relocate(run, i, target.name)
            self._lifecycle.resume(run, i)


def _startable(node: NodeState) -> int:
    return node.in_flight - node.early


def _seconds(node: NodeState, functions: Sequence[int]) -> float:
    """How long these would keep the node busy, by what is known of it."""
    return (node.pace or 0.0) * len(functions) / max(node.slots, 1)


def _submitted(run: Progress) -> Iterator[int]:
    """Functions that were handed over and have not begun, at the speed at which bytes are looked through."""
    i = run.state.find(SUBMITTED)
    while i >= 0:
        yield i
        i = run.state.find(SUBMITTED, i + 1)


def _bound(run: Progress) -> frozenset[int]:
    """Functions that are pinned, collocated, hidden, or have inputs that are serialized for where they run."""
    functions = run.program.functions
    partners = {
        function.allocated.node.id
        for function in functions
        if function.allocated is not None and isinstance(function.allocated.node, Collocated)
    }
    return frozenset(
        i
        for i, function in enumerate(functions)
        if function.allocated is None
        or function.allocated.node is not None
        or function.home
        or function.id in partners
        or any(run.is_hidden(producer) for producer in function.inputs)
    )
