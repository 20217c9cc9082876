"""Attempts and events as rows of plain values, and back: strictly, for what comes back was written by someone else.

A row of an attempt is id, label, inputs (key, node and frames of each in one list), recipe, priority, and the rest of
its fields (``_CALL``) as a msgpack of its own: most functions of a run share that, so it is made and read once for all
of them. The node is the receiver.
A row of an event is the number of its class in ``_EVENTS``, then its fields in order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from itertools import chain, islice, repeat
from operator import attrgetter
from typing import Any, TypeAlias

import msgpack  # type: ignore[import-untyped]

from handoff_lab.messages import (
    Attempt,
    AttemptId,
    BackendEvent,
    Cancelled,
    Failed,
    Failure,
    FailureKind,
    Finished,
    FinishedMany,
    GpuLoad,
    GpuUse,
    NodeChanged,
    NodeLoad,
    ResultLost,
    Source,
    Started,
    Transferred,
    TransferredMany,
    Wrote,
    ids_of,
)
from handoff_lab.transport.wire import WireError, load

Row: TypeAlias = Sequence[Any]
Reader: TypeAlias = Callable[[Any], Any]

_REMEMBERED_CALLS = 4096


# -- single values, as they are read -------------------------------------------


def read_id(value: Any) -> AttemptId:
    """An attempt's id, from the list that it became."""
    if type(value) is list and len(value) == 3:
        run, function, number = value
        if type(run) is str and type(function) is int and type(number) is int:
            return AttemptId(run, function, number)
    raise WireError("no attempt's id")


def read_keys(run: str, functions: Any, numbers: Any) -> list[AttemptId]:
    """Keys of one run, from columns."""
    if len(functions) != len(numbers):
        raise WireError("columns of different lengths")
    return _ids(repeat(run, len(functions)), functions, numbers)


def read_text(value: Any) -> str:
    if type(value) is not str:
        raise WireError("no text")
    return value


def read_bytes(value: Any) -> bytes:
    if type(value) is not bytes:
        raise WireError("no bytes")
    return value


def read_count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise WireError("no count")
    return value


def read_number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise WireError("no finite number")
    return float(value)


def read_flag(value: Any) -> bool:
    if type(value) is not bool:
        raise WireError("no truth value")
    return value


def tuple_of(read: Reader) -> Reader:
    def reader(value: Any) -> tuple[Any, ...]:
        if type(value) is not list:
            raise WireError("no list")
        return tuple([read(item) for item in value])

    return reader


def optional(read: Reader) -> Reader:
    return lambda value: None if value is None else read(value)


def read_amounts(value: Any) -> dict[str, float]:
    """Amounts of resources: text to number."""
    if type(value) is not dict:
        raise WireError("no amounts")
    return {read_text(name): read_number(amount) for name, amount in value.items()}


def read_texts(value: Any) -> dict[str, str]:
    """Text to text."""
    if type(value) is not dict:
        raise WireError("no mapping")
    return {read_text(name): read_text(text) for name, text in value.items()}


def one_of(*choices: str) -> Reader:
    known = {str(choice): choice for choice in choices}  # an enum's member comes back as that member

    def reader(value: Any) -> str:
        if not isinstance(value, str) or value not in known:
            raise WireError(f"not one of {choices}")
        return known[value]

    return reader


# -- records: their classes' fields in order -----------------------------------


class Record:
    """How the rows of one record are read: of a dataclass, or a tuple with names."""

    def __init__(self, cls: Callable[..., Any], *readers: Reader) -> None:
        self._cls = cls
        self._readers = readers

    def read(self, row: Any) -> Any:
        """The record of which this is the row."""
        if type(row) is not list or len(row) != len(self._readers):
            raise WireError(f"malformed {self._cls.__name__}")
        return self._cls(*[read(item) for read, item in zip(self._readers, row, strict=True)])


def _column_of(*types: type, check: Callable[[list[Any]], bool] = lambda column: True) -> Reader:
    """Reads a column at the speed of the built-ins: all its values have one of these types, and pass the check."""
    allowed = set(types)

    def reader(value: Any) -> list[Any]:
        if type(value) is not list or not allowed.issuperset(map(type, value)) or not check(value):
            raise WireError("no such column")
        return value

    return reader


def _column_of_frames(value: Any) -> list[tuple[bytes, ...] | None]:
    if type(value) is not list:
        raise WireError("no column of frames")
    return [frames if frames is None else read_frames(frames) for frames in value]


def read_frames(value: Any) -> tuple[bytes, ...]:
    """The frames of a value: at least one."""
    if type(value) is not list or {*map(type, value)} != {bytes}:
        raise WireError("no frames")
    return tuple(value)


def _all_finite(column: Iterable[float]) -> bool:
    return all(map(math.isfinite, column))


def _none_negative(column: list[int]) -> bool:
    return min(column, default=0) >= 0


def _none_known_negative(column: list[int | None]) -> bool:
    return _none_negative([count for count in column if count is not None])


_frames = optional(read_frames)
_counts = _column_of(int, check=_none_negative)
_moments = _column_of(float, check=_all_finite)
_seconds = optional(read_number)
FAILURE = Record(
    Failure, one_of(*FailureKind), read_text, read_text, read_text, optional(read_bytes), read_flag, read_text
)  # fmt: skip
_GPU_USE = Record(GpuUse, read_id, optional(read_number), optional(read_count))
_GPU_LOAD = Record(GpuLoad, read_text, optional(read_number), read_count, read_count, tuple_of(_GPU_USE.read))
NODE_LOAD = Record(NodeLoad, read_text, read_number, read_count, tuple_of(_GPU_LOAD.read))
_CALL = (
    tuple_of(read_text),  # codes
    read_amounts,  # cost
    one_of("process", "kernel"),
    _seconds,
    optional(read_text),  # retry_on
    tuple_of(read_text),  # setup
    read_flag,  # granted
)
_EVENTS: Mapping[type, Record] = {
    Started: Record(Started, read_id, read_number, read_count),
    Finished: Record(
        Finished, read_id, read_number, read_number, read_count, _frames, read_count, optional(read_count), read_text
    ),
    FinishedMany: Record(
        FinishedMany,
        read_text,
        _counts,
        _counts,
        _moments,
        _moments,
        _counts,
        _column_of_frames,
        _counts,
        _column_of(int, type(None), check=_none_known_negative),
        _column_of(str),
    ),
    Failed: Record(Failed, read_id, FAILURE.read, _seconds, _seconds, read_count, optional(read_count), read_text),
    Cancelled: Record(Cancelled, read_id, _seconds, _seconds, read_text),
    TransferredMany: Record(
        TransferredMany, read_text, read_text, _counts, _counts, _column_of(str), _counts, _moments, _moments
    ),
    Transferred: Record(Transferred, read_id, read_text, read_text, read_count, read_number, read_number),
    Wrote: Record(Wrote, read_id, read_text),
    NodeChanged: Record(NodeChanged, read_text, read_amounts, read_count),
    NodeLoad: NODE_LOAD,
    ResultLost: Record(ResultLost, read_id, read_text),
}
_NUMBERS = {cls: number for number, cls in enumerate(_EVENTS)}
_RECORDS = tuple(_EVENTS.values())
_FIELDS = tuple(attrgetter(*(field.name for field in fields(cls))) for cls in _EVENTS)


def attempt_row(attempt: Attempt, inputs: Sequence[Source], recipe: bytes | None) -> Row:
    """The row of an attempt with these inputs, its recipe pickled."""
    sources = [(*source.key, source.node, source.inline) for source in inputs] if inputs else ()
    return attempt.id, attempt.label, sources, recipe, attempt.priority, _packed_call(attempt)


def read_attempts(rows: Any, node: str) -> list[Attempt]:
    """The attempts of these rows, for ``node``; their recipes stay the bytes that they became.

    Raises
    ------
    WireError
        When one of them is none.
    """
    if not rows and type(rows) is list:
        return []
    ids, labels, inputs, recipes, priorities, packed = _columns(rows, 6)
    _require(labels, str)
    _require(priorities, float, int)
    _require(recipes, bytes, type(None))
    if not _all_finite(priorities):
        raise WireError("no finite number")
    _require(packed, bytes)
    calls = {call: _read_call(call) for call in {*packed}}
    attempts = []
    for id, label, sources, recipe, priority, call in zip(
        _read_ids(ids), labels, _read_inputs(inputs), recipes, map(float, priorities), packed, strict=True
    ):
        codes, cost, runs_in, timeout_s, retry_on, setup, granted = calls[call]
        attempts.append(
            Attempt(
                id, node, label, codes, sources, recipe, cost, priority, runs_in, timeout_s, retry_on, setup, granted
            )
        )
    return attempts


def _columns(rows: Any, width: int) -> Iterator[tuple[Any, ...]]:
    """The columns of some rows of this width."""
    if type(rows) not in (list, tuple) or not {list}.issuperset(map(type, rows)) or {*map(len, rows)} != {width}:
        raise WireError(f"no rows of {width} fields")
    return zip(*rows, strict=True)


def _require(column: Sequence[Any], *types: type) -> None:
    if not set(types).issuperset(map(type, column)):
        raise WireError("a field of a wrong type")


def _read_ids(rows: Sequence[Any]) -> list[AttemptId]:
    runs, functions, numbers = _columns(rows, 3)
    _require(runs, str)
    return _ids(runs, functions, numbers)


def _ids(runs: Iterable[str], functions: Sequence[Any], numbers: Sequence[Any]) -> list[AttemptId]:
    _require(functions, int)
    _require(numbers, int)
    return ids_of(runs, functions, numbers)


def _read_inputs(rows: Sequence[Any]) -> list[tuple[Source, ...]]:
    """The inputs of each attempt: read all together."""
    _require(rows, list)
    flat = list(chain.from_iterable(rows))
    if not flat:
        return [()] * len(rows)
    runs, functions, numbers, nodes, values = _columns(flat, 5)
    _require(runs, str)
    _require(nodes, str)
    sources = map(Source, _ids(runs, functions, numbers), nodes, _column_of_frames(list(values)))
    return [tuple(islice(sources, len(row))) for row in rows]


class _PackedCalls:
    """Calls packed before, known by their parts' identity: a run's functions share these parts."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], tuple[bytes, tuple[object, ...]]] = {}

    def __call__(self, attempt: Attempt) -> bytes:
        """The parts of an attempt that others share, packed."""
        codes, cost, retry_on, setup = attempt.codes, attempt.cost, attempt.retry_on, attempt.setup
        key = id(codes), id(cost), retry_on, id(setup), attempt.runs_in, attempt.timeout_s, attempt.granted
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _REMEMBERED_CALLS:
                self._known.clear()
            parts = (codes, dict(cost), attempt.runs_in, attempt.timeout_s, retry_on, setup, attempt.granted)
            kept = codes, cost, setup  # while these live, no others have their ids
            found = self._known[key] = msgpack.packb(parts), kept
        return found[0]


_packed_call = _PackedCalls()


@lru_cache(maxsize=_REMEMBERED_CALLS)
def _read_call(packed: bytes) -> tuple[Any, ...]:
    call = load(packed)
    if type(call) is not list or len(call) != len(_CALL):
        raise WireError("malformed call")
    return tuple([read(part) for read, part in zip(_CALL, call, strict=True)])


def event_row(event: BackendEvent) -> Row:
    """The row of an event."""
    number = _NUMBERS[type(event)]
    return (number, *_FIELDS[number](event))


def read_events(rows: Any) -> list[BackendEvent]:
    """The events of these rows.

    Raises
    ------
    WireError
        When one of them is none.
    """
    if type(rows) is not list:
        raise WireError("no list of events")
    return [_read_event(row) for row in rows]


def _read_event(row: Any) -> BackendEvent:
    if type(row) is not list or not row or type(row[0]) is not int or not 0 <= row[0] < len(_RECORDS):
        raise WireError("no event")
    event: BackendEvent = _RECORDS[row[0]].read(row[1:])
    if (type(event) is FinishedMany and not _are_even(row[2:])) or (
        type(event) is TransferredMany and not _are_even(row[3:])
    ):
        raise WireError("columns of different lengths")
    return event


def _are_even(columns: Sequence[Sequence[Any]]) -> bool:
    return len({len(column) for column in columns}) == 1
