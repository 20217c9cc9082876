"""Asks allocators: where the functions of a new run go, and where those whose node is gone go instead."""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Mapping, Sequence

from handoff_lab._errors import AllocationError
from handoff_lab.allocation import allocate
from handoff_lab.graph import Collocated, Function
from handoff_lab.messages import Command, Failure, FailureKind, Free
from handoff_lab.resources import Resources
from handoff_lab.scheduler import reports
from handoff_lab.scheduler.ledger import Ledger
from handoff_lab.scheduler.lifecycle import Lifecycle
from handoff_lab.scheduler.program import Program, ScheduledFunction, seen_as
from handoff_lab.scheduler.state import DONE, PENDING, Progress


class Placement:
    """Gives functions their nodes."""

    def __init__(self, ledger: Ledger, lifecycle: Lifecycle, emit: Callable[[Command], None]) -> None:
        self._ledger = ledger
        self._lifecycle = lifecycle
        self._emit = emit
        self._reasons: dict[str, str] = {}  # why nodes are gone

    def remember(self, node: str, reason: str) -> None:
        """The node is gone, for this reason."""
        self._reasons[node] = reason

    def allocate(self, run: Progress) -> None:
        """Give the functions of a new run their nodes."""
        known = self._ledger.open
        capabilities = self._ledger.capabilities(run.options.nodes)
        to_run = [(i, function) for i, function in enumerate(run.program.functions) if function.is_to_run]
        functions = [_at_home(function, capabilities) for _, function in to_run]
        for name in run.options.nodes or ():
            if name not in known and functions:
                there = ", ".join(map(repr, sorted(known))) or "none"
                reason = f"is to run on {name!r}, which is not there (nodes: {there})"
                raise AllocationError(functions[0].id, functions[0].cost, reason=reason)
        answer = allocate(run.options.allocator, functions, capabilities)
        nodes, priority = answer.nodes, answer.priority
        run.priority = [priority.get(f.id, float(i)) for i, f in enumerate(run.program.functions)]
        for i, function in to_run:
            run.node[i] = nodes[function.id]

    def place_again(self) -> None:
        """Give the functions whose node is gone another one; those that fit on none fail."""
        unplaced = self._lifecycle.unplaced
        while unplaced:
            run, _ = unplaced.popitem()
            pending = [i for i in sorted(run.unplaced) if run.state[i] in PENDING]
            run.unplaced.clear()
            homeless = [i for i in pending if run.node[i] not in self._ledger.open]
            for i in set(pending).difference(homeless):  # the node is there again
                self._resume(run, i)
            if homeless:
                self._place(run, homeless)

    def _place(self, run: Progress, homeless: Sequence[int]) -> None:
        capabilities = self._ledger.capabilities(run.options.nodes)
        targets = self._neighbours(run, homeless)
        asked: dict[Hashable, int] = {}
        for i in homeless:
            function = run.program.functions[i].allocated
            assert function is not None
            if not _fits(function, targets.get(i), capabilities):
                self._fail(run, i, _why_not(function, capabilities))
            elif i not in targets:
                asked[function.id] = i
        while asked and run.ending is None:
            functions = [f for i in asked.values() if (f := run.program.functions[i].allocated) is not None]
            try:
                answer = allocate(run.options.allocator, functions, capabilities)
            except AllocationError as error:
                culprit = error.function if error.function in asked else next(iter(asked))
                self._fail(run, asked.pop(culprit), f"and it has no other: {error}")
            else:
                targets.update((i, answer[id]) for id, i in asked.items())
                break
        for i, target in targets.items():
            if run.state[i] in PENDING:
                self._move(run, i, target)

    def _neighbours(self, run: Progress, homeless: Sequence[int]) -> dict[int, str]:
        """Homeless functions that are collocated with one that has a node: they follow it."""
        roots = {_root(run.program, i): i for i in homeless}
        homes = {
            root: node
            for i, node in enumerate(run.node)
            if node in self._ledger.open and (root := _root(run.program, i)) in roots and not run.is_hidden(i)
        }
        return {i: home for i in homeless if (home := homes.get(_root(run.program, i))) is not None}

    def _move(self, run: Progress, i: int, target: str) -> None:
        source, run.node[i] = run.node[i], target
        if source is not None:  # it was given a node before
            self._emit(reports.move(run, i, source, target, self._reasons.get(source, "")))
        for producer in run.program.functions[i].inputs:
            if run.is_hidden(producer) and run.state[producer] == DONE:
                self._serialize_again(run, producer)
        self._resume(run, i)

    def _resume(self, run: Progress, i: int) -> None:
        """Function ``i`` has a node: it may be ready, and what is serialized for it too."""
        for producer in run.program.functions[i].inputs:
            if run.is_hidden(producer):
                self._lifecycle.resume(run, producer)
        self._lifecycle.resume(run, i)

    def _serialize_again(self, run: Progress, hidden: int) -> None:
        """What a serializer made was for the node that is gone."""
        source = run.source(hidden)
        if source is not None:
            self._emit(Free((source[0],)))
            run.inline[hidden] = False
            self._lifecycle.lose(run, hidden)
        self._lifecycle.recompute(run, hidden)

    def _fail(self, run: Progress, i: int, why: str) -> None:
        if run.state[i] not in PENDING:
            return  # skipped since, or the run stops
        reason = self._reasons.get(run.node[i] or "")
        gone = f"node {run.node[i]!r} is gone{f' ({reason})' if reason else ''}"
        self._lifecycle.fail_unstarted(run, i, Failure(FailureKind.NODE, f"{gone}, {why}", retryable=False))


def _root(program: Program, i: int) -> Hashable:
    """What the function is collocated with; itself, as a rule."""
    function = program.functions[i]
    node = None if function.allocated is None else function.allocated.node
    return node.id if isinstance(node, Collocated) else function.id


def _at_home(scheduled: ScheduledFunction, capabilities: Container[str]) -> Function:
    """The function as allocators see it, bound to the node of a kept result with which it is collocated."""
    function = scheduled.allocated
    assert function is not None
    if scheduled.home is None or scheduled.home not in capabilities or isinstance(function.node, str):
        return function
    return seen_as(function, node=scheduled.home)


def _fits(function: Function, home: str | None, capabilities: Mapping[str, Resources]) -> bool:
    """Whether any of the nodes that the function may go to could hold it."""
    bound = home or (function.node if isinstance(function.node, str) else None)
    if bound is not None:
        return bound in capabilities and function.cost.fits_in(capabilities[bound])
    return any(function.cost.fits_in(has) for has in capabilities.values())


def _why_not(function: Function, capabilities: Mapping[str, Resources]) -> str:
    if isinstance(function.node, str):
        return "to which it is pinned; start the node again or remove the pin"
    if not capabilities:
        return "and no other is left; add a node"
    return f"and no node that is left can take what costs {function.cost}; add one that can"
