"""One attempt, executed in this process: arguments built by its recipe, whatever it raises caught and told.

Touches no signals, descriptors or streams: that is the business of the slot around it.
"""

from __future__ import annotations

import linecache
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from handoff_lab._items import Items
from handoff_lab._loading import loading
from handoff_lab.messages import Constant, Evaluate, Failure, Recipe, Term, Use
from handoff_lab.node.failures import (
    ExceptionClasses,
    describe_arguments,
    failure_of,
    input_failure,
    result_failure,
)
from handoff_lab.store.payload import Frames

Arguments: TypeAlias = tuple[Sequence[Any], dict[str, Any]]


@dataclass(slots=True)
class Outcome:
    """What an attempt made."""

    value: Any


class Sourced:
    """Code with the text of the file that it was compiled from, such as a notebook's cell.

    Pickled, it becomes the code alone again; the text goes into ``linecache``, so that tracebacks show the lines.

    Parameters
    ----------
    code
        A function, or whatever else is called or used as code.
    filename
        The name that the code was compiled under.
    text
        The whole text of that file.
    """

    __slots__ = ("code", "filename", "text")

    def __init__(self, code: Any, filename: str, text: str) -> None:
        self.code = code
        self.filename = filename
        self.text = text

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _with_source, (self.code, self.filename, self.text)


def _with_source(code: Any, filename: str, text: str) -> Any:
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    return code


def evaluate(
    recipe: Recipe | None, codes: Sequence[Any], inputs: Sequence[Any], sources: Sequence[str], target: str
) -> Any:
    """Call ``codes[0]`` as the recipe says.

    Parameters
    ----------
    recipe
        None: the inputs in order, nothing else.
    codes, inputs
        The live objects that the recipe's numbers point to.
    sources, target
        The node of each input and the node where this runs, for ``deserialize``.

    Examples
    --------
    >>> from handoff_lab.messages import Constant, Recipe, Use
    >>> recipe = Recipe(args=((Use(0), Use(1)),), kwargs=(("start", Constant(10)),))
    >>> evaluate(recipe, [sum], [1, 2], ["alpha", "alpha"], "beta")
    13
    """
    args, kwargs = _arguments(recipe, _Kitchen(codes, inputs, sources, target))
    return codes[0](*args, **kwargs)


def execute_pickled(
    recipe: Recipe | tuple[Any, ...] | None,
    codes: Sequence[Any],
    inputs: Sequence[Frames],
    retry_on: ExceptionClasses,
    sources: Sequence[str] = (),
    target: str = "",
) -> Frames | Failure:
    """`execute` for inputs that are pickled, as its result will be. ``SystemExit`` may come from what is unpickled."""
    values: list[Any] = []
    try:
        if inputs:
            with loading():
                values.extend(frames.load() for frames in inputs)
    except BaseException as error:
        return input_failure(len(values), error)
    outcome = execute(recipe, codes, values, retry_on, sources, target)
    if isinstance(outcome, Failure):
        return outcome
    try:
        return Frames.dump(outcome.value)
    except BaseException as error:
        return result_failure(outcome.value, error)


def execute(
    recipe: Recipe | tuple[Any, ...] | None,
    codes: Sequence[Any],
    inputs: Sequence[Any],
    retry_on: ExceptionClasses = Exception,
    sources: Sequence[str] = (),
    target: str = "",
) -> Outcome | Failure:
    """Run an attempt and catch everything, ``SystemExit`` and ``KeyboardInterrupt`` too.

    Parameters
    ----------
    recipe
        That of the attempt, unpickled: a `Recipe`, the arguments that follow the inputs, or None.
    codes, inputs
        The live objects behind the attempt's codes and inputs.
    retry_on
        Exceptions that are worth another attempt.
    sources, target
        The node of each input and the node where this runs, for ``deserialize``.
    """
    args: Sequence[Any] = inputs
    kwargs: dict[str, Any] = {}
    try:
        if type(recipe) is tuple:
            args = (*inputs, *recipe)
        elif recipe is not None:
            assert isinstance(recipe, Recipe), "whoever received it has unpickled it"
            args, kwargs = _arguments(recipe, _Kitchen(codes, inputs, sources, target))
        return Outcome(codes[0](*args, **kwargs))
    except BaseException as error:
        called, given = codes[0].call_of(error, args) if isinstance(codes[0], Items) else (codes[0], args)
        return failure_of(error, retry_on, describe_arguments(called, given, kwargs))


@dataclass(frozen=True, slots=True)
class _Kitchen:
    """What the numbers in a recipe point to."""

    codes: Sequence[Any]
    inputs: Sequence[Any]
    sources: Sequence[str]
    target: str


def _arguments(recipe: Recipe | None, kitchen: _Kitchen) -> Arguments:
    if recipe is None:
        return kitchen.inputs, {}
    evaluated: dict[int, Any] = {}  # an inline function is evaluated once per dependent, however often it is named

    def value(term: Term) -> Any:
        if isinstance(term, Constant):
            return term.value
        if isinstance(term, Use):
            return _use(term, kitchen)
        if term.code not in evaluated:
            evaluated[term.code] = _inline(term, kitchen)
        return evaluated[term.code]

    def argument(slot: Term | tuple[Term, ...]) -> Any:
        return [value(term) for term in slot] if isinstance(slot, tuple) else value(slot)

    return [argument(slot) for slot in recipe.args], {name: argument(slot) for name, slot in recipe.kwargs}


def _use(term: Use, kitchen: _Kitchen) -> Any:
    value = kitchen.inputs[term.input]
    if term.deserialize is None:
        return value
    return kitchen.codes[term.deserialize](value, kitchen.sources[term.input], kitchen.target)


def _inline(term: Evaluate, kitchen: _Kitchen) -> Any:
    args, kwargs = _arguments(term.recipe, kitchen)
    return kitchen.codes[term.code](*args, **kwargs)
