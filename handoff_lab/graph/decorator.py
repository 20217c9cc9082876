"""The decorators that turn plain functions into functions of a DAG, and leave them plain."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any, Literal, TypedDict, TypeVar, Unpack, overload

from handoff_lab._errors import InvalidFunctionError
from handoff_lab.graph.functions import ExceptionTypes, Function, Sliceable
from handoff_lab.graph.references import Collocated, Inclusion

Code = TypeVar("Code", bound=Callable[..., Any])

_MARK = "__handoff_options__"


class FunctionOptions(TypedDict, total=False):
    """Options of the decorators: those of `Function`; ``id`` is the function's name where it is not given."""

    id: Hashable
    args: Iterable[Hashable] | Mapping[str, Hashable] | None
    extra_args: Sequence[Any]
    kwargs: Mapping[str, Any] | None
    cost: Mapping[str, float | str] | None
    node: str | Collocated | None
    type: Literal["regular", "inline"]
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


@overload
def function(code: Code, /) -> Code: ...
@overload
def function(**options: Unpack[FunctionOptions]) -> Callable[[Code], Code]: ...
def function(code: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Mark a function of a module for ``DAG.from_module``; the name stays the plain function.

    Options are those of `Function`. Without ``args`` the names of the
    parameters say which results it takes.

    Examples
    --------
    >>> @function(cost={"cpu": 2})
    ... def double(x):
    ...     return 2 * x
    >>> double(4)
    8
    """

    def mark(code: Code) -> Code:
        make_function(code, options)  # what is wrong shows here, not when the module is read
        setattr(code, _MARK, options)
        return code

    return mark if code is None else mark(code)


def make_function(code: Callable[..., Any], options: Mapping[str, Any]) -> Function:
    """The function that a decorator with these options makes of ``code``."""
    if "id" not in options and not hasattr(code, "__name__"):
        raise InvalidFunctionError(repr(code), "it has no name to go by; give it one with id=...")
    return Function(**{"id": getattr(code, "__name__", None), "args": None, **options, "code": code})


def marked_options(code: object) -> Mapping[str, Any]:
    """What ``@hl.function`` says of ``code``; nothing where it carries no mark."""
    options: Mapping[str, Any] = getattr(code, "__dict__", {}).get(_MARK, {})
    return options


def marked_functions(module: ModuleType) -> list[Function]:
    """The functions of ``module`` that carry the mark, each once, in order of definition."""
    marked = {id(value): value for value in vars(module).values() if _MARK in getattr(value, "__dict__", {})}
    return [make_function(code, getattr(code, _MARK)) for code in marked.values()]


def is_redefinition(new: Function, old: Function) -> bool:
    """Whether ``new`` is the definition of ``old`` run again or edited, as in a cell.

    Two definitions in the same source are two functions, not one defined again.
    """
    now, before = _place_of_definition(new), _place_of_definition(old)
    same_name = now[:2] == before[:2]
    second_in_source = now[2] == before[2] and now[3] != before[3]
    return same_name and not second_in_source


def _place_of_definition(function: Function) -> tuple[str | None, str | None, str | None, int | None]:
    code = function.code
    source = getattr(code, "__code__", None)
    return (
        getattr(code, "__module__", None),
        getattr(code, "__qualname__", None),
        getattr(source, "co_filename", None),
        getattr(source, "co_firstlineno", None),
    )
