"""Lines of a run's log: an event each, or a batch of them in columns.

An event is a list (see ``encoding``), a batch an object with one key: ``queued``, ``finished`` or ``transferred``. Its
functions are numbers: places in the list of the line ``ids`` before it. A column is a list, ``{"all": value}`` where
all are the same, or, of times, the base64 of little-endian doubles: quick to write, and exactly the same when read.
"""

from __future__ import annotations

import base64
import json
import sys
from array import array
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Final

from handoff_lab.telemetry.batches import FinishedBatch, FunctionBatch, QueuedBatch, TransferredBatch
from handoff_lab.telemetry.encoding import Encoder, decode, dump, parse_line
from handoff_lab.telemetry.events import Event


class LineWriter:
    """Makes the lines of one log."""

    def __init__(self) -> None:
        self._encoder = Encoder()
        self._ids: Sequence[Hashable] | None = None

    def lines(self, news: Event | FunctionBatch) -> str:
        """What to write of ``news``, with the ends of the lines."""
        match news:
            case Event():
                return f"{self._encoder.line(news)}\n"
            case QueuedBatch():
                batch = {"queued": _queued(news)}
            case FinishedBatch():
                batch = {"finished": _finished(news, self._encoder.encode)}
            case TransferredBatch():
                batch = {"transferred": _transferred(news)}
        return f"{self._new_ids(news)}{dump(batch)}\n"

    def _new_ids(self, batch: FunctionBatch) -> str:
        if batch.ids is self._ids:
            return ""
        self._ids = batch.ids
        return dump({"ids": self._encoder.column(batch.ids)}) + "\n"


class LineReader:
    """Reads the lines of one log, in order."""

    def __init__(self) -> None:
        self._ids: Sequence[Hashable] = ()

    def part(self, line: str) -> Event | FunctionBatch | None:
        """What a line tells of; None for the ids of functions, which it keeps.

        Raises
        ------
        ValueError, TypeError, LookupError, OverflowError
            The line is damaged.
        """
        if line.startswith("["):
            return parse_line(line)
        found = json.loads(line, object_hook=decode)
        if not isinstance(found, dict):
            raise TypeError("neither an event nor a batch")
        ((kind, facts),) = found.items()
        if kind == "ids":
            self._ids = facts
            return None
        return _READERS[kind](facts, self._ids)


def _queued(batch: QueuedBatch) -> dict[str, object]:
    return {
        "run": batch.run,
        "time": batch.time,
        "functions": list(batch.functions),
        "nodes": _column(batch.nodes),
    }


def _finished(batch: FinishedBatch, encode: Callable[[object], object]) -> dict[str, object]:
    kinds = dict(zip(map(id, batch.costs), batch.costs, strict=True))  # many functions share one
    numbers = {key: number for number, key in enumerate(kinds)}
    return {
        "run": batch.run,
        "node": batch.node,
        "functions": list(batch.functions),
        "attempts": _column(batch.attempts),
        "started": _times(batch.started),
        "ended": _times(batch.ended),
        "nbytes": _column(batch.nbytes),
        "slots": _column(batch.slots),
        "peak_memory": _column(batch.peak_memory),
        "logs": _column(batch.logs),
        "costs": [*map(encode, kinds.values())],
        "cost_of": _column(list(map(numbers.__getitem__, map(id, batch.costs)))),
        "claimed": encode(batch.claimed),
        "capabilities": encode(batch.capabilities),
    }


def _transferred(batch: TransferredBatch) -> dict[str, object]:
    return {
        "run": batch.run,
        "target": batch.target,
        "functions": list(batch.functions),
        "sources": _column(batch.sources),
        "nbytes": _column(batch.nbytes),
        "started": _times(batch.started),
        "ended": _times(batch.ended),
    }


def _read_queued(facts: Mapping[str, Any], ids: Sequence[Hashable]) -> QueuedBatch:
    functions = _functions(facts, ids)
    return QueuedBatch(facts["run"], ids, facts["time"], functions, _read_column(facts["nodes"], len(functions)))


def _read_finished(facts: Mapping[str, Any], ids: Sequence[Hashable]) -> FinishedBatch:
    functions = _functions(facts, ids)
    count = len(functions)
    costs = facts["costs"]
    return FinishedBatch(
        run=facts["run"],
        ids=ids,
        node=facts["node"],
        functions=functions,
        attempts=_read_column(facts["attempts"], count),
        started=_read_times(facts["started"], count),
        ended=_read_times(facts["ended"], count),
        nbytes=_read_column(facts["nbytes"], count),
        slots=_read_column(facts["slots"], count),
        peak_memory=_read_column(facts["peak_memory"], count),
        logs=_read_column(facts["logs"], count),
        costs=[costs[number] for number in _read_column(facts["cost_of"], count)],
        claimed=facts["claimed"],
        capabilities=facts["capabilities"],
    )


def _read_transferred(facts: Mapping[str, Any], ids: Sequence[Hashable]) -> TransferredBatch:
    functions = _functions(facts, ids)
    count = len(functions)
    return TransferredBatch(
        run=facts["run"],
        ids=ids,
        target=facts["target"],
        functions=functions,
        sources=_read_column(facts["sources"], count),
        nbytes=_read_column(facts["nbytes"], count),
        started=_read_times(facts["started"], count),
        ended=_read_times(facts["ended"], count),
    )


_READERS: Final[Mapping[str, Callable[[Mapping[str, Any], Sequence[Hashable]], FunctionBatch]]] = {
    "queued": _read_queued,
    "finished": _read_finished,
    "transferred": _read_transferred,
}


def _functions(facts: Mapping[str, Any], ids: Sequence[Hashable]) -> Sequence[int]:
    functions = array("q", facts["functions"])
    if not functions or not 0 <= min(functions) <= max(functions) < len(ids):
        raise ValueError("it tells of functions that the log does not name")
    return functions


def _column(values: Sequence[Any]) -> object:
    return {"all": values[0]} if values.count(values[0]) == len(values) else list(values)


def _read_column(column: Any, count: int) -> Sequence[Any]:
    values = [column["all"]] * count if isinstance(column, dict) else column
    return _checked(values, count)


def _times(times: Sequence[float]) -> str:
    return base64.b64encode(_swapped(array("d", times))).decode()


def _read_times(column: str, count: int) -> Sequence[float]:
    return _checked(_swapped(array("d", base64.b64decode(column))), count)


def _swapped(times: array[float]) -> array[float]:
    if sys.byteorder == "big":
        times.byteswap()
    return times


def _checked(values: Sequence[Any], count: int) -> Sequence[Any]:
    if len(values) != count:
        raise ValueError("its columns are not of one length")
    return values
