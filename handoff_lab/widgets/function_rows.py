"""The functions of a run as the browser has them: a row each, read from the record, or straight from batches.

A function that simply waited, was queued and ran has its row from the batches that told of it; its record is not made.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from math import floor
from typing import Final, TypeAlias

from handoff_lab.telemetry import FunctionRecord, FunctionStatus, RunRecord
from handoff_lab.telemetry.batches import FinishedBatch, QueuedBatch
from handoff_lab.widgets.node_table import NodeTable
from handoff_lab.widgets.protocol import STATUS_LETTERS, Columns
from handoff_lab.widgets.rows import Transfers

_LONGEST_ERROR: Final = 300

# status, node, slot, attempts, queued, started, ended, peak, transfer
Row: TypeAlias = tuple[str, int, int, int, float | None, float | None, float | None, int | None, float | None]
_BLANK: Final[Row] = ("w", -1, -1, 0, None, None, None, None, None)
_BEFORE: Final = STATUS_LETTERS[FunctionStatus.WAITING] + STATUS_LETTERS[FunctionStatus.QUEUED]
_QUEUED: Final = STATUS_LETTERS[FunctionStatus.QUEUED]
_DONE: Final = STATUS_LETTERS[FunctionStatus.DONE]


class FunctionRows:
    """Rows by number, and which of them changed since they were last asked for."""

    def __init__(self, index: Mapping[Hashable, int], nodes: NodeTable, transfers: Transfers) -> None:
        self.errors: dict[str, str] = {}
        self._ids = tuple(index)
        self._index = index
        self._nodes = nodes
        self._transfers = transfers
        self._rows: list[Row] = [_BLANK] * len(self._ids)
        self._begin: float | None = None
        self._changed: set[int] = set()
        self._unread: set[int] = set()  # their records have to be looked at
        self._told_ids: Sequence[Hashable] = ()  # by the numbers in batches
        self._numbers: list[int] = []  # of the rows, by these numbers; -1: not shown

    def since(self, moment: float | None) -> float | None:
        """Seconds from the start of the run."""
        if moment is None or self._begin is None:
            return None
        return floor((moment - self._begin) * 1000 + 0.5) / 1000  # several times as fast as to round to digits

    def _all_since(self, moments: Sequence[float]) -> Sequence[float | None]:
        begin = self._begin
        if begin is None:
            return [None] * len(moments)
        return [floor((moment - begin) * 1000 + 0.5) / 1000 for moment in moments]

    # -- what happened ----------------------------------------------------------

    def begin(self, moment: float, nodes: Mapping[Hashable, str]) -> None:
        """The run began, with functions on these nodes."""
        self._begin = moment
        waiting: dict[str, Row] = {}
        for i, id in enumerate(self._ids):
            node = nodes.get(id)
            if node is None or i in self._unread or self._rows[i] is not _BLANK:
                self._unread.add(i)
                continue
            if node not in waiting:
                waiting[node] = ("w", self._nodes.index(node), *_BLANK[2:])
            self._rows[i] = waiting[node]
            self._changed.add(i)

    def look_at(self, i: int) -> None:
        """Something happened to a function: its record says what."""
        self._unread.add(i)

    def inputs_moved(self, functions: Iterable[int]) -> None:
        """Results that these functions take came to some node."""
        for i in functions:
            row = self._rows[i]
            waited = self._transfers.waited(i, row[1])
            if waited != row[-1]:
                self._rows[i] = (*row[:-1], waited)
                self._changed.add(i)

    def take(self, batch: QueuedBatch | FinishedBatch) -> None:
        """Take in what befell many functions."""
        if batch.ids is not self._told_ids:
            self._told_ids, self._numbers = batch.ids, [self._index.get(id, -1) for id in batch.ids]
        if isinstance(batch, QueuedBatch):
            self._take_queued(batch)
        else:
            self._take_finished(batch)

    def _take_queued(self, batch: QueuedBatch) -> None:
        queued, alike = self.since(batch.time), self._transfers.none
        row_on: dict[str, Row] = {}  # one for all that wait on a node, as long as nothing has moved
        for i, name in zip(map(self._numbers.__getitem__, batch.functions), batch.nodes, strict=True):
            if not self._is_simple(i):
                continue
            row = row_on.get(name)
            if row is None:
                node = self._nodes.index(name)
                row = (_QUEUED, node, -1, 0, queued, None, None, None, self._transfers.waited(i, node))
                if alike:
                    row_on[name] = row
            self._rows[i] = row
            self._changed.add(i)

    def _take_finished(self, batch: FinishedBatch) -> None:
        rows, node = self._rows, self._nodes.index(batch.node)
        waited = None if self._transfers.none else self._transfers.waited
        numbers = map(self._numbers.__getitem__, batch.functions)
        started, ended = self._all_since(batch.started), self._all_since(batch.ended)
        columns = numbers, batch.slots, batch.attempts, started, ended, batch.peak_memory
        for i, slot, attempt, begin, end, peak in zip(*columns, strict=True):
            if self._is_simple(i):
                queued = rows[i][4]
                if queued is not None and begin is not None and begin < queued:
                    queued = begin  # as the record has it
                moved = None if waited is None else waited(i, node)
                rows[i] = (_DONE, node, slot, attempt, queued, begin, end, peak, moved)
                self._changed.add(i)

    def _is_simple(self, i: int) -> bool:
        """Whether a batch says all there is to say of a function; else its record is to be looked at."""
        if i < 0:
            return False
        row = self._rows[i]
        if row[3] or row[0] not in _BEFORE or i in self._unread or self._begin is None:
            self._unread.add(i)
            return False
        return True

    # -- what is told -------------------------------------------------------------

    def columns(self) -> Columns:
        """All rows as they are."""
        return _columns(range(len(self._rows)), self._rows)

    def changes(self, record: RunRecord) -> tuple[Columns | None, dict[str, str | None]]:
        """The rows that changed since the last time, and why functions failed, or no longer have, since then."""
        errors = self._read(record)
        changed = sorted(self._changed)
        self._changed.clear()
        return (_columns(changed, [self._rows[i] for i in changed]) if changed else None), errors

    def _read(self, record: RunRecord) -> dict[str, str | None]:
        errors: dict[str, str | None] = {}
        for i in sorted(self._unread):
            function = record.functions.get(self._ids[i])
            if function is None:
                continue
            row = self._row(i, function)
            if row != self._rows[i]:
                self._rows[i] = row
                self._changed.add(i)
            error = _error(function)
            if error != self.errors.get(str(i)):
                errors[str(i)] = error
        self._unread.clear()
        if errors:
            self.errors = {at: error for at, error in {**self.errors, **errors}.items() if error is not None}
        return errors

    def _row(self, i: int, function: FunctionRecord) -> Row:
        node = self._nodes.index(function.node)
        return (
            STATUS_LETTERS[function.status],
            node,
            -1 if function.slot is None else function.slot,
            function.attempts,
            self.since(function.queued),
            self.since(function.started),
            self.since(function.ended),
            function.peak_memory,
            self._transfers.waited(i, node),
        )


def _columns(at: Iterable[int], rows: list[Row]) -> Columns:
    status, node, slot, attempts, queued, started, ended, peak, transfer = (
        map(list, zip(*rows, strict=True)) if rows else ([] for _ in _BLANK)
    )
    return {
        "at": list(at),
        "status": "".join(status),
        "node": node,
        "slot": slot,
        "attempts": attempts,
        "queued": queued,
        "started": started,
        "ended": ended,
        "peak": peak,
        "transfer": transfer,
    }


def _error(record: FunctionRecord) -> str | None:
    """Why a function failed, in one line."""
    if record.status is not FunctionStatus.FAILED:
        return None
    line = (record.error or "it failed").partition("\n")[0]
    return line if len(line) <= _LONGEST_ERROR else f"{line[: _LONGEST_ERROR - 1]}…"
