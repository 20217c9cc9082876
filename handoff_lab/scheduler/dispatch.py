"""Starts what is ready: the most urgent first, as far as claims, room on the node and the run's limit allow."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from heapq import heappop, heappush, heapreplace
from itertools import count
from math import inf

from handoff_lab.messages import Command, Failure, FailureKind
from handoff_lab.resources import Resources
from handoff_lab.scheduler import reports
from handoff_lab.scheduler.handover import HandOver, starts
from handoff_lab.scheduler.lanes import Lane
from handoff_lab.scheduler.ledger import Ledger, NodeState
from handoff_lab.scheduler.state import READY, SUBMITTED, Progress
from handoff_lab.scheduler.timers import Due, Timers

# Lanes that may be refused on a busy node before it is left alone until something changes there:
# what bounds the work per event where every function has a cost of its own.
_BACKFILL = 32

_NOTHING = Resources()

# Seconds until a tracker that refused for a reason of its own is asked again: at first, and at most.
_SOON, _LATE = 0.5, 30.0


class Dispatcher:
    """Queues of the nodes. What became startable is started by `dispatch`, once for a whole batch of events."""

    def __init__(
        self, ledger: Ledger, timers: Timers, handover: HandOver, prefetch: int, emit: Callable[[Command], None]
    ) -> None:
        self._ledger = ledger
        self._handover = handover
        handover.dirty, handover.leave = self.touch, self.leave
        self._timers = timers
        self._prefetch = prefetch
        self._emit = emit
        self._orders = count()
        self.fail: Callable[[Progress, int, Failure], None]  # what becomes of a function that the tracker broke on
        self._dirty: dict[NodeState, None] = {}
        self._below_limit: dict[Progress, None] = {}
        self._patience = _SOON
        self._is_to_ask = False  # whether a timer is set

    def touch(self, node: NodeState) -> None:
        """Something may start on the node."""
        self._dirty[node] = None

    def enqueue(self, run: Progress, i: int) -> None:
        """Function ``i`` has all its inputs and waits on its node from now on."""
        if run.state[i] != READY:  # else it waited already, to be handed over before its inputs were there
            run.move(i, READY)
        name, cost_class = run.node[i], run.cost_class[i]
        assert name is not None
        lanes = run.lanes.get(name)
        lane = (lanes and lanes.get(cost_class)) or self._open_lane(run, i, name)
        priority = run.priority[i]
        heappush(lane.heap, (priority, i))
        node = lane.node
        if lane.cost:
            node.costed += 1
        if lane.entry is None:
            if not lane.aside:
                self._list(lane)
        elif priority < lane.entry[0]:
            self._list(lane)
        self._dirty[node] = None
        if not cost_class:
            return
        if node.keeps_ledger:
            self._handover.tell_queued(run, i)
        else:
            self._emit(reports.queued(run, i))

    def enqueue_many(self, run: Progress, functions: Sequence[int]) -> None:
        """The same for the first functions of a run, none of which is hidden."""
        lots: dict[tuple[str | None, int], list[int]] = defaultdict(list)
        for i in functions:
            lots[run.node[i], run.cost_class[i]].append(i)
        for lot in lots.values():
            name = run.node[lot[0]]
            assert name is not None
            lane = self._open_lane(run, lot[0], name)
            lane.heap = sorted([(run.priority[i], i) for i in lot])
            lane.node.costed += len(lot) if lane.cost else 0
            self._list(lane)
            self._dirty[lane.node] = None
        run.move_all(functions, READY)
        for i in functions:
            if self._ledger.nodes[run.node[i] or ""].keeps_ledger:
                self._handover.tell_queued(run, i)
            else:
                self._emit(reports.queued(run, i))

    def leave(self, run: Progress, i: int, node: NodeState) -> None:
        """The attempt at ``i`` is over: its room, its claim and its share of the run's limit are free."""
        node.in_flight -= 1
        self._dirty[node] = None
        if run.early[i]:
            self._handover.settle(run, i, node)
        if not run.cost_class[i]:
            return
        run.in_flight -= 1
        if run.capped:
            self._below_limit[run] = None
        cost = run.program.functions[i].cost
        if node.keeps_ledger and i not in run.holding:
            return
        run.holding.discard(i)
        if cost:
            self._ledger.release(node, cost)
            self._emit(reports.released(run, i, cost, node))
            self._readmit_beside(node)

    def leave_many(self, run: Progress, node: NodeState, attempts: int, counted: int) -> None:
        """So many attempts on a node that keeps its own ledger are over; ``counted`` of them by the run's limit."""
        node.in_flight -= attempts
        self._dirty[node] = None
        run.in_flight -= counted
        if run.capped:
            self._below_limit[run] = None

    def began(self, run: Progress, i: int, node: NodeState) -> None:
        """A node that keeps its own ledger said that ``i`` runs: it holds its claim there."""
        cost = run.program.functions[i].cost
        if node.keeps_ledger and cost and self._ledger.claim(node, cost):
            run.holding.add(i)
            self._emit(reports.claimed(run, i, cost, node))

    def changed(self, node: NodeState) -> None:
        """The node has other capabilities than before."""
        node.refused += node.misfits
        node.misfits = []
        self._readmit_beside(node)
        self._dirty[node] = None

    def ask_again(self) -> None:
        """The tracker may have changed its mind about what it refused."""
        self._is_to_ask = False
        self._patience = min(2 * self._patience, _LATE)
        for node in self._ledger.nodes.values():
            self._readmit(node)

    def dispatch(self) -> None:
        """Start all that can start."""
        while self._dirty or self._below_limit:
            dirty, self._dirty = self._dirty, {}
            for node in dirty:
                if node.keeps_ledger:
                    self._hand_over(node)
                else:
                    self._fill(node)
            below, self._below_limit = self._below_limit, {}
            for run in below:
                self._fill_to_limit(run)

    def _fill_to_limit(self, run: Progress) -> None:
        while run.capped and not run.capped[0][2].is_at_limit():
            lane = heappop(run.capped)[2]
            lane.aside = False
            if lane.heap:
                self._list(lane)
                self._dirty[lane.node] = None

    def drop_run(self, run: Progress) -> None:
        """Nothing of the run waits any more."""
        self._handover.drop_run(run)
        for lanes in run.lanes.values():
            for lane in lanes.values():
                lane.clear()
                if lane.aside:
                    lane.node.refused = [other for other in lane.node.refused if other is not lane]
                    lane.node.misfits = [other for other in lane.node.misfits if other is not lane]
                self._dirty[lane.node] = None
        run.lanes.clear()
        run.capped.clear()

    def drop_node(self, run: Progress, name: str) -> None:
        """Nothing of the run waits on the node any more, which is gone."""
        for lane in run.lanes.pop(name, {}).values():
            lane.clear()

    def take_out(self, run: Progress, node: NodeState, functions: AbstractSet[int]) -> None:
        """These functions of the run wait on the node no more."""
        for lane in run.lanes.get(node.name, {}).values():
            lane.take_out(functions)

    def _open_lane(self, run: Progress, i: int, name: str) -> Lane:
        cost_class = run.cost_class[i]
        cost = run.program.functions[i].cost
        node = self._ledger.nodes[name]
        lane = Lane(run, node, _NOTHING if node.keeps_ledger else cost, cost_class > 0, next(self._orders))
        run.lanes.setdefault(name, {})[cost_class] = lane
        return lane

    def _list(self, lane: Lane) -> None:
        """Give the lane its place among those of its node."""
        lane.entry = (lane.heap[0][0], lane.order, lane)
        heappush(lane.node.lanes, lane.entry)

    def _readmit_beside(self, node: NodeState) -> None:
        """Something changed on the node, which a tracker of the user's may take into account for others too."""
        for other in self._ledger.nodes.values() if self._ledger.custom else (node,):
            self._readmit(other)

    def _readmit(self, node: NodeState) -> None:
        if not node.refused:
            return
        for lane in node.refused:
            lane.aside = False
            if lane.heap:
                self._list(lane)
        node.refused = []
        self._dirty[node] = None

    def _fill(self, node: NodeState) -> None:
        lanes = node.lanes
        refused = 0
        # Functions without cost run ahead into the node's own queue, but not in the way of those that hold claims.
        while lanes and node.in_flight < node.slots + (0 if node.costed else self._prefetch):
            entry = lanes[0]
            lane = entry[2]
            i = lane.head() if lane.entry is entry else None
            if i is None:
                heappop(lanes)
                if lane.entry is entry:
                    lane.entry = None
            elif lane.is_at_limit():
                self._set_aside(lane)
                heappush(lane.run.capped, entry)
            elif lane.cost and not self._claim(lane, i):
                if lane.run.state[i] != READY:
                    continue  # the tracker broke on it
                self._set_aside(lane)
                fits = lane.cost.fits_in(node.capabilities)
                (node.refused if fits else node.misfits).append(lane)
                refused += fits
                if refused >= _BACKFILL and node.in_flight:
                    return
            else:
                self._start(lane, i)
                if lane.head() is None:
                    heappop(lanes)
                    lane.entry = None
                elif lane.heap[0][0] != entry[0]:
                    lane.entry = (lane.heap[0][0], lane.order, lane)
                    heapreplace(lanes, lane.entry)

    def _hand_over(self, node: NodeState) -> None:
        """Give a node that keeps its own ledger what it can take in the near future."""
        lanes = node.lanes
        room = self._handover.room(node)
        while lanes and room > 0:
            entry = heappop(lanes)
            lane = entry[2]
            if lane.entry is not entry:
                continue
            lane.entry = None
            functions = lane.take(room, lanes[0][0] if lanes else inf)
            if functions:
                self._submit_all(lane.run, functions, node)
            for i in functions:
                self._handover.goes_out(lane.run, i, node)
            room -= len(functions)
            if lane.head() is None:
                continue
            if lane.is_at_limit():
                lane.aside = True
                heappush(lane.run.capped, entry)
            else:
                self._list(lane)
        self._handover.fill_early(node, self._submit_all)

    def _claim(self, lane: Lane, i: int) -> bool:
        assert lane.cost is not None
        try:
            granted = self._ledger.claim(lane.node, lane.cost)
        except Exception as error:  # a tracker of the user's
            message = f"the resource tracker raised {type(error).__name__}: {error}"
            self.fail(lane.run, i, Failure(FailureKind.EXCEPTION, message, type(error).__name__, retryable=False))
            return False
        if granted:
            self._patience = _SOON
        elif not self._is_to_ask and lane.cost.fits_beside(lane.node.claimed, lane.node.capabilities):
            self._is_to_ask = True
            self._timers.set(self._patience, Due.ASK_TRACKER)
        return granted

    def _set_aside(self, lane: Lane) -> None:
        heappop(lane.node.lanes)
        lane.entry = None
        lane.aside = True

    def _start(self, lane: Lane, i: int) -> None:
        lane.pop()
        self._count(lane.run, (i,), lane.node)
        if lane.cost:
            self._emit(reports.claimed(lane.run, i, lane.cost, lane.node))
        for start in starts(lane.run, (i,), lane.node):
            self._emit(start)

    def _submit_all(self, run: Progress, functions: Sequence[int], node: NodeState) -> None:
        self._count(run, functions, node)
        for start in starts(run, functions, node):
            self._emit(start)

    def _count(self, run: Progress, functions: Sequence[int], node: NodeState) -> None:
        """These functions have their next attempt, on this node."""
        number, cost_class = run.number, run.cost_class
        for i in functions:
            number[i] += 1
            run.in_flight += cost_class[i] > 0
        run.move_all(functions, SUBMITTED)
        if not node.in_flight:
            node.since = self._timers.now
        node.in_flight += len(functions)
