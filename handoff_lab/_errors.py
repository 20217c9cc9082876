"""Every error of the package, one tree.

    HandoffError
    ├── InvalidDAGError                  the graph itself is wrong
    │   ├── MissingFunctionError
    │   ├── CyclicDependencyError
    │   ├── DuplicateFunctionError
    │   └── InvalidFunctionError
    ├── ResourceError                    a cost or a capability that makes no sense
    ├── AllocationError                  no place for a function, or an allocator broke a rule
    ├── UnknownStrategyError             an allocation strategy that nobody knows
    ├── RunError                         something went wrong while a run was going
    │   ├── FunctionFailedError
    │   │   └── FunctionTimeoutError
    │   ├── NodeLostError
    │   ├── RunCancelledError
    │   ├── RunTimeoutError
    │   ├── ResultUnavailableError
    │   └── CellFailedError               a cell that %%on ran on a node
    ├── BackendError                     a backend cannot do what was asked
    ├── AuthenticationError
    ├── VersionMismatchError
    └── InvalidTransition                a bug of the scheduler (in ``scheduler.state``)

Errors carry fields, build their one sentence from them, and survive pickling.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Self

from handoff_lab._units import format_cost


class HandoffError(Exception):
    """Base of every error that handoff_lab raises on purpose.

    Subclasses are plain classes whose ``__init__`` takes the fields; pickling
    calls it again with the same arguments, then puts back what was added, such as notes.
    """

    _made_with: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        self = super().__new__(cls, *args)
        self._made_with = (args, kwargs)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        args, kwargs = self._made_with
        return _rebuild, (type(self), args, kwargs), self.__dict__


def _rebuild(cls: type[HandoffError], args: tuple[Any, ...], kwargs: dict[str, Any]) -> HandoffError:
    return cls(*args, **kwargs)


class InvalidDAGError(HandoffError, ValueError):
    """The graph cannot be run as it is."""


class MissingFunctionError(InvalidDAGError, KeyError):
    """Something needs a function that is not in the DAG."""

    def __init__(self, id: Hashable, needed_by: Hashable, suggestions: Sequence[Hashable] = ()) -> None:
        self.id = id
        self.needed_by = needed_by
        self.suggestions = tuple(suggestions)
        hint = ""
        if self.suggestions:
            hint = f"; did you mean {' or '.join(repr(s) for s in self.suggestions)}?"
        hint = hint or "; add it or correct the name"
        super().__init__(f"function {id!r}, needed by {needed_by!r}, is not in the DAG{hint}")

    def __str__(self) -> str:
        return str(self.args[0])  # a KeyError would show its repr


class CyclicDependencyError(InvalidDAGError):
    """Functions wait for each other; ``cycle`` lists them in order, each needing the one before it."""

    def __init__(self, cycle: Sequence[Hashable]) -> None:
        self.cycle = tuple(cycle)
        path = " → ".join(repr(i) for i in (*self.cycle, *self.cycle[:1]))
        super().__init__(f"functions wait for each other in a circle: {path}; remove one of these dependencies")


class DuplicateFunctionError(InvalidDAGError):
    """An id is taken already."""

    def __init__(self, id: Hashable, where: str | None = None) -> None:
        self.id = id
        self.where = where
        place = f" ({where})" if where else ""
        super().__init__(f"the DAG already has a function {id!r}{place}; use dag.replace(...) or another id")


class InvalidFunctionError(InvalidDAGError):
    """A function that contradicts itself."""

    def __init__(self, id: Hashable, reason: str) -> None:
        self.id = id
        self.reason = reason
        super().__init__(f"function {id!r}: {reason}")


class ResourceError(HandoffError, ValueError):
    """A cost or capability that is not a non-negative finite number of a named resource.

    Without a ``resource`` the reason is the whole sentence.
    """

    def __init__(self, resource: object, value: object, reason: str) -> None:
        self.resource = resource
        self.value = value
        self.reason = reason
        super().__init__(reason if resource is None else f"{resource!r}: {value!r} {reason}")


class AllocationError(HandoffError):
    """No node could ever hold a function, or an allocator's answer breaks a guarantee."""

    def __init__(
        self,
        function: Hashable,
        cost: Mapping[str, float] | None = None,
        best_node: str | None = None,
        shortfall: Mapping[str, float] | None = None,
        reason: str | None = None,
    ) -> None:
        self.function = function
        self.cost = dict(cost or {})
        self.best_node = best_node
        self.shortfall = dict(shortfall or {})
        self.reason = reason
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        if self.reason:
            return f"function {self.function!r}: {self.reason}"
        if self.best_node is None:
            reason = "the cluster has no nodes; add one with cluster.add_node(...)"
            return f"function {self.function!r} cannot be placed: {reason}"
        need = f"function {self.function!r} costs {format_cost(self.cost)}, more than any node has"
        lack = format_cost(self.shortfall)
        return f"{need}: {self.best_node!r} comes closest and lacks {lack}; lower the cost or add a node that has it"


class UnknownStrategyError(HandoffError, ValueError):
    """No allocation strategy has this name."""

    def __init__(self, name: object, known: Sequence[str], suggestion: str | None = None) -> None:
        self.name = name
        self.known = tuple(known)
        self.suggestion = suggestion
        hint = f"; did you mean {suggestion!r}?" if suggestion else ""
        names = ", ".join(self.known)
        super().__init__(
            f"no allocation strategy {name!r}{hint} (built in: {names}; or hand over an allocator or a callable)"
        )


class RunError(HandoffError):
    """Something went wrong while a run was going."""


class FunctionFailedError(RunError):
    """A function failed for good; the original exception is ``__cause__`` where it could be pickled."""

    def __init__(
        self,
        function: Hashable,
        node: str | None,
        attempts: int,
        remote_traceback: str = "",
        reason: str = "",
        inputs: str = "",
    ) -> None:
        self.function = function
        self.node = node
        self.attempts = attempts
        self.remote_traceback = remote_traceback
        self.reason = reason
        self.inputs = inputs
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        where = f" on node {self.node!r}" if self.node else ""
        tries = f"attempt {self.attempts}" if self.attempts == 1 else f"{self.attempts} attempts"
        parts = [f"function {self.function!r} failed{where} after {tries}: {self.reason or 'see the traceback'}"]
        if self.inputs:
            parts.append(f"called with {self.inputs}")
        if self.remote_traceback:
            parts.append(f"traceback on the node:\n{self.remote_traceback.rstrip()}")
        return "\n".join(parts)


class FunctionTimeoutError(FunctionFailedError, TimeoutError):
    """A function ran longer than its ``timeout``; tried again if its ``retry_on`` takes this, a `TimeoutError`."""

    def __str__(self) -> str:
        return self._sentence()  # an OSError would show its arguments instead


class NodeLostError(RunError):
    """A function failed for the loss of its node, or of several; ``deaths`` counts slots and nodes that it was on."""

    def __init__(self, node: str, function: Hashable = None, deaths: int = 0, reason: str = "") -> None:
        self.node = node
        self.function = function
        self.deaths = deaths
        self.reason = reason
        why = reason or f"node {node!r} was lost"
        super().__init__(why if function is None else f"function {function!r} failed: {why}")


class RunCancelledError(RunError):
    """The run was cancelled before it was done."""

    def __init__(self, run: str) -> None:
        self.run = run
        super().__init__(f"run {run} was cancelled; run.results keeps what was finished before")


class RunTimeoutError(RunError, TimeoutError):
    """The run took longer than its ``timeout``, or a wait for it did."""

    def __init__(self, run: str, timeout_s: float, waiting: bool = False) -> None:
        self.run = run
        self.timeout_s = timeout_s
        self.waiting = waiting
        tail = "; it still goes on: wait again or run.cancel()" if waiting else " and was cancelled"
        self._sentence = f"run {run} was not done after {timeout_s:g} s{tail}"
        super().__init__(self._sentence)

    def __str__(self) -> str:
        return self._sentence  # an OSError would show its arguments instead


class ResultUnavailableError(RunError, KeyError):
    """A result that was not made, or is not there any more."""

    def __init__(self, function: Hashable, reason: str) -> None:
        self.function = function
        self.reason = reason
        super().__init__(f"no result of {function!r}: {reason}")

    def __str__(self) -> str:
        return str(self.args[0])


class CellFailedError(RunError):
    """A cell raised in the kernel of a node; a notebook shows the traceback of there."""

    def __init__(self, node: str, ename: str, evalue: str, traceback: Sequence[str] = ()) -> None:
        self.node = node
        self.ename = ename
        self.evalue = evalue
        self.traceback = list(traceback)
        super().__init__(f"the cell failed on node {node!r}: {ename}: {evalue}")

    def _render_traceback_(self) -> list[str]:  # IPython calls it
        return [*self.traceback, str(self)]


class BackendError(HandoffError):
    """A backend failed, or cannot do what was asked of it."""


class AuthenticationError(HandoffError):
    """A key was refused, or a secret lies open."""


class VersionMismatchError(HandoffError):
    """Two sides that cannot work together."""

    def __init__(self, what: str, here: str, there: str, where: str) -> None:
        self.what = what
        self.here = here
        self.there = there
        self.where = where
        super().__init__(f"{where} has {what} {there}, here it is {here}; install the same version on both sides")
