"""Arguments taken from the names of a function's parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Container, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from handoff_lab._errors import InvalidFunctionError

_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True, slots=True)
class Inferred:
    """The parameters of a function that are to be filled by the functions of the same name."""

    names: tuple[str, ...]
    optional: frozenset[str]  # those with a default, which stays where no function has the name
    by_position: bool  # handed over by position; otherwise by name

    def choose(self, producers: Container[Hashable] = (), but: Hashable = None) -> tuple[str, ...]:
        """The parameters that become arguments where ``producers``, ``but`` one, are there."""
        chosen: list[str] = []
        for name in self.names:
            if name not in self.optional or (name in producers and name != but):
                chosen.append(name)
            elif self.by_position:
                break  # a parameter that keeps its default cannot be skipped by position
        return tuple(chosen)

    def parameters(self, chosen: tuple[str, ...]) -> tuple[str, ...] | None:
        """What `Function.parameters` is when these were chosen."""
        return None if self.by_position else chosen


def infer(
    id: Hashable, code: Callable[..., Any], *, extra_args: Sequence[Any], kwargs: Mapping[str, Any], led: bool
) -> Inferred:
    """Read the parameters of ``code`` that neither ``kwargs`` nor ``extra_args`` fill.

    ``extra_args`` fill the last positional parameters; where it is ``led``, the
    first is an item, or the state that ``init`` made; ``*args`` and ``**kwargs`` are left out.
    """
    parameters = [p for p in _parameters(id, code) if p.kind not in _VARIADIC]
    positional = [p for p in parameters if p.kind in _BY_POSITION][led:]
    named = [p for p in parameters if p.kind not in _BY_POSITION and p.name not in kwargs]
    by_position = bool(extra_args) or any(p.kind is p.POSITIONAL_ONLY for p in positional)
    if by_position:
        positional = _reachable(id, positional, kwargs, extra_args)
        _no_required(id, named)
        named = []
    free = [p for p in positional if p.name not in kwargs] + named
    optional = frozenset(p.name for p in free if p.default is not p.empty)
    return Inferred(tuple(p.name for p in free), optional, by_position)


def _parameters(id: Hashable, code: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(code).parameters.values())
    except (TypeError, ValueError) as error:
        reason = f"the parameters of {code!r} cannot be read; name its arguments with args=[...]"
        raise InvalidFunctionError(id, reason) from error


def _reachable(
    id: Hashable, positional: list[inspect.Parameter], kwargs: Mapping[str, Any], extra_args: Sequence[Any]
) -> list[inspect.Parameter]:
    """The leading parameters that results fill by position, before ``extra_args``."""
    free = [p for p in positional if p.name not in kwargs]
    if free != positional[: len(free)]:
        raise InvalidFunctionError(
            id, "kwargs gives a parameter that stands before one filled by position; give args=[...]"
        )
    reached = free[: max(0, len(free) - len(extra_args))]
    for parameter in reached:
        if extra_args and parameter.default is not parameter.empty:
            reason = f"extra_args cannot skip parameter {parameter.name!r}, which has a default; use kwargs={{...}}"
            raise InvalidFunctionError(id, reason)
    return reached


def _no_required(id: Hashable, named: list[inspect.Parameter]) -> None:
    for parameter in named:
        if parameter.default is parameter.empty:
            reason = (
                f"parameter {parameter.name!r} is keyword-only while others go by position; give it in kwargs={{...}}"
            )
            raise InvalidFunctionError(id, reason)
