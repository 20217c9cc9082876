"""Hands nodes that keep their own ledger their part of a run, before inputs and room are there.

A function may go to its node as soon as all its inputs are *promised*: made, or to be made by attempts that such nodes
have already. When a promise breaks (the attempt failed, was cancelled or lost), what was handed over because of it is
taken back, and what waited in a queue waits for its inputs again. What was taken back counts as never tried.

How much a node is given depends on how long functions take there: enough to keep it busy for a while, no more, so that
the rest can still go elsewhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from itertools import repeat

from handoff_lab.messages import AttemptId, Command, ReportQueued, Start, Stop, ids_of
from handoff_lab.scheduler.ledger import Ledger, NodeState
from handoff_lab.scheduler.state import IN_FLIGHT, READY, SUBMITTED, WAITING, Progress

_BUSY_S = 0.2  # seconds of work that a node is given ahead
_UNKNOWN_S = 0.0004  # taken for the duration of functions that never ran
_MOST = 4096  # functions that a node is given ahead, however brief
_EARLY = 4  # times as many may wait there for inputs
_BRISK = 0.2  # weight of the latest durations in a node's pace
_LONGEST_S = 1e6  # durations beyond this, or that are no numbers, count as this


class HandOver:
    """Keeps promises and their books; the dispatcher, which hears of it through ``dirty``, hands functions over."""

    def __init__(self, ledger: Ledger, emit: Callable[[Command], None]) -> None:
        self._ledger = ledger
        self._emit = emit
        self.dirty: Callable[[NodeState], None]  # something may start on this node
        self.leave: Callable[[Progress, int, NodeState], None]  # an attempt is over
        self._to_tell: dict[Progress, None] = {}  # runs with functions that became ready

    # -- promises ----------------------------------------------------------------------

    def promise(self, run: Progress, i: int) -> None:
        """The result of ``i`` is there, or on its way."""
        if run.promised[i]:
            return
        run.promised[i] = True
        awaited = run.awaited
        for dependent in run.dependents[i]:
            awaited[dependent] -= 1
            if not awaited[dependent]:
                self.consider(run, dependent)

    def goes_out(self, run: Progress, i: int, node: NodeState) -> None:
        """Function ``i`` is handed over to ``node``, before its inputs or not: its result is on its way."""
        if run.missing[i]:
            run.early[i] = True
            node.early += 1
        self.promise(run, i)

    def consider(self, run: Progress, i: int) -> None:
        """Queue ``i`` if it can be handed over early."""
        if run.awaited[i] or run.state[i] != WAITING or not run.missing[i] or not run.ahead or run.ending is not None:
            return
        node = self._ledger.home(run, i)
        if node is not None and node.keeps_ledger and run.cost_class[i] and i not in run.late:
            run.move(i, READY)
            heappush(node.ahead, (run.priority[i], run.id, i, run))
            self.dirty(node)

    def break_promise(self, run: Progress, i: int) -> None:
        """The attempt at ``i`` made nothing, or what it made is lost: take back what builds on it."""
        stack = [i]
        while stack:
            broken = stack.pop()
            if not run.promised[broken]:
                continue
            run.promised[broken] = False
            for dependent in run.dependents[broken]:
                run.awaited[dependent] += 1
                if run.early[dependent] and run.state[dependent] == SUBMITTED:
                    self._take_back(run, dependent)
                    stack.append(dependent)
                elif run.state[dependent] == READY and run.missing[dependent]:
                    run.move(dependent, WAITING)

    def _take_back(self, run: Progress, i: int) -> None:
        """An attempt that waits on its node for what will not come is not waited for: its number fences it off."""
        node = self._ledger.nodes.get(run.node[i] or "")
        if node is not None:
            self.leave(run, i, node)
            self._emit(Stop(AttemptId(run.id, i, run.number[i]), "recall"))
        self.withdraw(run, i)

    def withdraw(self, run: Progress, i: int) -> None:
        """The attempt at ``i`` is over and never ran."""
        run.withdrawn[i] = run.withdrawn.get(i, 0) + 1
        run.move(i, WAITING)

    # -- inputs that come ----------------------------------------------------------------

    def complete(self, run: Progress, i: int) -> bool:
        """All inputs of ``i`` are there; whether it was handed over already."""
        state = run.state[i]
        if state not in IN_FLIGHT:
            return False
        if run.early[i]:
            self.settle(run, i, self._ledger.nodes[run.node[i] or ""])
            if state == SUBMITTED:
                self.tell_queued(run, i)
        return True

    def settle(self, run: Progress, i: int, node: NodeState) -> None:
        """Function ``i``, which was handed over early, waits for its inputs no more."""
        run.early[i] = False
        node.early -= 1

    def tell_queued(self, run: Progress, i: int) -> None:
        """Say, soon, that ``i`` waits for room only."""
        run.queued.append(i)
        self._to_tell[run] = None

    def flush(self) -> None:
        """Say which functions wait for room only."""
        for run in self._to_tell:
            if run.queued:  # without those that ran meanwhile
                queued, run.queued = [i for i in run.queued if run.state[i] in (READY, SUBMITTED)], []
                if queued:
                    nodes = run.node
                    self._emit(ReportQueued(run.id, queued, [nodes[i] or "" for i in queued]))
        self._to_tell.clear()

    def drop_run(self, run: Progress) -> None:
        """Nothing of the run is handed over any more, and nothing told of what waits."""
        self._to_tell.pop(run, None)
        for node in self._ledger.nodes.values():
            if node.ahead:
                node.ahead = [entry for entry in node.ahead if entry[3] is not run]
                heapify(node.ahead)

    # -- how much ------------------------------------------------------------------------

    def learn(self, node: NodeState, seconds: float, functions: int) -> None:
        """Functions on the node took so long in all."""
        mean = max(0.0, min(_LONGEST_S, seconds / functions))  # nodes may say anything
        node.pace = mean if node.pace is None else node.pace + _BRISK * (mean - node.pace)

    def room(self, node: NodeState) -> int:
        """Functions with all their inputs that the node may be given now; none while it still has plenty."""
        window = _window(node)
        startable = node.in_flight - node.early
        return window - startable if startable < node.slots or startable <= window // 2 else 0

    def fill_early(self, node: NodeState, start: Callable[[Progress, Sequence[int], NodeState], None]) -> None:
        """Give the node functions whose inputs are still to come."""
        ahead = node.ahead
        most = _EARLY * _window(node)
        if node.early > most // 2:
            return
        together: defaultdict[Progress, list[int]] = defaultdict(list)
        while ahead and node.early < most:
            _, _, i, run = heappop(ahead)
            if run.early[i]:
                continue  # what left and came back is in the heap twice
            if run.state[i] == READY and run.missing[i] and run.node[i] == node.name and run.ending is None:
                together[run].append(i)
                self.goes_out(run, i, node)  # what follows from it may be the next
        for run, functions in together.items():
            start(run, functions, node)


def _window(node: NodeState) -> int:
    pace = _UNKNOWN_S if node.pace is None else max(node.pace, 1e-6)
    return node.slots + min(_MOST, int(_BUSY_S * node.slots / pace))


def starts(run: Progress, functions: Sequence[int], node: NodeState) -> list[Start]:
    """The commands that start functions on ``node``; one that takes the result of another comes after it."""
    name, granted = node.name, not node.keeps_ledger
    number, made, priority, program = run.number, run.made, run.priority, run.program.functions
    ids = ids_of(repeat(run.id, len(functions)), functions, [number[i] for i in functions])
    commands = []
    for i, id in zip(functions, ids, strict=True):
        made[i] = id, name
        inputs = program[i].inputs
        sources = tuple([made[producer] for producer in inputs]) if inputs else ()
        commands.append(Start(id, name, sources, priority[i], granted))  # type: ignore[arg-type]  # all are promised
    return commands
