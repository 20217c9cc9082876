"""The attempts at the functions of a run: rows of the batches that told of them, until someone reads their records."""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Iterable
from threading import RLock
from typing import Final, overload

from handoff_lab.telemetry.batches import FinishedBatch
from handoff_lab.telemetry.functions import AttemptRecord, FunctionStatus
from handoff_lab.telemetry.unfolding import Growing

_PLACE_BITS: Final = 32  # of a row's number: its place in its batch; above it the number of the batch


class Attempts(Growing[AttemptRecord]):
    """The attempts at the functions of a run, in the order in which they began."""

    def __init__(self, records: Iterable[AttemptRecord] = ()) -> None:
        self.lock = RLock()
        known = list(records)
        self._made: list[AttemptRecord | None] = [*known]
        self._rows = array("q", [-1]) * len(known)  # of batches; -1: its record was not made from one
        self._batches: list[FinishedBatch] = []
        self._by_number = {(record.function, record.number): record for record in known}

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> AttemptRecord: ...
    @overload
    def __getitem__(self, index: slice) -> list[AttemptRecord]: ...
    def __getitem__(self, index: int | slice) -> AttemptRecord | list[AttemptRecord]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._made[index] or self._make(index)

    def function(self, index: int) -> Hashable:
        """The function at which an attempt was; makes no record."""
        made = self._made[index]
        if made is not None:
            return made.function
        batch, k = self.row(index)
        return batch.ids[batch.functions[k]]

    def find(self, function: Hashable, number: int) -> AttemptRecord | None:
        """The attempt, if its record was made."""
        return self._by_number.get((function, number))

    def add(self, function: Hashable, number: int) -> AttemptRecord:
        """A new attempt."""
        added = self._by_number[function, number] = AttemptRecord(function, number)
        self._made.append(added)
        self._rows.append(-1)
        return added

    def add_batch(self, batch: FinishedBatch) -> int:
        """The number of the first row of a batch, some of whose attempts are to be added."""
        self._batches.append(batch)
        return (len(self._batches) - 1) << _PLACE_BITS

    def add_row(self, row: int) -> int:
        """Add the attempt of a row; its place."""
        self._made.append(None)
        self._rows.append(row)
        return len(self._rows) - 1

    def row(self, place: int) -> tuple[FinishedBatch, int]:
        """The batch that told of an attempt, and its place there."""
        row = self._rows[place]
        return self._batches[row >> _PLACE_BITS], row & ((1 << _PLACE_BITS) - 1)

    def _make(self, place: int) -> AttemptRecord:
        with self.lock:
            made = self._made[place]
            if made is None:
                batch, k = self.row(place)
                function, number = batch.ids[batch.functions[k]], batch.attempts[k]
                times = batch.started[k], batch.ended[k]
                made = AttemptRecord(function, number, batch.node, batch.slots[k], *times, FunctionStatus.DONE)
                self._made[place] = self._by_number[function, number] = made
            return made
