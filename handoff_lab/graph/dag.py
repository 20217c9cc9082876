"""A graph of functions: adding, changing, asking, validating."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Self, Unpack, overload

from handoff_lab._errors import DuplicateFunctionError, InvalidDAGError, InvalidFunctionError, MissingFunctionError
from handoff_lab._names import shown
from handoff_lab.graph.closest import closest
from handoff_lab.graph.decorator import Code, FunctionOptions, is_redefinition, make_function, marked_functions
from handoff_lab.graph.fingerprint import fingerprint, with_inputs
from handoff_lab.graph.functions import Function
from handoff_lab.graph.resolution import Resolution


@dataclass(frozen=True, slots=True)
class Difference:
    """Ids by which one DAG differs from another; falsy where they are the same."""

    added: tuple[Hashable, ...]
    removed: tuple[Hashable, ...]
    changed: tuple[Hashable, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


class DAG:
    """Functions, and which needs the result of which.

    Functions may be added in any order: what names nothing is found by
    `validate`, which a run calls first. A change that is refused changes nothing.

    Parameters
    ----------
    name
        Shown in pictures and messages.

    Examples
    --------
    >>> dag = DAG("sum").add(Function("xs", lambda: [1, 2]), Function("agg", sum, args=["xs"]))
    >>> dag.validate()
    <DAG 'sum': 2 functions>
    >>> dag.dependents("xs")
    ('agg',)
    """

    def __init__(self, name: str = "dag") -> None:
        if not isinstance(name, str):
            raise InvalidDAGError(f"the name of a DAG is {shown(name)}; it must be text")
        self.name = name
        self._added: dict[Hashable, Function] = {}
        self._version = 0  # goes up with each change
        self._resolution: tuple[int, Resolution] | None = None  # of which version

    @classmethod
    def from_module(cls, module: ModuleType, name: str | None = None) -> Self:
        """A DAG of the functions of ``module`` that are marked with ``@hl.function``."""
        return cls(name or module.__name__).add(*marked_functions(module))

    @property
    def id(self) -> str:
        """The name, by which ``hl.get_result`` finds the DAG's latest run."""
        return self.name

    # -- changing ----------------------------------------------------------------

    def add(self, *functions: Function) -> Self:
        """Add all of ``functions``, or none.

        Raises
        ------
        DuplicateFunctionError
            When an id is taken, or comes twice.
        """
        batch: dict[Hashable, Function] = {}
        for function in functions:
            _must_be_function(function)
            if function.id in self._added or function.id in batch:
                raise DuplicateFunctionError(function.id)
            batch[function.id] = function
        self._added.update(batch)
        return self._change(self._added)

    def replace(self, *functions: Function) -> Self:
        """Put each of ``functions`` in the place of the one with its id.

        Raises
        ------
        MissingFunctionError
            When there is none.
        """
        for function in functions:
            _must_be_function(function)
            self._require_added(function.id, "dag.replace")
        self._added.update({function.id: function for function in functions})
        return self._change(self._added)

    def remove(self, *ids: Hashable) -> Self:
        """Take functions out; those that need them are refused by `validate` until that is mended.

        Raises
        ------
        MissingFunctionError
            When one is not there.
        """
        for id in ids:
            self._require_added(id, "dag.remove")
        for id in set(ids):
            del self._added[id]
        return self._change(self._added)

    @overload
    def function(self, code: Code, /) -> Code: ...
    @overload
    def function(self, /, **options: Unpack[FunctionOptions]) -> Callable[[Code], Code]: ...
    def function(self, code: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Add the decorated function; its name stays the plain function.

        Options are those of `Function`. The id is the function's name, and
        without ``args`` its parameters name the results it takes: one without
        default that names no function is an input, one with a default keeps it.
        Defining it again, as when a cell is run again, replaces it.

        Examples
        --------
        >>> dag = DAG()
        >>> @dag.function(cost={"cpu": 1})
        ... def report(agg):
        ...     return f"The answer is {agg}"
        >>> report(42), dag["agg"].type
        ('The answer is 42', 'input')
        """

        def define(code: Code) -> Code:
            self._define(make_function(code, options))
            return code

        return define if code is None else define(code)

    # -- asking ------------------------------------------------------------------

    @property
    def functions(self) -> Mapping[Hashable, Function]:
        """Read-only mapping of id to function in topological order, inputs that were inferred among them."""
        return self._resolved.functions

    def __getitem__(self, id: Hashable) -> Function:
        return self._resolved.require(id, "dag[...]")

    def __contains__(self, id: Hashable) -> bool:
        return id in self.functions

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self.functions)

    def __len__(self) -> int:
        return len(self.functions)

    def __bool__(self) -> bool:
        return True  # an empty graph is a graph: ``dag or default`` must not drop it

    def dependencies(self, id: Hashable) -> tuple[Hashable, ...]:
        """Functions whose results ``id`` takes."""
        self._resolved.require(id, "dag.dependencies")
        return self._resolved.dependencies[id]

    def dependents(self, id: Hashable) -> tuple[Hashable, ...]:
        """Functions that take the result of ``id``."""
        self._resolved.require(id, "dag.dependents")
        return tuple(self._resolved.dependents[id])

    def descendants(self, ids: Iterable[Hashable]) -> tuple[Hashable, ...]:
        """``ids`` and all that depends on them, directly or not, in topological order."""
        ids = [ids] if isinstance(ids, str) else list(ids)
        for id in ids:
            self._resolved.require(id, "dag.descendants")
        found = self._resolved.descendants(ids)
        return tuple(id for id in self.functions if id in found)

    def subgraph(self, targets: Iterable[Hashable]) -> Mapping[Hashable, Function]:
        """The functions that ``targets`` need, themselves included, in topological order.

        Raises
        ------
        MissingFunctionError
            For a target that is not there.
        InvalidFunctionError
            For an inline target, which has no result of its own.
        """
        targets = [targets] if isinstance(targets, str) else list(targets)
        for id in targets:
            if self._resolved.require(id, "targets").type == "inline":
                raise InvalidFunctionError(
                    id, "it is inline and has no result of its own; make it regular, or no target"
                )
        needed = self._resolved.ancestors(targets)
        return {id: function for id, function in self.functions.items() if id in needed}

    def collocation_groups(self) -> Mapping[Hashable, Hashable]:
        """Member to root of every group that shares a node; the root, which may be pinned, stands for itself."""
        return self._resolved.collocation_groups()

    def validate(self) -> Self:
        """Give this DAG back when it can be run.

        Raises
        ------
        MissingFunctionError
            When a function needs, or is collocated with, one that is not there.
        CyclicDependencyError
            When functions wait for each other.
        InvalidFunctionError
            When collocation goes in a circle, or ends at an inline function or an input; when the
            value of an inline function is to be serialized.
        """
        self._resolved.validate()
        return self

    def fingerprint(self, id: Hashable) -> str:
        """A hash of the function and of all that it depends on: another one means that its result is stale."""
        self._resolved.require(id, "dag.fingerprint")
        known = self._resolved.fingerprints
        needed = self._resolved.ancestors([id]) - known.keys()
        for other, function in self.functions.items() if needed else ():
            if other in needed:
                known[other] = with_inputs(function, known)
        return known[id]

    def diff(self, other: DAG) -> Difference:
        """What must change to make this DAG the ``other``: compares each function's own fingerprint."""
        before, after = self.functions, other.functions
        return Difference(
            added=tuple(id for id in after if id not in before),
            removed=tuple(id for id in before if id not in after),
            changed=tuple(id for id in after if id in before and _differ(before[id], after[id])),
        )

    def copy(self) -> DAG:
        """Another DAG of the same functions; changing one leaves the other as it is."""
        twin = DAG(self.name)
        twin._version, twin._added, twin._resolution = self._version, dict(self._added), self._resolution
        return twin

    def __repr__(self) -> str:
        count = len(self)
        return f"<DAG {self.name!r}: {count} function{'' if count == 1 else 's'}>"

    def __getstate__(self) -> dict[str, Any]:
        return {"name": self.name, "_added": self._added, "_version": 0, "_resolution": None}

    @property
    def _resolved(self) -> Resolution:
        known, version = self._resolution, self._version
        if known is None or known[0] != version:  # what shows a DAG reads it while its user changes it
            known = self._resolution = version, Resolution(dict(self._added))
        return known[1]

    def _change(self, added: dict[Hashable, Function]) -> Self:
        self._added = added
        self._version += 1
        return self

    def _define(self, made: Function) -> None:
        """Take a decorated function; the notebook's graph takes it by cells instead."""
        known = self._added.get(made.id)
        again = known is not None and is_redefinition(made, known)
        (self.replace if again else self.add)(made)

    def _require_added(self, id: Hashable, needed_by: str) -> None:
        if id not in self._added:
            raise MissingFunctionError(id, needed_by, closest(id, self._added))


def _must_be_function(function: Function) -> None:
    if not isinstance(function, Function):
        raise InvalidDAGError(f"{function!r} is no hl.Function; make one, or decorate it with @dag.function")


def _differ(one: Function, other: Function) -> bool:
    return one is not other and fingerprint(one) != fingerprint(other)
