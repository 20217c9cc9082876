"""All about one function, when someone asks: `Details` of ``labextension/src/protocol.ts``."""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Iterator, Mapping
from contextlib import suppress
from typing import Any, TypedDict

from handoff_lab._errors import HandoffError
from handoff_lab._items import Joined
from handoff_lab._units import format_bytes, format_cost, format_seconds
from handoff_lab.graph import DAG, Argument, Collocated, Function
from handoff_lab.run import Run
from handoff_lab.telemetry import AttemptRecord, FunctionRecord, FunctionStatus
from handoff_lab.widgets.parameters import called, parameters_of, signature_of
from handoff_lab.widgets.preview import Preview, short_repr
from handoff_lab.widgets.protocol import STATUS_LETTERS
from handoff_lab.widgets.reproduce import reproducing_code
from handoff_lab.widgets.source_code import doc_of, highlighted, place_of, source_of
from handoff_lab.widgets.traceback_cut import cut
from handoff_lab.widgets.value_fetcher import ValueFetcher

LOG_LIMIT = 64_000  # characters

_ELSEWHERE = {"code", "args", "extra_args", "kwargs", "cost", "over"}  # options that have a place of their own
_DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(Function).parameters.items()
    if parameter.default is not parameter.empty and name not in _ELSEWHERE
}


class InputDetails(TypedDict):
    """Where an argument comes from."""

    function: int
    parameter: str
    text: str
    nbytes: int | None


class AttemptDetails(TypedDict):
    """One try; seconds since the run started."""

    number: int
    node: str | None
    slot: int | None
    started: float | None
    ended: float | None
    status: str
    error: str | None


class Details(TypedDict):
    """What the browser shows of a function."""

    function: int
    id: str
    doc: str | None
    source: str | None
    place: str | None
    cost: str
    options: list[tuple[str, str]]
    inputs: list[InputDetails]
    result: Preview | None
    result_note: str | None
    result_again: bool
    log: str
    error: str | None
    traceback: str | None
    full_traceback: str | None
    attempts: list[AttemptDetails]
    code: str


def details(subject: Run | DAG, id: Hashable) -> Details:
    """Everything that is known of a function, in a form that JSON can hold.

    Parameters
    ----------
    subject
        A run, while it goes on or after; or a graph that was not run.

    Raises
    ------
    MissingFunctionError
        The graph has no such function.
    """
    dag, run = (subject.part, subject) if isinstance(subject, Run) else (subject, None)
    function = dag[id]
    record = None if run is None else run.record.functions.get(id)
    given = _as_given(dag, function)
    code = given.code
    source = source_of(code)
    fetch = ValueFetcher(run)
    result, note, again = fetch.look(function, record)
    return Details(
        function=_numbers(dag)[id],
        id=_text(id),
        doc=None if code is None else doc_of(code),
        source=None if source is None else highlighted(source),
        place=place_of(code),
        cost=format_cost(given.cost),
        options=[*_options(given), *_gpus(run, id)],
        inputs=list(_inputs(dag, function, fetch)),
        result=result,
        result_note=note,
        result_again=again,
        log="" if record is None else _tail(record.log),
        error=None if run is None else _error(run, id, record),
        traceback=cut(record.traceback) if record is not None and record.traceback else None,
        full_traceback=None if record is None else record.traceback,
        attempts=[] if run is None else [_attempt(a, run) for a in list(run.record.attempts) if a.function == id],
        code=reproducing_code(dag, id, _setup(subject), fetch.value),
    )


def _as_given(dag: DAG, function: Function) -> Function:
    """Who has what the user said of it: of a map that was cut, a chunk."""
    return dag[function.args[0]] if isinstance(function.code, Joined) and function.args else function


def _gpus(run: Run | None, id: Hashable) -> Iterator[tuple[str, str]]:
    """The most that was seen of a function on each GPU."""
    most: dict[tuple[str, str], tuple[float, int]] = {}
    for seen in () if run is None else list(run.record.gpus):
        for use in seen.functions:
            if use.function == id:
                percent, memory = most.get((seen.node, seen.gpu), (0.0, 0))
                most[seen.node, seen.gpu] = max(percent, use.percent or 0.0), max(memory, use.memory or 0)
    for (node, gpu), (percent, memory) in most.items():
        yield f"GPU {gpu} of {node}", f"up to {percent:.0f} % busy, {format_bytes(memory)}"


def _numbers(dag: DAG) -> dict[Hashable, int]:
    return {id: number for number, id in enumerate(dag.functions)}


def _text(id: Hashable) -> str:
    return id if isinstance(id, str) else repr(id)


def _setup(subject: Run | DAG) -> tuple[str, ...]:
    """Source that runs first; the notebook's graph knows its own."""
    return tuple(getattr(subject, "setup", ()))


# -- what it is -----------------------------------------------------------------


def _options(function: Function) -> Iterator[tuple[str, str]]:
    for name, default in _DEFAULTS.items():
        value = getattr(function, name)
        if value is not default and (default is None or value != default):
            yield name, _option(name, value)


def _option(name: str, value: Any) -> str:
    if isinstance(value, Collocated):
        return f"with {_text(value.id)}"
    if name in ("retry_delay", "timeout", "duration", "batch_timeout") and isinstance(value, int | float):
        return format_seconds(value)
    if name == "output_size":
        return format_bytes(value)
    if name == "retry_on":
        return ", ".join(error.__name__ for error in (value if isinstance(value, tuple) else (value,)))
    if isinstance(value, Mapping):
        return ", ".join(f"{node} {format_seconds(seconds)}" for node, seconds in value.items())
    return value if isinstance(value, str) else getattr(value, "__name__", None) or short_repr(value)


def _inputs(dag: DAG, shown: Function, fetch: ValueFetcher) -> Iterator[InputDetails]:
    numbers, run = _numbers(dag), fetch.run
    function = _as_given(dag, shown)
    parameters = parameters_of(function)
    for argument, name in zip(function.arguments, parameters):
        nbytes = None if run is None else run.results.nbytes(argument.id) or None
        text = _argument(dag, argument, fetch)
        yield InputDetails(function=numbers.get(argument.id, -1), parameter=name, text=text, nbytes=nbytes)
    _, items, extra = called(function)
    if items is not None:
        first = next((parameter.name for parameter in signature_of(function)), "")
        code = shown.code
        every = f"{code.length:,} items, {len(items):,} at a time" if isinstance(code, Joined) else short_repr(items)
        yield InputDetails(function=-1, parameter=first, text=f"each of {every}", nbytes=None)
    given = [*zip(parameters[len(function.args) :], extra), *function.kwargs.items()]
    for name, value in given:
        yield InputDetails(function=-1, parameter=name, text=short_repr(value), nbytes=None)


def _argument(dag: DAG, argument: Argument, fetch: ValueFetcher) -> str:
    """Whose result it is, and how it comes; of an input its value."""
    notes = [
        "serialized on the way" if argument.serialize or argument.deserialize else "",
        "in a list" if argument.argument_inclusion == "as_list" else "",
    ]
    text = _text(argument.id)
    if argument.id in dag and dag[argument.id].type == "input":
        with suppress(HandoffError):
            text += f" = {short_repr(fetch.value(argument.id))}"
    return ", ".join([text, *filter(None, notes)])


# -- what became of it ----------------------------------------------------------


def _error(run: Run, id: Hashable, record: FunctionRecord | None) -> str | None:
    if record is None:  # a map's is that of a chunk, with its name
        error = run.error(id)
        return None if error is None else str(error).partition("\n")[0]
    if record.status is FunctionStatus.SKIPPED and record.because is not None:
        return f"skipped, because {_text(record.because)} failed"
    inputs = getattr(run.error(record.id), "inputs", "")
    return f"{record.error}\ncalled with {inputs}" if record.error and inputs else record.error


def _tail(log: str) -> str:
    left_out = len(log) - LOG_LIMIT
    return log if left_out <= 0 else f"[{left_out} characters before this are left out]\n{log[-LOG_LIMIT:]}"


def _attempt(attempt: AttemptRecord, run: Run) -> AttemptDetails:
    begun = run.record.started or 0.0
    return AttemptDetails(
        number=attempt.number,
        node=attempt.node,
        slot=attempt.slot,
        started=None if attempt.started is None else round(attempt.started - begun, 3),
        ended=None if attempt.ended is None else round(attempt.ended - begun, 3),
        status=STATUS_LETTERS[attempt.status],
        error=attempt.error,
    )
