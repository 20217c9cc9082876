"""What is known of each function of a run: columns inside, records for those who look.

A record is made when it is first looked at, and is kept up to date from then on. A function that simply ran, as most
do, is a row of the batch that told of it until then.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, MutableMapping, Sequence, ValuesView
from math import isnan, nan
from typing import Final

from handoff_lab.telemetry.attempts import Attempts
from handoff_lab.telemetry.batches import FinishedBatch, QueuedBatch
from handoff_lab.telemetry.functions import AttemptRecord, FunctionRecord, FunctionStatus

# What is known of a function that nobody looked at. The last: it has a record.
_WAITING, _QUEUED, _DONE, _MADE = range(4)
_STATUSES: Final = (FunctionStatus.WAITING, FunctionStatus.QUEUED, FunctionStatus.DONE)


class _Records(ValuesView[FunctionRecord]):
    _mapping: FunctionTable

    def __iter__(self) -> Iterator[FunctionRecord]:
        return iter(self._mapping.records())


class FunctionTable(MutableMapping[Hashable, FunctionRecord]):
    """The functions of a run by id, in the order of the DAG."""

    def __init__(self, attempts: Attempts) -> None:
        self._lock = attempts.lock
        self._attempts = attempts
        self._place: dict[Hashable, int] = {}
        self._state = bytearray()
        self._node: list[str | None] = []
        self._queued = array("d")  # nan: it was not
        self._attempt = array("q")  # the place of its attempt
        self._made: dict[int, FunctionRecord] = {}
        self._ids: Sequence[Hashable] = ()  # as batches number them
        self._place_of: list[int] = []  # by these numbers; -1: not known yet

    def __len__(self) -> int:
        return len(self._place)

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self._place)

    def __contains__(self, id: object) -> bool:
        return id in self._place

    def __getitem__(self, id: Hashable) -> FunctionRecord:
        place = self._place[id]
        return self._made.get(place) or self._make(id, place)

    def __setitem__(self, id: Hashable, record: FunctionRecord) -> None:
        with self._lock:
            place = self._reserve(id)
            self._state[place] = _MADE
            self._made[place] = record

    def values(self) -> ValuesView[FunctionRecord]:
        """The records of all functions."""
        return _Records(self)

    def records(self) -> list[FunctionRecord]:
        """The records of all functions, made at one go."""
        with self._lock:
            if len(self._made) < len(self._place):
                for place, id in enumerate(self._place):
                    if self._state[place] != _MADE:
                        self._make(id, place)
            return list(map(self._made.__getitem__, range(len(self._place))))

    def __delitem__(self, id: Hashable) -> None:
        raise TypeError("what a run told of a function stays in its record")

    def __repr__(self) -> str:
        return repr(dict(self))

    def statuses(self) -> list[tuple[Hashable, FunctionStatus]]:
        """Each function and where it is; makes no records."""
        with self._lock:
            made, states = self._made, enumerate(self._state)
            found = [made[place].status if state == _MADE else _STATUSES[state] for place, state in states]
            return list(zip(self._place, found, strict=True))

    def nodes(self) -> dict[Hashable, str]:
        """The node of each function that has one; makes no records."""
        with self._lock:
            nodes = self._node.copy()
            for place, record in self._made.items():
                nodes[place] = record.node
            return {id: node for id, node in zip(self._place, nodes, strict=True) if node is not None}

    def counts(self) -> Counter[FunctionStatus]:
        """How many functions are where; makes no records."""
        with self._lock:
            found = Counter(record.status for record in self._made.values())
            for state, status in enumerate(_STATUSES):
                found[status] += self._state.count(state)
            return found

    # -- what came to pass ------------------------------------------------------

    def begin(self, ids: Iterable[Hashable], nodes: Mapping[Hashable, str]) -> None:
        """These functions are to run on these nodes."""
        if not self._place:
            self._fill(ids, nodes)
        else:
            for id in ids:
                self.obtain(id).node = nodes.get(id)

    def obtain(self, id: Hashable) -> FunctionRecord:
        """The record of a function, now if it is new."""
        return self._make(id, self._reserve(id))

    def find_attempt(self, id: Hashable, number: int) -> AttemptRecord | None:
        """The record of an attempt, if there was one."""
        place = self._place.get(id, -1)
        if place >= 0 and self._attempt[place] >= 0:
            _ = self._attempts[self._attempt[place]]  # makes its record
        return self._attempts.find(id, number)

    def obtain_attempt(self, id: Hashable, number: int) -> AttemptRecord:
        """The record of an attempt, now if it is new."""
        return self.find_attempt(id, number) or self._attempts.add(id, number)

    def take_queued(self, batch: QueuedBatch) -> Iterator[int]:
        """Take in a batch, but for the functions of more than one story, at the places that are handed out."""
        places, state = self._places(batch), self._state
        for k, (i, node) in enumerate(zip(batch.functions, batch.nodes, strict=True)):
            place = places[i]
            if place < 0:
                place = places[i] = self._reserve(batch.ids[i])
            if state[place] == _WAITING:
                state[place] = _QUEUED
                self._queued[place] = batch.time
                self._node[place] = node
            else:
                yield k

    def take_finished(self, batch: FinishedBatch) -> Iterator[int]:
        """Take in a batch, but for the functions of more than one story, at the places that are handed out."""
        places, state, functions = self._places(batch), self._state, batch.functions
        first = self._attempts.add_batch(batch)
        for k in batch.by_start():
            i = functions[k]
            place = places[i]
            if place < 0:
                place = places[i] = self._reserve(batch.ids[i])
            if state[place] <= _QUEUED:
                state[place] = _DONE
                self._node[place] = batch.node
                self._attempt[place] = self._attempts.add_row(first + k)
            else:
                yield k

    def _places(self, batch: QueuedBatch | FinishedBatch) -> list[int]:
        """The place of each function of the run, by number; -1: not known yet."""
        if batch.ids is not self._ids:
            self._ids = batch.ids
            self._place_of = [self._place.get(id, -1) for id in batch.ids]
        return self._place_of

    def _reserve(self, id: Hashable) -> int:
        place = self._place.get(id)
        if place is None:
            place = self._place[id] = len(self._place)
            self._state.append(_WAITING)
            self._node.append(None)
            self._queued.append(nan)
            self._attempt.append(-1)
        return place

    def _fill(self, ids: Iterable[Hashable], nodes: Mapping[Hashable, str]) -> None:
        known = dict.fromkeys(ids)
        count = len(known)
        self._place = dict(zip(known, range(count), strict=True))
        self._state = bytearray(count)
        self._node = list(map(nodes.get, self._place))
        self._queued = array("d", [nan]) * count
        self._attempt = array("q", [-1]) * count

    def _make(self, id: Hashable, place: int) -> FunctionRecord:
        with self._lock:
            made = self._made.get(place)
            if made is None:
                made = self._made[place] = self._record(id, place)
                self._state[place] = _MADE
            return made

    def _record(self, id: Hashable, place: int) -> FunctionRecord:
        status, queued = _STATUSES[self._state[place]], self._queued[place]
        when = None if isnan(queued) else queued
        if status is not FunctionStatus.DONE:
            return FunctionRecord(id, status, self._node[place], 0, when)
        batch, k = self._attempts.row(self._attempt[place])
        started = batch.started[k]
        return FunctionRecord(
            id,
            status,
            batch.node,
            batch.attempts[k],
            None if when is None else min(when, started),
            started,
            batch.ended[k],
            batch.slots[k],
            batch.nbytes[k],
            batch.peak_memory[k],
            log=batch.logs[k],
        )
