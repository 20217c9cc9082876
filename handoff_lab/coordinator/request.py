"""What a user asks for when they run a DAG, made ready for the coordinator on the user's own thread."""

from __future__ import annotations

import math
import secrets
import threading
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, Literal, TypeAlias, TypedDict

import cloudpickle  # type: ignore[import-untyped]

from handoff_lab._errors import InvalidDAGError, InvalidFunctionError
from handoff_lab._names import shown
from handoff_lab._units import MOST_AMOUNT, MOST_SECONDS, is_seconds
from handoff_lab.allocation import AllocatorLike, resolve_allocator
from handoff_lab.coordinator.calls import Calls
from handoff_lab.coordinator.codes import CodeBook
from handoff_lab.coordinator.garbage import collection_paused
from handoff_lab.coordinator.state import RunState
from handoff_lab.graph import DAG, Collocated, maps
from handoff_lab.graph.closest import closest
from handoff_lab.messages import AttemptId
from handoff_lab.scheduler import Backoff, Program, RunOptions, compile_program, sinks
from handoff_lab.store.payload import Frames, Live, Payload
from handoff_lab.telemetry.record import RunRecord

_BACKOFF = Backoff(growth=2.0, most_s=60.0, jitter=0.25)  # as the docstring of Function says

_registry_lock = threading.RLock()
Given: TypeAlias = Mapping[Hashable, tuple[AttemptId, str]]


class RunKeywords(TypedDict, total=False):
    """The options of ``Cluster.submit``, which documents them."""

    inputs: Mapping[Hashable, Any] | None
    allocation_strategy: AllocatorLike | None
    max_retries: int
    max_concurrency: int | None
    timeout: float | None
    on_error: Literal["stop", "continue"]
    wait_for_node: float | bool
    wait_for_capacity: float | bool
    setup: Sequence[str]
    nodes: Sequence[str] | None
    resume: Any  # a Run, which this layer does not know
    again: Iterable[Hashable]


@dataclass(frozen=True, slots=True)
class Request:
    """A DAG, its maps cut into chunks, and how to run it; checked when it is made."""

    dag: DAG
    targets: tuple[Hashable, ...] | None
    inputs: Mapping[Hashable, Any]
    options: RunOptions
    setup: tuple[str, ...]

    @classmethod
    @collection_paused()
    def make(
        cls,
        dag: DAG,
        targets: Hashable | Iterable[Hashable] | None,
        *,
        inputs: Mapping[Hashable, Any] | None = None,
        allocation_strategy: AllocatorLike | None = None,
        max_retries: int = 3,
        max_concurrency: int | None = None,
        timeout: float | None = None,
        on_error: Literal["stop", "continue"] = "stop",
        wait_for_node: float | bool = False,
        wait_for_capacity: float | bool = False,
        setup: Sequence[str] = (),
        nodes: Sequence[str] | None = None,
        sizes: maps.Sizes | None = None,
    ) -> Request:
        """Check everything that can be known to be wrong before a node is asked."""
        if on_error not in ("stop", "continue"):
            raise ValueError(f"on_error is {on_error!r}; it must be 'stop' or 'continue'")
        if not isinstance(dag, DAG):
            raise TypeError(f"a DAG is needed, not {dag!r}; make one with hl.DAG() and add functions to it")
        _require_whole("max_retries", max_retries, 0)
        if max_concurrency is not None:
            _require_whole("max_concurrency", max_concurrency, 1)
        if timeout is not None:
            _require_seconds("timeout", timeout)
        strategy = allocation_strategy or "first_available"
        allocator = resolve_allocator(strategy)
        options = RunOptions(
            allocator=allocator,
            strategy=strategy if isinstance(strategy, str) else getattr(strategy, "__name__", type(strategy).__name__),
            max_retries=max_retries,
            max_concurrency=max_concurrency,
            timeout_s=timeout,
            on_error=on_error,
            nodes=None if nodes is None else _nodes(nodes),
            rebalances=getattr(allocator, "rebalances", False) is True,
            backoff=_BACKOFF,
            wait_for_node_s=_patience("wait_for_node", wait_for_node),
            wait_for_capacity_s=_patience("wait_for_capacity", wait_for_capacity),
        )
        frozen = dag.copy()
        chosen = None if targets is None else maps.expanded(frozen, _as_ids(targets, frozen))
        given = dict(inputs or {})
        _validate(frozen, chosen)
        _check_inputs(frozen, chosen, given)
        ready = maps.cut(frozen, sizes or maps.by_capacity(dict))
        if chosen is not None and ready is not frozen:
            chosen = maps.expanded(ready, chosen)
        return cls(ready, chosen, given, options, _texts("setup", setup, "import numpy as np"))

    def wanting(self, ids: Sequence[Hashable]) -> Request:
        """The same, with these functions among its targets."""
        targets = sinks(self.dag) if self.targets is None else self.targets
        return replace(self, targets=(*targets, *ids))


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run that can be handed to the coordinator."""

    request: Request
    given: Given
    state: RunState
    codes: CodeBook
    values: Mapping[AttemptId, Payload]


@collection_paused()
def prepare(
    request: Request,
    *,
    pickle: bool,
    by_value: Sequence[ModuleType],
    given: Given,
) -> Prepared:
    """Compile the graph, pickle the code and the inputs."""
    run = secrets.token_hex(4)
    program = compile_program(request.dag, request.targets, run=run, given=given)
    codes = CodeBook(run, pickle)
    with _by_value(by_value):
        calls = Calls(program, request.dag.functions, codes, request.setup)
        values = {
            AttemptId(run, program.index[id], 0): _pack(id, value, pickle)
            for id, value in request.inputs.items()
            if id in program.index and id not in given
        }
    state = RunState(run, request.dag, program, calls, RunRecord(), request.setup)
    return Prepared(request, given, state, codes, values)


def take_up(request: Request, run: str, given: Given) -> RunState:
    """The state of a run that was begun elsewhere, to be filled with what happened: nothing is called from here."""
    program = compile_program(request.dag, request.targets, run=run, given=given)
    calls = Calls(Program(run, request.dag.name, ()), {}, CodeBook(run, pickle=False), ())
    return RunState(run, request.dag, program, calls, RunRecord(), request.setup)


def _pack(id: Hashable, value: Any, pickle: bool) -> Payload:
    if not pickle:
        return Live(value)
    try:
        return Frames.dump(value)
    except Exception as error:
        raise InvalidFunctionError(id, f"its value, a {type(value).__name__}, cannot be pickled: {error}") from error


def _validate(dag: DAG, targets: Iterable[Hashable] | None) -> None:
    """Raise what is wrong with the part of ``dag`` that ``targets`` need; None: with all of it."""
    if targets is None:
        dag.validate()
        return
    needed = dict(dag.subgraph(targets))
    while partners := {f.node.id for f in needed.values() if isinstance(f.node, Collocated)} - needed.keys():
        needed |= dag.subgraph(partners)
    DAG(dag.name).add(*needed.values()).validate()


def _check_inputs(dag: DAG, targets: Iterable[Hashable] | None, given: Mapping[Hashable, Any]) -> None:
    wanted = dag.functions if targets is None else dag.subgraph(targets)
    known = {id for id, function in dag.functions.items() if function.type == "input"}
    for id in given:
        if id not in known:
            near = closest(id, known)
            hint = f"; did you mean {near[0]!r}?" if near else f"; its inputs are {sorted(map(str, known))}"
            raise InvalidDAGError(f"the DAG {dag.name!r} has no input {id!r}{hint}")
    for function in wanted.values():
        if function.type == "input" and function.id not in given:
            users = ", ".join(repr(user) for user in dag.dependents(function.id))
            reason = f"it is an input that {users} needs; give it with inputs={{{function.id!r}: ...}}"
            raise InvalidFunctionError(function.id, reason)


def _as_ids(targets: Hashable | Iterable[Hashable], dag: DAG) -> tuple[Hashable, ...]:
    if isinstance(targets, list | set | frozenset | dict) or not isinstance(targets, Hashable):
        return tuple(targets)
    if isinstance(targets, tuple) and targets not in dag.functions:
        return targets
    return (targets,)


@contextmanager
def _by_value(modules: Sequence[ModuleType]) -> Iterator[None]:
    """Let code of these modules travel by value; the registry is the whole process's, so one at a time."""
    with _registry_lock:
        fresh = [module for module in modules if module.__name__ not in cloudpickle.list_registry_pickle_by_value()]
        for module in fresh:
            cloudpickle.register_pickle_by_value(module)
        try:
            yield
        finally:
            for module in fresh:
                cloudpickle.unregister_pickle_by_value(module)


def _nodes(names: Sequence[str]) -> tuple[str, ...]:
    chosen = _texts("nodes", names, "node-1")
    if not chosen:
        raise ValueError("nodes is empty; name at least one, or leave it out for all")
    return chosen


def _texts(name: str, given: object, example: str) -> tuple[str, ...]:
    """Several texts; refuses one alone, which would be taken for its letters."""
    if isinstance(given, Iterable) and not isinstance(given, str | bytes):
        texts = tuple(given)
        if all(isinstance(text, str) for text in texts):
            return texts
    raise TypeError(f"{name} is {shown(given)}; it must be a list of texts, such as [{example!r}]")


def _require_whole(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MOST_AMOUNT:
        raise ValueError(f"{name} is {shown(value)}; it must be a whole number of at least {least}")


def _patience(name: str, value: float | bool) -> float:
    """Seconds of a wait that may be for ever, or not at all."""
    if isinstance(value, bool):
        return math.inf if value else 0.0
    _require_seconds(name, value)
    return value


def _require_seconds(name: str, value: object) -> None:
    if not is_seconds(value):
        raise ValueError(f"{name} is {shown(value)}; it must be a number of seconds, up to {MOST_SECONDS:.0e}")
