"""A vertex of the graph: an id, code, what it needs and what it costs."""

from __future__ import annotations

import copy
import inspect
import reprlib
from collections.abc import Callable, Container, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Never, Protocol

from handoff_lab._errors import InvalidFunctionError
from handoff_lab.graph import checks
from handoff_lab.graph.closest import closest
from handoff_lab.graph.inference import Inferred, infer
from handoff_lab.graph.references import Argument, Collocated, Inclusion, checked_node
from handoff_lab.resources import Resources

ExceptionTypes = type[BaseException] | tuple[type[BaseException], ...]


class Sliceable(Protocol):
    """What a map can be over: ranges, lists, arrays and other sequences."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> Any: ...


@dataclass(frozen=True, slots=True, init=False, repr=False, eq=False)
class Function:
    """Code with an id, the results it needs, what it costs and how it runs.

    Never changes: ``replace`` makes another. Two functions are equal when they
    are the same object; compare ``fingerprint`` for the same meaning.

    Parameters
    ----------
    id
        A string as a rule; any hashable, picklable value.
    code
        What is called. None only for an input.
    args
        Ids of the functions whose results come first, in order; or `Argument`;
        or a mapping of parameter name to either. None takes the names of the
        code's parameters, as the decorator does.
    extra_args, kwargs
        Constants that follow the results, and constants by name.
    cost
        What it holds while it runs: ``{"cpu": 2, "memory": "500MB"}``. A node ends what uses more memory than it
        claims, in its own process: 1.5 times as much, and at least 64 MB more. Of ``gpu`` it sees what it claims
        alone; ``"gpu_memory": "4GiB"`` is what must be free on each.
    node
        None (the allocator decides), a node's name, or ``collocated(id)``.
    type
        ``"regular"``, ``"inline"`` (evaluated inside each dependent) or
        ``"input"`` (a value given when the DAG is run).
    argument_inclusion
        ``"as_list"`` hands all results over as one list.
    max_retries, retry_on, retry_delay
        Tries after the first (None: as the run says), for which exceptions, after how many seconds: each time twice as
        many, up to a minute, and up to a quarter more at random. A timeout counts as `FunctionTimeoutError`. A try that
        is lost with its node is no failure: it is made again even with ``max_retries=0``, until three slots or nodes
        have died under the function.
    timeout
        Seconds one attempt may take.
    runs_in
        ``"process"``, a slot of the node, or ``"kernel"``, the node's own namespace.
    cache
        For keeping results from run to run, which does not work yet: it must be False.
    duration, output_size
        For planning: seconds (or a mapping of node to seconds), and bytes of the result.
    group
        A name under which functions are shown together. Default for the chunks of a map: its id.
    over, chunksize
        Make it a map: ``code(item, ...)`` is called for each item of a range, list, array or other sequence, and the
        result is the list of what it returns. It runs in chunks of so many items, by default about four for each place
        that the nodes have for its cost. A chunk is tried, placed and lost as one; ``duration``, ``output_size`` and
        ``timeout`` are those of one item.
    init, parallelism, batch_size, batch_timeout
        For streams: makes the state of a worker; workers; items per call; seconds to wait for them.

    Raises
    ------
    InvalidFunctionError
        When an option makes no sense, or two contradict each other.
    TypeError
        For an unknown keyword, with the one that was probably meant.

    Examples
    --------
    >>> Function("agg", sum, args=["pre_a"], cost={"cpu": 1})
    Function('agg', sum, args=['pre_a'], cost=Resources({'cpu': 1}))

    A map of ten million items is one function, whatever there is to do:

    >>> Function("cubes", pow, over=range(10_000_000), extra_args=[3])
    Function('cubes', pow, over=range(0, 10000000), extra_args=(3,))
    """

    id: Hashable
    code: Callable[..., Any] | None
    args: tuple[Hashable, ...]  # ids and Arguments
    parameters: tuple[str, ...] | None  # the parameter of each of args; None: by position
    inferred: Inferred | None  # None: args were given
    extra_args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    cost: Resources
    node: str | Collocated | None
    type: Literal["regular", "inline", "input"]
    argument_inclusion: Inclusion
    max_retries: int | None
    retry_on: ExceptionTypes
    retry_delay: float
    timeout: float | None
    runs_in: Literal["process", "kernel"]
    cache: bool
    duration: float | Mapping[str, float] | None
    output_size: float | None
    group: str | None
    over: Sliceable | None
    chunksize: int | None
    init: Callable[..., Any] | None
    parallelism: int
    batch_size: int | None
    batch_timeout: float | None

    def __init__(
        self,
        id: Hashable,
        code: Callable[..., Any] | None = None,
        args: Iterable[Hashable] | Mapping[str, Hashable] | None = (),
        *,
        extra_args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        cost: Mapping[str, float | str] | None = None,
        node: str | Collocated | None = None,
        type: Literal["regular", "inline", "input"] = "regular",
        argument_inclusion: Inclusion = "variadic",
        max_retries: int | None = None,
        retry_on: ExceptionTypes = Exception,
        retry_delay: float = 0.0,
        timeout: float | None = None,
        runs_in: Literal["process", "kernel"] = "process",
        cache: bool = False,
        duration: float | Mapping[str, float] | None = None,
        output_size: float | None = None,
        group: str | None = None,
        over: Sliceable | None = None,
        chunksize: int | None = None,
        init: Callable[..., Any] | None = None,
        parallelism: int = 1,
        batch_size: int | None = None,
        batch_timeout: float | None = None,
        **unknown: Never,
    ) -> None:
        if unknown:
            raise TypeError(_unexpected(next(iter(unknown))))
        put = object.__setattr__
        put(self, "id", checks.hashable(id, "id", id))
        put(self, "code", code)
        put(self, "extra_args", checks.sequence(id, "extra_args", extra_args))
        put(self, "kwargs", checks.keywords(id, kwargs))
        put(self, "cost", checks.cost(id, cost))
        put(self, "node", checked_node(id, node))
        put(self, "type", checks.choice(id, "type", type, checks.TYPES))
        put(self, "argument_inclusion", checks.choice(id, "argument_inclusion", argument_inclusion, checks.INCLUSIONS))
        put(self, "max_retries", checks.optional_whole(id, "max_retries", max_retries, 0))
        put(self, "retry_on", checks.exceptions(id, retry_on))
        put(self, "retry_delay", checks.seconds(id, "retry_delay", retry_delay))
        put(self, "timeout", checks.optional_seconds(id, "timeout", timeout))
        put(self, "runs_in", checks.choice(id, "runs_in", runs_in, checks.PLACES))
        put(self, "cache", checks.cache(id, cache))
        put(self, "duration", checks.duration(id, duration))
        put(self, "output_size", checks.optional_amount(id, "output_size", output_size))
        put(self, "group", checks.optional_name(id, "group", group))
        put(self, "over", None if over is None else checks.over(id, over))
        put(self, "chunksize", checks.optional_whole(id, "chunksize", chunksize, 1))
        put(self, "init", checks.optional_callable(id, "init", init))
        put(self, "parallelism", checks.whole(id, "parallelism", parallelism, 1))
        put(self, "batch_size", checks.optional_whole(id, "batch_size", batch_size, 1))
        put(self, "batch_timeout", checks.optional_seconds(id, "batch_timeout", batch_timeout))
        self._set_args(args)
        checks.shape(self)

    def _set_args(self, args: Iterable[Hashable] | Mapping[str, Hashable] | None) -> None:
        put = object.__setattr__
        put(self, "inferred", None)
        put(self, "parameters", None)
        if isinstance(args, (list, tuple)):  # the common case, without the slow test for a mapping
            values = tuple(args)
        elif args is None and self.code is not None:
            led = self.init is not None or self.over is not None
            inferred = infer(self.id, self.code, extra_args=self.extra_args, kwargs=self.kwargs, led=led)
            values = inferred.choose()
            put(self, "inferred", inferred)
            put(self, "parameters", inferred.parameters(values))
        elif isinstance(args, Mapping):
            put(self, "parameters", tuple(args))
            values = tuple(args.values())
        else:
            values = checks.sequence(self.id, "args", () if args is None else args)
        for value in values:
            if isinstance(value, Function):
                raise InvalidFunctionError(self.id, f"args holds the function {value.id!r} itself; write its id")
            checks.source(self.id, value)
        put(self, "args", values)

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """The args, each as an `Argument`."""
        return tuple(arg if isinstance(arg, Argument) else Argument(arg) for arg in self.args)

    @property
    def dependencies(self) -> tuple[Hashable, ...]:
        """Ids of the functions whose results it needs, each once, in order."""
        if not self.args:
            return ()
        return tuple(dict.fromkeys([arg.id if isinstance(arg, Argument) else arg for arg in self.args]))

    def resolve(self, producers: Container[Hashable]) -> Function:
        """Take the results of ``producers`` for inferred parameters that have a default, too."""
        if self.inferred is None or not self.inferred.optional:
            return self
        args = self.inferred.choose(producers, but=self.id)
        if args == self.args:
            return self
        return self.but(args=args, parameters=self.inferred.parameters(args))

    def but(self, **facts: Any) -> Function:
        """The same with other values of attributes, which are not checked."""
        other = copy.copy(self)
        for name, value in facts.items():
            object.__setattr__(other, name, value)
        return other

    def replace(self, **changes: Any) -> Function:
        """Another function that differs in ``changes``; they are checked as when it is made.

        Examples
        --------
        >>> Function("agg", sum, ["xs"]).replace(id="total", cost={"cpu": 2})
        Function('total', sum, args=['xs'], cost=Resources({'cpu': 2}))
        """
        options = {name: getattr(self, name) for name in _DEFAULTS}
        options["args"] = None if self.inferred else self.given_args()
        return Function(**{"id": self.id, **options, **changes})

    def given_args(self) -> list[Hashable] | dict[str, Hashable]:
        """The args as they are given to ``Function``."""
        return list(self.args) if self.parameters is None else dict(zip(self.parameters, self.args, strict=True))

    def __repr__(self) -> str:
        shown = [repr(self.id)]
        if self.code is not None:
            shown.append(getattr(self.code, "__qualname__", repr(self.code)))
        if self.args:
            shown.append(f"args={self.given_args()!r}")
        if self.over is not None:
            shown.append(f"over={reprlib.repr(self.over)}")
        for name, default in _DEFAULTS.items():
            value = getattr(self, name)
            if name not in ("code", "args", "over") and value not in (default, (), {}):
                shown.append(f"{name}={value!r}")
        return f"Function({', '.join(shown)})"


_DEFAULTS: dict[str, Any] = {
    name: parameter.default
    for name, parameter in inspect.signature(Function).parameters.items()
    if parameter.default is not parameter.empty
}


def _unexpected(keyword: str) -> str:
    meant = closest(keyword, _DEFAULTS)
    hint = f"did you mean {meant[0]!r}?" if meant else f"it takes {', '.join(_DEFAULTS)}"
    return f"Function() got an unexpected keyword argument {keyword!r}; {hint}"
