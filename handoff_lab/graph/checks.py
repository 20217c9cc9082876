"""What one function may not say; each check hands back the value or raises InvalidFunctionError."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Mapping
from collections.abc import Set as AbstractSet
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, TypeVar

from handoff_lab._errors import InvalidFunctionError, ResourceError
from handoff_lab._names import shown
from handoff_lab._units import MOST_AMOUNT, MOST_SECONDS
from handoff_lab.resources import Resources, parse_cost

if TYPE_CHECKING:
    from handoff_lab.graph.functions import Function

TYPES = ("regular", "inline", "input")
INCLUSIONS = ("variadic", "as_list")
PLACES = ("process", "kernel")

_T = TypeVar("_T")
_FREE = parse_cost(None)


def hashable(function: Hashable, name: str, value: Hashable) -> Hashable:
    try:
        hash(value)
    except TypeError as error:
        reason = f"{name} is {value!r}, which cannot be hashed; use a string or another hashable value"
        raise InvalidFunctionError(function, reason) from error
    return value


def choice(function: Hashable, name: str, value: _T, choices: tuple[str, ...]) -> _T:
    if value not in choices:
        expected = " or ".join(repr(c) for c in choices)
        raise InvalidFunctionError(function, f"{name} is {value!r}; it is {expected}")
    return value


def optional_callable(function: Hashable, name: str, value: Callable[..., Any] | None) -> Callable[..., Any] | None:
    if value is not None and not callable(value):
        raise InvalidFunctionError(function, f"{name} is {value!r}, which cannot be called; give a function or None")
    return value


def amount(function: Hashable, name: str, value: float, most: int = MOST_AMOUNT) -> float:
    """A non-negative finite number, as a plain int or float."""
    if value.__class__ is float and 0 <= value <= most:
        return value
    if isinstance(value, Real) and not isinstance(value, bool) and 0 <= value <= most:
        return int(value) if isinstance(value, Integral) else float(value)
    reason = f"{name} is {shown(value)}; it must be a finite number, zero or more, and at most {most:.1g}"
    raise InvalidFunctionError(function, reason)


def optional_amount(function: Hashable, name: str, value: float | None) -> float | None:
    return None if value is None else amount(function, name, value)


def seconds(function: Hashable, name: str, value: float) -> float:
    """A time that can be waited for."""
    return amount(function, name, value, MOST_SECONDS)


def optional_seconds(function: Hashable, name: str, value: float | None) -> float | None:
    return None if value is None else seconds(function, name, value)


def whole(function: Hashable, name: str, value: int, least: int) -> int:
    if isinstance(value, Integral) and not isinstance(value, bool) and least <= value <= MOST_AMOUNT:
        return int(value)
    reason = f"{name} is {shown(value)}; it must be a whole number, {least} or more, and at most {MOST_AMOUNT:.1g}"
    raise InvalidFunctionError(function, reason)


def optional_whole(function: Hashable, name: str, value: int | None, least: int) -> int | None:
    return None if value is None else whole(function, name, value, least)


def cache(function: Hashable, value: bool) -> bool:
    if not isinstance(value, bool):
        raise InvalidFunctionError(function, f"cache is {value!r}; it is True or False")
    if value:
        reason = "cache=True does not work yet; leave it out, and take results of an earlier run over with resume=run"
        raise InvalidFunctionError(function, reason)
    return value


def cost(function: Hashable, value: Mapping[str, float | str] | None) -> Resources:
    if value is None:
        return _FREE
    try:
        return parse_cost(value)
    except ResourceError as error:
        raise InvalidFunctionError(function, f"{'' if error.resource is None else 'cost of '}{error}") from error


def duration(function: Hashable, value: float | Mapping[str, float] | None) -> float | Mapping[str, float] | None:
    """Seconds, or seconds by node."""
    if value is not None and isinstance(value, Mapping):
        return {node: amount(function, f"duration on {node!r}", seconds) for node, seconds in value.items()}
    return optional_amount(function, "duration", value)


def exceptions(function: Hashable, value: Any) -> Any:
    """An exception class, or a tuple of them, as ``except`` takes it."""
    if value is Exception:  # what it nearly always is
        return value
    for kind in value if isinstance(value, tuple) else (value,):
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            reason = f"retry_on holds {kind!r}; it is an exception class or a tuple of them"
            raise InvalidFunctionError(function, reason)
    return value


def sequence(function: Hashable, name: str, values: Any) -> tuple[Any, ...]:
    """The values as a tuple; refuses what is iterable by accident or in no order."""
    if isinstance(values, (list, tuple)):
        return tuple(values)
    if isinstance(values, (str, bytes, AbstractSet)):
        raise InvalidFunctionError(function, f"{name} is {values!r}, which is no list; write {name}=[...]")
    try:
        return tuple(values)
    except TypeError as error:
        raise InvalidFunctionError(function, f"{name} is {values!r}; it is a list") from error


def over(function: Hashable, items: Any) -> Any:
    """The items of a map: anything that has a length and gives slices."""
    frame = hasattr(items, "itertuples")  # list(...) of one is its columns
    hint = f"; give a sequence, such as {'list(frame.itertuples())' if frame else 'a range or list(...)'}"
    kind = type(items).__name__
    if isinstance(items, str | bytes) or not hasattr(items, "__getitem__") or hasattr(items, "keys"):
        raise InvalidFunctionError(function, f"over is of type {kind}{hint}")
    try:
        len(items), items[:0]
    except Exception as error:
        reason = f"over, of type {kind}, has no length or slices: {error}{hint}"
        raise InvalidFunctionError(function, reason) from error
    return tuple(items) if isinstance(items, list) else items


def source(function: Hashable, value: Hashable) -> None:
    """One of ``args``: an id or an Argument."""
    try:
        hash(value)
    except TypeError as error:
        reason = f"args holds {value!r}, which is no id; constants go into extra_args or kwargs"
        raise InvalidFunctionError(function, reason) from error


def keywords(function: Hashable, values: object) -> dict[str, Any]:
    if values is None:
        return {}
    if isinstance(values, Mapping) and all(isinstance(name, str) for name in values):
        return dict(values)
    raise InvalidFunctionError(function, f"kwargs is {values!r}; it is a mapping of parameter name to value")


def optional_name(function: Hashable, name: str, value: object) -> str | None:
    if value is None or (isinstance(value, str) and value):
        return value
    raise InvalidFunctionError(function, f"{name} is {value!r}; it is a name or None")


def shape(function: Function) -> None:
    """Refuse options that contradict each other."""
    if function.over is not None or function.chunksize is not None:
        _a_map(function)
    if function.type == "input":
        _only_an_id(function)
    elif not callable(function.code):
        raise InvalidFunctionError(
            function.id, f"code is {function.code!r}; give a callable, or type='input' for a value"
        )
    if function.type == "inline":
        _never_placed(function)
    if function.batch_timeout is not None and function.batch_size is None:
        raise InvalidFunctionError(function.id, "batch_timeout says nothing without batch_size; give both")
    if function.parameters is not None:
        _named_once(function)
    if function.inferred is None and (function.parameters or function.kwargs):
        _filled_once(function)


def _only_an_id(function: Function) -> None:
    for name in ("code", "args", "extra_args", "kwargs", "cost", "node", "init"):
        if getattr(function, name):
            reason = f"an input is given its value when the DAG is run and takes no {name}; leave it out"
            raise InvalidFunctionError(function.id, reason)


def _a_map(function: Function) -> None:
    if function.over is None:
        raise InvalidFunctionError(function.id, "chunksize says nothing without over; give both")
    if function.type != "regular":
        raise InvalidFunctionError(function.id, f"over is for regular functions, and it is {function.type}; drop one")
    for name, default in (("init", None), ("parallelism", 1), ("batch_size", None)):
        if getattr(function, name) != default:
            raise InvalidFunctionError(function.id, f"over is for a map, {name} for a stream; drop one")
    if callable(function.code) and not _takes_one(function.code):
        raise InvalidFunctionError(function.id, "over gives items to its first parameter, and it has none; add one")


def _takes_one(code: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(code).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL) for p in parameters)


def _never_placed(function: Function) -> None:
    for name in ("node", "init"):
        if getattr(function, name) is not None:
            reason = f"an inline function is evaluated inside its dependents and takes no {name}; make it regular"
            raise InvalidFunctionError(function.id, reason)


def _named_once(function: Function) -> None:
    for name in function.parameters or ():
        if not isinstance(name, str):
            raise InvalidFunctionError(function.id, f"args names the parameter {name!r}; parameters are strings")
        if name in function.kwargs:
            raise InvalidFunctionError(function.id, f"args and kwargs both give {name!r}; drop one")
    if "as_list" in (function.argument_inclusion, *(argument.argument_inclusion for argument in function.arguments)):
        raise InvalidFunctionError(
            function.id, "as_list makes one list of many, so args cannot name parameters; give ids"
        )


def _filled_once(function: Function) -> None:
    """Refuse a parameter that is filled by name and by position, where the signature is known."""
    assert function.code is not None
    before = int(function.init is not None or function.over is not None)  # the state that ``init`` made, or the item
    count = before + len(function.extra_args) + (0 if function.parameters else _positions(function))
    try:
        parameters = list(inspect.signature(function.code).parameters.values())[:count]
    except (TypeError, ValueError):
        return
    named = {*(function.parameters or ()), *function.kwargs}
    for parameter in parameters:
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.name in named:
            option = "kwargs" if parameter.name in function.kwargs else "args"
            reason = f"{option} gives the parameter {parameter.name!r}, which another value fills by position"
            raise InvalidFunctionError(function.id, f"{reason}; give that one by name, too")


def _positions(function: Function) -> int:
    """How many positions the results fill; those gathered into a list fill one."""
    if function.argument_inclusion == "as_list":
        return 1
    gathered = sum(argument.argument_inclusion == "as_list" for argument in function.arguments)
    return len(function.args) - gathered + bool(gathered)
