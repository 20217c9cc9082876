"""Asks allocators: where the functions of a new run go, and where those whose node is gone go instead.

What fits on no node now fails, or waits, as far as its run says so, for a node to come or to be given more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Hashable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import islice
from math import inf

from handoff_lab._errors import AllocationError
from handoff_lab.allocation import allocate
from handoff_lab.allocation.groups import any_bound
from handoff_lab.graph import Collocated, Function
from handoff_lab.messages import Command, Failure, FailureKind, Free
from handoff_lab.resources import Resources
from handoff_lab.scheduler import reports
from handoff_lab.scheduler.endings import Endings
from handoff_lab.scheduler.ledger import Ledger, NodeState
from handoff_lab.scheduler.lifecycle import Lifecycle
from handoff_lab.scheduler.patience import absent_pin, awaited, patience, that_wait
from handoff_lab.scheduler.program import Program, ScheduledFunction, seen_as
from handoff_lab.scheduler.state import DONE, PENDING, Progress, Wait
from handoff_lab.scheduler.timers import Due, Timers

_NOTHING = Resources()
_MANY = 64  # nodes among which an allocator chooses anew for those whose node is gone, or twice as many as they are


class Placement:
    """Gives functions their nodes."""

    def __init__(
        self,
        ledger: Ledger,
        lifecycle: Lifecycle,
        endings: Endings,
        timers: Timers,
        emit: Callable[[Command], None],
        advice: Callable[[], str],
    ) -> None:
        self._ledger = ledger
        self._endings = endings
        self._lifecycle = lifecycle
        self._timers = timers
        self._emit = emit
        self._advice = advice
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
                reason = f"is to run on {name!r}, which is not there (nodes: {there}); leave it out of nodes, or add it"
                raise AllocationError(functions[0].id, functions[0].cost, reason=reason)
        later = that_wait(functions, run.options, capabilities)
        if later:
            functions = [function for function in functions if function.id not in later]
        if functions and not capabilities and (advice := self._advice()):
            raise AllocationError(functions[0].id, functions[0].cost, reason=f"the cluster has no nodes; {advice}")
        answer = allocate(run.options.allocator, functions, capabilities)
        nodes, priority = answer.nodes, answer.priority
        run.priority = [priority.get(f.id, float(i)) for i, f in enumerate(run.program.functions)]
        for i, function in to_run:
            if function.id in later:
                self._lifecycle.need_node(run, i)
            else:
                run.node[i] = nodes[function.id]  # nobody has asked yet what was given to which node

    def place_again(self) -> None:
        """Give the functions whose node is gone another one; those that fit on none wait for one, or fail."""
        unplaced = self._lifecycle.unplaced
        while unplaced:
            run, _ = unplaced.popitem()
            pending = [i for i in sorted(run.unplaced) if run.state[i] in PENDING]
            run.unplaced.clear()
            homeless = [i for i in pending if not self._is_home(run, i)]
            for i in set(pending).difference(homeless):  # the node is there again
                run.waits.pop(i, None)
                self._resume(run, i)
            if homeless:
                self._place(run, homeless)

    def look_again(self, runs: Iterable[Progress], node: NodeState) -> None:
        """A node came, or has other capabilities: what waits for it, or fits there, may have its place."""
        for run in runs:
            if run.status == "running" and run.ending is None:
                kinds = [(pin, cost) for pin, cost in run.seekers if _concerns(node, pin, cost)]
                for i in [i for kind in kinds for i in run.seekers.pop(kind) if i in run.waits]:
                    self._lifecycle.need_node(run, i)

    def give_up(self, run: Progress) -> None:
        """Functions of the run that waited long enough fail."""
        overdue = [i for i, wait in run.waits.items() if wait.until <= self._timers.now]
        for i in overdue:
            wait = run.waits.pop(i)
            if run.state[i] in PENDING:  # not skipped since
                self._fail_late(run, i, wait)

    def _is_home(self, run: Progress, i: int) -> bool:
        """Whether the node of ``i`` is there and can hold it."""
        node = self._ledger.home(run, i)
        return node is not None and run.program.functions[i].cost.fits_in(node.capabilities)

    def _place(self, run: Progress, homeless: Sequence[int]) -> None:
        capabilities = self._ledger.capabilities(run.options.nodes)
        targets = self._neighbours(run, homeless)
        refused = self._refused(run, homeless, targets, capabilities)
        for i in sorted(refused):
            targets.pop(i, None)
            self._refuse(run, i, capabilities)
        asked = {run.program.functions[i].id: i for i in homeless if i not in refused and i not in targets}
        while asked and run.ending is None:
            functions = [f for i in asked.values() if (f := run.program.functions[i].allocated) is not None]
            try:
                answer = allocate(run.options.allocator, functions, self._choice(run, functions, capabilities))
            except AllocationError as error:
                culprit = error.function if error.function in asked else next(iter(asked))
                i = asked.pop(culprit)
                if not self._stay(run, i):
                    self._fail(run, i, f"and it has no other: {error}")
            else:
                targets.update((i, answer[id]) for id, i in asked.items())
                break
        for i, target in targets.items():
            run.waits.pop(i, None)
            if run.state[i] in PENDING:
                self._move(run, i, target)

    def _choice(
        self, run: Progress, functions: Sequence[Function], capabilities: Mapping[str, Resources]
    ) -> Mapping[str, Resources]:
        """Of very many nodes, those that have the least to do, where allocators leave it to us to even that out."""
        if len(capabilities) <= _MANY or not run.options.rebalances or any_bound(functions):
            return capabilities
        nodes = sorted(capabilities, key=lambda name: self._ledger.open[name].load)
        chosen: set[str] = set()
        for cost, times in Counter(function.cost for function in functions).items():
            fitting = (name for name in nodes if cost.fits_in(capabilities[name]))
            chosen.update(islice(fitting, max(_MANY, 2 * times)))
        return {name: has for name, has in capabilities.items() if name in chosen}

    def _refused(
        self,
        run: Progress,
        homeless: Sequence[int],
        targets: Mapping[int, str],
        capabilities: Mapping[str, Resources],
    ) -> AbstractSet[int]:
        """Those that fit on none of the nodes that they may go to; of a group that may wait, all or none."""
        functions = run.program.functions
        seen = {i: function for i in homeless if (function := functions[i].allocated) is not None}
        fits = _Fits(capabilities)
        alone = {i for i, function in seen.items() if not fits(function, targets.get(i))}
        if run.options.wait_for_capacity_s:
            free = [function for i, function in seen.items() if i not in targets]
            apart = that_wait(free, run.options, capabilities)
            alone |= {i for i in seen if i not in targets and functions[i].id in apart}
        return alone

    def _neighbours(self, run: Progress, homeless: Sequence[int]) -> dict[int, str]:
        """Homeless functions that are collocated with one that has a node: they follow it."""
        together = run.program.together
        if not together:
            return {}
        moving = set(homeless)
        homes = {
            root: node
            for root in {_root(run.program, i) for i in homeless}
            for i in together.get(root, ())
            if i not in moving and (node := run.node[i]) in self._ledger.open and node is not None
        }
        return {i: home for i in homeless if (home := homes.get(_root(run.program, i))) is not None}

    def _move(self, run: Progress, i: int, target: str) -> None:
        source = run.node[i]
        run.place(i, target)
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

    def _refuse(self, run: Progress, i: int, capabilities: Mapping[str, Resources]) -> None:
        """Function ``i`` fits on no node: it waits for one, if it may."""
        function = run.program.functions[i].allocated
        assert function is not None
        pin = absent_pin(function, capabilities)
        patience_s = patience(run.options, pin)
        before = run.waits.pop(i, None)
        if run.state[i] not in PENDING or self._stay(run, i):
            return  # else it was skipped since, or the run stops
        if not patience_s:
            if isinstance(function.node, str):
                run.place(i, function.node)
            self._fail(run, i, self._why_not(function, capabilities))
        elif before is not None and before.pin == pin:
            self._seek(run, i, before)
        else:
            self._wait(run, i, Wait(pin, patience_s, self._timers.now + patience_s))

    def _stay(self, run: Progress, i: int) -> bool:
        """Leave function ``i`` on its node, which is to go when that is done; whether it can be so."""
        node = self._ledger.retiring.get(run.node[i] or "")
        if node is None or not run.program.functions[i].cost.fits_in(node.capabilities):
            return False
        run.stays.add(i)
        self._resume(run, i)
        return True

    def _wait(self, run: Progress, i: int, wait: Wait) -> None:
        self._seek(run, i, wait)
        if wait.until < inf:
            self._timers.set(wait.patience_s, Due.GIVE_UP_WAITING, run.id)
        self._emit(reports.wait(run, i, awaited(run, i, wait)))

    def _seek(self, run: Progress, i: int, wait: Wait) -> None:
        run.waits[i] = wait
        function = run.program.functions[i].allocated
        assert function is not None
        pin = function.node if isinstance(function.node, str) else None
        is_alone = pin is not None or _root(run.program, i) not in run.program.together
        run.seekers.setdefault((pin, function.cost if is_alone else _NOTHING), []).append(i)  # groups: all or none

    def _fail(self, run: Progress, i: int, why: str) -> None:
        if run.state[i] not in PENDING:
            return  # skipped since, or the run stops
        self._endings.fail_unstarted(
            run, i, Failure(FailureKind.NODE, f"{self._gone(run.node[i])}, {why}", retryable=False)
        )

    def _fail_late(self, run: Progress, i: int, wait: Wait) -> None:
        if wait.pin is None:
            story = f"waited {wait.patience_s:g} s for {awaited(run, i, wait)}; add one, or lower the cost"
            failure = Failure(FailureKind.CAPACITY, story, retryable=False)
        else:
            run.place(i, wait.pin)
            story = f"to which it is pinned, and did not come within {wait.patience_s:g} s"
            failure = Failure(FailureKind.NODE, f"{self._gone(wait.pin)}, {story}", retryable=False)
        self._endings.fail_unstarted(run, i, failure)

    def _why_not(self, function: Function, capabilities: Mapping[str, Resources]) -> str:
        if function.node in capabilities:
            return f"to which it is pinned, and it costs {function.cost}; lower its cost or remove the pin"
        if isinstance(function.node, str):
            return "to which it is pinned; start the node again or remove the pin"
        if not capabilities:
            return f"and no other is left; {self._advice() or 'add a node'}"
        return f"and no node that is left can take what costs {function.cost}; add one that can"

    def _gone(self, name: str | None) -> str:
        if name in self._ledger.open:
            return f"node {name!r} has too little"
        reason = self._reasons.get(name or "")
        return f"node {name!r} is gone ({reason})" if reason else f"node {name!r} is not there"


def _concerns(node: NodeState, pin: str | None, cost: Resources) -> bool:
    """Whether functions of this kind, which have no place, may have one there, or another reason for having none."""
    return pin == node.name or (pin is None and cost.fits_in(node.capabilities))


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


class _Fits:
    """Whether any of the nodes that a function may go to could hold it; remembers, as thousands share a few costs."""

    def __init__(self, capabilities: Mapping[str, Resources]) -> None:
        self._capabilities = capabilities
        self._anywhere: dict[Resources, bool] = {}

    def __call__(self, function: Function, home: str | None) -> bool:
        cost, known = function.cost, self._capabilities
        bound = home or (function.node if isinstance(function.node, str) else None)
        if bound is not None:
            return bound in known and cost.fits_in(known[bound])
        if cost not in self._anywhere:
            self._anywhere[cost] = any(cost.fits_in(has) for has in known.values())
        return self._anywhere[cost]
