"""Asks allocators: where the functions of a new run go, and where those whose node is gone go instead."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence

from handoff_lab._errors import AllocationError
from handoff_lab.allocation import Allocation, allocate
from handoff_lab.graph import Collocated, Function
from handoff_lab.messages import Command, Failure, FailureKind, Free
from handoff_lab.resources import Resources
from handoff_lab.scheduler import reports
from handoff_lab.scheduler.ledger import Ledger
from handoff_lab.scheduler.lifecycle import Lifecycle
from handoff_lab.scheduler.program import Program, RunOptions
from handoff_lab.scheduler.state import DONE, PENDING, Progress


class Placement:
    """Gives functions their nodes."""

    def __init__(self, ledger: Ledger, lifecycle: Lifecycle, this_node: str, emit: Callable[[Command], None]) -> None:
        self._ledger = ledger
        self._lifecycle = lifecycle
        self._this_node = this_node
        self._emit = emit
        self._reasons: dict[str, str] = {}  # why nodes are gone

    def remember(self, node: str, reason: str) -> None:
        """The node is gone, for this reason."""
        self._reasons[node] = reason

    def allocate(self, program: Program, options: RunOptions) -> Allocation:
        """Where the functions of a new run go; nothing is changed."""
        functions = [f.allocated for f in program.functions if f.allocated is not None]
        known = self._ledger.open
        for name in options.nodes or ():
            if name not in known and functions:
                there = ", ".join(map(repr, sorted(known))) or "none"
                reason = f"is to run on {name!r}, which is not there (nodes: {there})"
                raise AllocationError(functions[0].id, functions[0].cost, reason=reason)
        return self._ask(options, functions, self._ledger.capabilities(options.nodes))

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
            function = run.program.functions[i].function
            if function is None or not _fits(function, targets.get(i), capabilities):
                self._fail(run, i)
            elif i not in targets:
                asked[function.id] = i
        while asked and run.ending is None:
            functions = [f for i in asked.values() if (f := run.program.functions[i].allocated) is not None]
            try:
                answer = self._ask(run.options, functions, capabilities)
            except AllocationError as error:
                culprit = error.function if error.function in asked else next(iter(asked))
                self._fail(run, asked.pop(culprit), str(error))
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

    def _ask(
        self, options: RunOptions, functions: Sequence[Function], capabilities: Mapping[str, Resources]
    ) -> Allocation:
        return allocate(options.allocator, functions, capabilities, this_node=self._this_node)

    def _move(self, run: Progress, i: int, target: str) -> None:
        source = run.node[i]
        assert source is not None
        run.node[i] = target
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

    def _fail(self, run: Progress, i: int, why: str = "") -> None:
        if run.state[i] not in PENDING:
            return  # skipped since, or the run stops
        node = run.node[i] or run.given[i]
        reason = self._reasons.get(str(node), "")
        if run.program.functions[i].function is None:
            what = "the result that it kept from an earlier run was there"
        elif why:
            what = why
        else:
            what = "no node that is left can take its function"
        message = f"node {node!r} is gone ({reason}), and {what}"
        failure = Failure(FailureKind.NODE, message, retryable=False)
        self._lifecycle.fail_unstarted(run, i, failure)


def _root(program: Program, i: int) -> Hashable:
    """What the function's chain of collocations ends at; itself, as a rule."""
    id = program.functions[i].id
    function = program.functions[i].function
    while function is not None and isinstance(function.node, Collocated):
        id = function.node.id
        index = program.index.get(id)
        function = None if index is None else program.functions[index].function
    return id


def _fits(function: Function, home: str | None, capabilities: Mapping[str, Resources]) -> bool:
    """Whether any of the nodes that the function may go to could hold it."""
    bound = home or (function.node if isinstance(function.node, str) else None)
    if bound is not None:
        return bound in capabilities and function.cost.fits_in(capabilities[bound])
    return any(function.cost.fits_in(has) for has in capabilities.values())
