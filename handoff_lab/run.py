"""A run as its user holds it: state, results, errors, and the verbs that act on it."""

from __future__ import annotations

import asyncio
import math
import os
import pickle
import time
from collections.abc import Callable, Collection, Generator, Hashable, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal

from handoff_lab._errors import (
    AllocationError,
    BackendError,
    FunctionFailedError,
    FunctionTimeoutError,
    HandoffError,
    NodeLostError,
    RunCancelledError,
    RunError,
    RunTimeoutError,
)
from handoff_lab.backends.base import Feature
from handoff_lab.coordinator.state import RunState
from handoff_lab.graph import DAG, Collocated, Function, maps
from handoff_lab.messages import FailureKind
from handoff_lab.results import Results
from handoff_lab.scheduler.state import FinalFailure

if TYPE_CHECKING:
    from os import PathLike
    from pathlib import Path

    from handoff_lab.allocation import Plan
    from handoff_lab.coordinator.verbs import Verbs
    from handoff_lab.store import ResultStore
    from handoff_lab.telemetry.events import Event
    from handoff_lab.telemetry.record import RunRecord
    from handoff_lab.widgets.dag_widget import DAGWidget

_WHILE_IT_RUNS = (Feature.INTERRUPT, Feature.TIMEOUT)  # what can be done to a function then
_LOOK_S = 0.5  # of one wait: Python doesn't end it for a Ctrl-C that came just before it began
RunStatus = Literal["running", "done", "failed", "cancelled"]


class Run:
    """One execution of a DAG: ``cluster.submit`` and ``cluster.execute`` return it.

    Its results stay on the nodes that made them until they are read, and are freed when the run is garbage.

    Attributes
    ----------
    id, dag_id : str
    dag : DAG
        The graph as it was when the run was submitted, its maps cut into chunks.
    record : RunRecord
        Everything that was told of the run so far.
    """

    def __init__(
        self,
        state: RunState,
        coordinator: Verbs,
        begin: Callable[[Run, Collection[Hashable]], Run],
        store: ResultStore | None = None,
        before: Run | None = None,
    ) -> None:
        self._state = state
        self._coordinator = coordinator
        self._begin = begin
        self.id = state.id
        self.dag_id = state.dag.name
        self.dag = state.dag
        self.results: Results = Results(state, coordinator, store, None if before is None else before.results)

    def __repr__(self) -> str:
        lacks = self.lacks.values() if self.status == "running" else ()
        story = "; ".join([self.record.summary(), *lacks])
        return f"<Run {self.id} of {self.dag_id!r}: {self.status}; {story}>"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        from handoff_lab.visualization.display import run_mimebundle

        return run_mimebundle(self)

    # -- what happened -------------------------------------------------------

    @property
    def record(self) -> RunRecord:
        """Everything that was told of the run so far."""
        return self._state.record

    @property
    def status(self) -> RunStatus:
        """``"running"``, ``"done"``, ``"failed"`` or ``"cancelled"``."""
        end = self._state.end
        return "running" if end is None else end.status

    @property
    def functions(self) -> tuple[Hashable, ...]:
        """Ids of what its targets need, with inputs and chunks of maps; inline functions have no life of their own."""
        return tuple(id for id in self.dag.functions if id in self._state.program.index)

    @cached_property
    def part(self) -> DAG:
        """The part of the graph that its targets need, with maps all of whose chunks are in it."""
        if len(self.functions) == sum(function.type != "inline" for function in self.dag.functions.values()):
            return self.dag
        made = self._state.program.index.keys()
        whole = [id for id in maps.ids(self.dag) if (chunks := maps.chunks(self.dag, id)) and made >= set(chunks)]
        needed = self.dag.subgraph(self.functions).keys() | whole
        return DAG(self.dag.name).add(*[function for id, function in self.dag.functions.items() if id in needed])

    @property
    def allocations(self) -> dict[Hashable, str]:
        """The node of each function, by function id; of a map, that of each chunk."""
        return maps.ByFunction(self.dag, self.record.functions.nodes())

    @property
    def attempts(self) -> dict[Hashable, int]:
        """How often each function was tried, by function id."""
        return maps.ByFunction(self.dag, {id: f.attempts for id, f in self.record.functions.items()})

    @property
    def durations(self) -> dict[Hashable, float]:
        """Seconds that each finished function ran, by function id."""
        seconds = {
            id: f.ended - f.started
            for id, f in self.record.functions.items()
            if f.started is not None and f.ended is not None
        }
        return maps.ByFunction(self.dag, seconds)

    @property
    def errors(self) -> dict[Hashable, HandoffError]:
        """What made functions fail for good, by function id; a map has that of the first of its chunks that failed."""
        ids = [(self._state.program.functions[i].id, failure) for i, failure in dict(self._state.failures).items()]
        errors = {id: _error(self.dag[id], failure) for id, failure in ids}
        for map in maps.ids(self.dag) if errors else ():
            first = next((id for id in maps.expanded(self.dag, [map]) if id in errors), None)
            if first is not None:
                errors[map] = errors[first]
        return errors

    def error(self, function: Hashable) -> HandoffError | None:
        """What made one function fail for good, or None; of a map the first of its chunks that failed."""
        for id in maps.expanded(self.dag, [function]):
            failure = self._state.failures.get(self._state.program.index.get(id, -1))
            if failure is not None:
                return _error(self.dag[id], failure)
        return None

    @property
    def logs(self) -> dict[Hashable, str]:
        """What each function wrote to stdout, stderr, logging and warnings, by function id."""
        return maps.ByFunction(self.dag, {id: f.log for id, f in self.record.functions.items() if f.log})

    @property
    def events(self) -> Sequence[Event]:
        """Everything that happened, in order."""
        return self.record.events

    @property
    def setup(self) -> tuple[str, ...]:
        """Source that each slot executed before the run's functions."""
        return self._state.setup

    @property
    def bytes_moved(self) -> int:
        """Bytes of results that went from one node to another."""
        return self.record.transfers.nbytes

    @property
    def recomputed(self) -> int:
        """Functions that ran again because their result was lost with a node."""
        return self.record.recomputed

    @property
    def recomputed_seconds(self) -> float:
        """Seconds that functions ran again because their result was lost."""
        return self.record.recomputed_seconds

    @property
    def plan(self) -> Plan | None:
        """The run as predicted from the functions' durations; None if none says any, or while some have no node."""
        from handoff_lab.planning import plan

        part = self.part
        if not self.record.capabilities or all(f.duration is None for f in part.functions.values()):
            return None
        allocations = self.allocations
        if any(id not in allocations for id, function in part.functions.items() if function.type == "regular"):
            return None
        alone = [f.replace(node=None) for f in part.functions.values() if _is_apart(f, part)]
        return plan(
            part.copy().replace(*alone),
            self.record.capabilities,
            allocation_strategy=lambda functions, nodes: allocations,
        )

    @property
    def lacks(self) -> Mapping[Feature, str]:
        """What its backend can't do to a function that runs, in words; empty on kernels."""
        return {feature: lack for feature, lack in self._state.lacks.items() if feature in _WHILE_IT_RUNS}

    @property
    def cluster_closed(self) -> bool:
        """Whether the nodes are gone, so that nothing of it can be run again."""
        return self._coordinator.closed

    def subscribe(self, callback: Callable[[Event], object]) -> Callable[[], None]:
        """Call back after each event, on a thread of the cluster's, until what is returned is called."""
        return self._state.subscribe_to_each(callback)

    @property
    def news(self) -> RunState:
        """Who tells that something happened, once for many functions, and that the run is over."""
        return self._state

    def when_over(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call back once the run is over, at once if it is, unless what is returned is called before."""
        return self._state.when_over(callback)

    def report(self, path: str | PathLike[str]) -> Path:
        """Write what happened to one HTML file that needs no network, as ``hl.visualization.report`` does."""
        from handoff_lab.visualization import report

        return report(self, path)

    # -- verbs ---------------------------------------------------------------

    def wait(self, timeout: float | None = None) -> Run:
        """Wait until the run is over.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait at most.

        Raises
        ------
        RunTimeoutError
            The run was not over in time; it goes on.
        FunctionFailedError, NodeLostError, AllocationError, RunCancelledError
            What made the run fail.
        RunError
            It would wait for ever: the cluster was detached here, or this process is a fork of the one that holds it.
        """
        self._require_news()
        end = math.inf if timeout is None else time.monotonic() + timeout
        while not self._state.over.wait(min(_LOOK_S, max(0.0, end - time.monotonic()))):
            if timeout is not None and time.monotonic() >= end:
                raise RunTimeoutError(self.id, timeout, waiting=True)
            self._require_news()
        error = self.exception()
        if error is not None:
            raise error
        return self

    def join(self, raise_on_error: bool = True) -> Run:
        """Wait until the run is over, as ``cluster.execute`` does: an interrupt meanwhile cancels it."""
        try:
            return self.wait()
        except (RunError, AllocationError):
            if raise_on_error:
                raise
            return self
        except BaseException:
            self.abandon()
            raise

    def abandon(self) -> None:
        """Cancel it for one who was interrupted while it waited, and may be interrupted again meanwhile."""
        try:
            self.cancel()
        except KeyboardInterrupt:
            self.cancel()

    def __await__(self) -> Generator[Any, None, Run]:
        self._require_news()
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()

        def finish() -> None:
            if not over.done():
                over.set_result(None)

        forget = self._state.when_over(partial(loop.call_soon_threadsafe, finish))
        try:
            yield from over
        finally:  # cancelled, as by a timeout: the run may be over when this loop is closed
            forget()
        return self.wait()

    def _require_news(self) -> None:
        """Raise why the end of the run will never be heard of here."""
        owner = self._state.process
        if self._state.over.is_set():
            return
        if os.getpid() != owner:
            reason = f"belongs to process {owner}, from which this one was forked; wait for it there"
            raise RunError(f"run {self.id} {reason}")
        if self._state.left:
            reason = "goes on, but its cluster was detached here; hl.attach() finds both again"
            raise RunError(f"run {self.id} {reason}")

    def exception(self) -> HandoffError | None:
        """What made the run fail, or None; None too while it goes on."""
        end = self._state.end
        if end is None or end.status == "done":
            return None
        if end.timeout_s is not None:
            return RunTimeoutError(self.id, end.timeout_s)
        if end.failure is None:
            return RunCancelledError(self.id)
        if end.function is None:
            return RunError(f"run {self.id} failed: {end.failure.message}")
        function = self.dag[self._state.program.functions[end.function].id]
        return _error(function, FinalFailure(end.attempts, end.deaths, end.node, end.failure))

    def cancel(self, function: Hashable | None = None) -> None:
        """Cancel the run, or one function of it and what depends on it. Does nothing once it is over.

        Where a backend can't interrupt what runs, that goes on to its end, and the run is over then.

        Raises
        ------
        BackendError
            The function runs, and can't be interrupted.
        """
        if function is None:
            self._coordinator.cancel(self.id)
            return
        indices = {id: self.results.index(id) for id in maps.expanded(self.dag, [function])}
        lack = self.lacks.get(Feature.INTERRUPT)
        for id in indices if lack is not None else ():
            if self.record.functions[id].status == "running":
                raise BackendError(f"function {id!r} runs, and {lack}: it goes on; run.cancel() cancels the rest")
        for index in indices.values():
            self._coordinator.cancel(self.id, index)

    def watch(self) -> DAGWidget | None:
        """A live view of the run, to be shown in a notebook; without one, text on the terminal until it is over."""
        from handoff_lab.widgets.watching import watch

        return watch(self)

    def rerun_failed(self) -> Run:
        """A new run of the same graph that takes over what this one finished, and tries the rest.

        Raises
        ------
        RunError
            This run still goes on.
        """
        return self.rerun()

    def rerun(self, *ids: Hashable, descendants: bool = False) -> Run:
        """A new run of the same graph that takes over what this one finished, except of ``ids``.

        Parameters
        ----------
        *ids
            Functions to run again although they finished, or because their result was lost with its node.
        descendants : bool
            Run everything that depends on them again, too.

        Raises
        ------
        RunError
            This run still goes on.
        """
        if self._state.end is None:
            raise RunError(f"run {self.id} still goes on; wait for it or cancel it before you run its rest again")
        chosen = maps.expanded(self.dag, ids)
        for id in chosen:
            self.results.index(id)  # refuses what was no function of this run
        return self._begin(self, self.dag.descendants(chosen) if descendants else chosen)


def _is_apart(function: Function, dag: DAG) -> bool:
    """Whether it is collocated with what is not in ``dag``."""
    return isinstance(function.node, Collocated) and function.node.id not in dag


def _error(function: Function, final: FinalFailure) -> HandoffError:
    attempts, deaths, node, failure = final
    if failure.kind is FailureKind.CAPACITY:
        return AllocationError(function.id, function.cost, reason=failure.message)
    if failure.kind is FailureKind.NODE:
        return NodeLostError(node or "?", function.id, deaths, failure.message)
    kind = FunctionTimeoutError if failure.kind is FailureKind.TIMEOUT else FunctionFailedError
    error = kind(function.id, node, attempts, failure.traceback, failure.message, failure.inputs)
    if failure.exception is not None:
        try:
            error.__cause__ = pickle.loads(failure.exception)
        except Exception as reason:
            error.add_note(f"the original exception could not be unpickled here: {reason}")
    return error
