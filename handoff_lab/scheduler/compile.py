"""Turns a DAG into a program: inline functions dissolve into their dependents, serializers become hidden functions."""

from __future__ import annotations

from collections.abc import Container, Hashable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from types import MappingProxyType

from handoff_lab._errors import FunctionTimeoutError
from handoff_lab.graph import DAG, Argument, Collocated, Function
from handoff_lab.graph.references import Serializer
from handoff_lab.messages import HERE, AttemptId
from handoff_lab.scheduler.program import Crossing, Program, ScheduledFunction, crossing, seen_as

_NOTHING_GIVEN: Mapping[Hashable, tuple[AttemptId, str]] = MappingProxyType({})


def compile_program(
    dag: DAG,
    targets: Iterable[Hashable] | None = None,
    *,
    run: str,
    given: Mapping[Hashable, tuple[AttemptId, str]] = _NOTHING_GIVEN,
) -> Program:
    """The program of a run.

    Parameters
    ----------
    dag
        A valid DAG.
    targets
        Ids of the functions that are wanted; None: those that no other needs.
    run
        The run's id.
    given
        Id to key and node of results that are there already, from an earlier run: they and
        what only they need are not run again, unless they are lost. Inputs are given here,
        under the number 0.

    Raises
    ------
    MissingFunctionError
        For a target that is not there.
    InvalidFunctionError
        For an inline target.

    Examples
    --------
    >>> dag = DAG().add(Function("xs", lambda: [1]), Function("total", sum, args=["xs"]))
    >>> [(f.id, f.inputs) for f in compile_program(dag, run="r").functions]
    [('xs', ()), ('total', (0,))]
    """
    wanted = sinks(dag) if targets is None else list(dict.fromkeys(targets))
    needed = dag.functions if targets is None else dag.subgraph(wanted)  # which refuses what can't be a target
    compiler = _Compiler(dag, run, given, _to_run(dag, wanted, given) if given else needed.keys())
    for function in needed.values():
        compiler.add(function)
    return compiler.program(wanted)


def sinks(dag: DAG) -> list[Hashable]:
    """Functions that no other needs; an inline one has no result, so what it would have needed is wanted instead."""
    sinks: list[Hashable] = []
    seen: set[Hashable] = set()
    functions = dag.functions.values()
    needed = {arg.id if isinstance(arg, Argument) else arg for function in functions for arg in function.args}
    stack: list[Hashable] = [id for id in reversed(dag.functions) if id not in needed]
    while stack:
        id = stack.pop()
        if id in seen:
            continue
        seen.add(id)
        if dag.functions[id].type == "inline":
            stack.extend(dag.dependencies(id))
        else:
            sinks.append(id)
    return sinks


def _to_run(dag: DAG, wanted: Iterable[Hashable], given: Container[Hashable]) -> set[Hashable]:
    """What has to run so that ``wanted`` is there."""
    found: set[Hashable] = set()
    stack: list[Hashable] = list(wanted)
    while stack:
        id = stack.pop()
        if id not in found and id not in given:
            found.add(id)
            stack.extend(dag.dependencies(id))
    return found


class _Compiler:
    def __init__(
        self, dag: DAG, run: str, given: Mapping[Hashable, tuple[AttemptId, str]], to_run: AbstractSet[Hashable]
    ) -> None:
        self._dag = dag
        self._run = run
        self._given = given
        self._to_run = to_run
        self._groups = dag.collocation_groups()
        self._homes = {self._groups[id]: node for id, (_, node) in given.items() if id in self._groups and node != HERE}
        self._inlined: dict[Hashable, list[Hashable]] = {}  # inline function to the args that it brings along
        self._functions: list[ScheduledFunction] = []
        self._index: dict[Hashable, int] = {}
        self._serializers: dict[int, Serializer] = {}
        self._crossings: dict[Crossing, int] = {}

    def add(self, function: Function) -> None:
        if function.type == "inline":
            self._inlined[function.id] = self._flattened(function)
        elif function.type == "input":
            key = AttemptId(self._run, len(self._functions), 0)
            self._append(ScheduledFunction(function.id, given=(key, HERE)))
        else:
            args = self._flattened(function) if self._inlined else function.args
            self._append(
                ScheduledFunction(
                    function.id,
                    self._inputs(args, function),
                    function.cost,
                    function,
                    self._allocated(args, function),
                    self._given.get(function.id),
                    self._is_dormant(function),
                    self._homes.get(self._groups[function.id]) if self._homes and function.id in self._groups else None,
                    max_retries=function.max_retries,
                    retry_delay=function.retry_delay,
                    retries_timeout=_retries_timeout(function),
                )
            )

    def _append(self, scheduled: ScheduledFunction) -> None:
        self._index[scheduled.id] = len(self._functions)
        self._functions.append(scheduled)

    def _flattened(self, function: Function) -> list[Hashable]:
        """The args of a function, then those of the inline functions among them; none twice."""
        own: dict[Hashable, None] = {}
        brought: dict[Hashable, None] = {}
        for arg in function.args:
            inlined = self._inlined.get(arg.id if isinstance(arg, Argument) else arg)
            if inlined is None:
                own[arg] = None
            else:
                brought.update(dict.fromkeys(inlined))
        return list(own | brought)

    def _is_dormant(self, function: Function) -> bool:
        return function.id not in self._to_run and function.id not in self._given

    def _allocated(self, args: Sequence[Hashable], function: Function) -> Function:
        if function.node is None and not self._inlined:
            return function
        node = self._bound_to(function)
        inlined = bool(self._inlined) and not self._inlined.keys().isdisjoint(function.dependencies)
        if inlined:
            return seen_as(function, args=tuple(args), parameters=None, node=node)
        return function if node == function.node else seen_as(function, node=node)

    def _bound_to(self, function: Function) -> str | Collocated | None:
        """What a chain of collocations comes to, whether those in it run or not: its root, or the root's pin."""
        if not isinstance(function.node, Collocated):
            return function.node
        root = self._groups[function.id]
        pin = self._dag.functions[root].node
        return Collocated(root) if pin is None else pin

    def _inputs(self, args: Sequence[Hashable], function: Function) -> tuple[int, ...]:
        if Argument not in map(type, args):
            return tuple(dict.fromkeys(map(self._index.__getitem__, args))) if args else ()
        serialized = {crossing(arg, function): arg for arg in args if isinstance(arg, Argument) and arg.serialize}
        toward = len(self._functions) + len(serialized)
        for key, arg in serialized.items():
            self._hide(key, arg, function, toward)
        return tuple(dict.fromkeys(self._input(arg, function) for arg in args))

    def _hide(self, key: Crossing, argument: Argument, consumer: Function, toward: int) -> None:
        assert argument.serialize is not None
        hidden = self._crossings[key] = len(self._functions)
        self._serializers[hidden] = argument.serialize
        producer = self._index[argument.id]
        self._functions.append(
            ScheduledFunction(
                f"{argument.id} for {consumer.id}",
                (producer,),
                dormant=consumer.id not in self._to_run,
                beside=producer,
                toward=toward,
                max_retries=consumer.max_retries,
                retry_delay=consumer.retry_delay,
            )
        )

    def _input(self, arg: Hashable, consumer: Function) -> int:
        if not isinstance(arg, Argument):
            return self._index[arg]
        if arg.serialize is None:
            return self._index[arg.id]
        return self._crossings[crossing(arg, consumer)]

    def program(self, wanted: Iterable[Hashable]) -> Program:
        return Program(
            self._run,
            self._dag.name,
            tuple(self._functions),
            tuple(self._index[id] for id in wanted),
            self._index,
            self._serializers,
            self._crossings,
            self._together() if self._groups else {},
        )

    def _together(self) -> dict[Hashable, tuple[int, ...]]:
        together: dict[Hashable, list[int]] = {}
        for i, scheduled in enumerate(self._functions):
            node = None if scheduled.allocated is None else scheduled.allocated.node
            if isinstance(node, Collocated):
                together.setdefault(node.id, []).append(i)
        roots = {id: [self._index[id]] if id in self._index else [] for id in together}
        return {id: tuple(sorted(roots[id] + members)) for id, members in together.items()}


def _retries_timeout(function: Function) -> bool:
    return function.retry_on is Exception or issubclass(FunctionTimeoutError, function.retry_on)
