"""What only grows while a run goes on: attempts that came before others, and results that went to other nodes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Final, TypeAlias

from handoff_lab.graph import DAG
from handoff_lab.telemetry import RunRecord
from handoff_lab.telemetry.record import AttemptRecord
from handoff_lab.widgets.protocol import STATUS_LETTERS, AttemptRow, TransferRow

MOST_TRANSFERS: Final = 2000
MS: Final = 3  # digits of times

NodeIndex: TypeAlias = Callable[[str | None], int]
Since: TypeAlias = Callable[[float | None], float | None]


class EarlierAttempts:
    """The attempts before the latest of each function."""

    def __init__(self, index: Mapping[Hashable, int]) -> None:
        self.rows: list[AttemptRow] = []
        self._index = index
        self._latest: dict[Hashable, int] = {}  # places of attempts
        self._left: list[tuple[Hashable, str]] = []
        self._read = 0

    def leave(self, function: Hashable, node: str) -> None:
        """The function goes from ``node`` to another: what it did there is over."""
        self._left.append((function, node))

    def read(self, record: RunRecord, node: NodeIndex, since: Since) -> list[AttemptRow]:
        """The rows that are new, of attempts that another has followed since, or that were on a node that was left."""
        new: list[AttemptRow] = []
        attempts = record.attempts
        for at in range(self._read, len(attempts)):
            function = attempts.function(at)
            before = self._latest.setdefault(function, at)
            if before != at:
                before, self._latest[function] = sorted((before, at), key=lambda place: attempts[place].number)
                if function in self._index:
                    new.append(self._row(attempts[before], node, since))
            self._read = at + 1
        for function, left in self._left:
            last = self._latest.get(function)
            if last is not None and attempts[last].node == left and function in self._index:
                new.append(self._row(attempts[self._latest.pop(function)], node, since))
        self._left.clear()
        self.rows += new
        return new

    def _row(self, attempt: AttemptRecord, node: NodeIndex, since: Since) -> AttemptRow:
        return (
            self._index[attempt.function],
            attempt.number,
            node(attempt.node),
            -1 if attempt.slot is None else attempt.slot,
            since(attempt.started),
            since(attempt.ended),
            STATUS_LETTERS[attempt.status],
        )


class Transfers:
    """Results that went from node to node, as long as there are few enough to show, and who waited for them."""

    def __init__(self, dag: DAG, index: Mapping[Hashable, int]) -> None:
        self.rows: list[TransferRow] = []
        self._dag = dag
        self._index = index
        self._seconds: dict[tuple[int, int], float] = {}  # by producer and node
        self._inputs: list[tuple[int, ...]] = []  # both are made when something first moves
        self._takers: list[list[int]] = []
        self._read = 0  # batches of transfers

    @property
    def none(self) -> bool:
        """Whether nothing moved yet."""
        return not self._seconds

    def read(self, record: RunRecord, node: NodeIndex, since: Since) -> tuple[list[TransferRow], set[int]]:
        """The rows that are new, and the functions whose inputs have moved since."""
        new: list[TransferRow] = []
        concerned: set[int] = set()
        batches = record.transfers.parts[self._read :]
        self._read += len(batches)
        for batch in batches:
            target = node(batch.target)
            functions = map(self._index.get, map(batch.ids.__getitem__, batch.functions))
            columns = functions, batch.sources, batch.started, batch.ended, batch.nbytes
            for i, source, started, ended, nbytes in zip(*columns, strict=True):
                if i is None:
                    continue
                self._seconds[i, target] = ended - started
                concerned.update(self._takers_of(i))
                if len(self.rows) + len(new) < MOST_TRANSFERS:
                    new.append((i, node(source), target, since(started) or 0.0, since(ended) or 0.0, nbytes))
        self.rows += new
        return new, concerned

    def waited(self, i: int, node: int) -> float | None:
        """Seconds that the inputs of function ``i`` took to come to a node; None if they were there."""
        if not self._seconds:
            return None
        times = [seconds for p in self._inputs[i] if (seconds := self._seconds.get((p, node))) is not None]
        return round(sum(times), MS) if times else None

    def _takers_of(self, i: int) -> list[int]:
        if not self._takers:
            self._inputs = _inputs(self._dag, self._index)
            self._takers = [[] for _ in self._inputs]
            for taker, needed in enumerate(self._inputs):
                for producer in needed:
                    self._takers[producer].append(taker)
        return self._takers[i]


def _inputs(dag: DAG, index: Mapping[Hashable, int]) -> list[tuple[int, ...]]:
    """The functions whose results each takes, those that its inline functions take among them."""
    found: dict[Hashable, tuple[int, ...]] = {}
    for id, function in dag.functions.items():
        needed: dict[int, None] = {}
        for producer in function.dependencies:
            if producer not in index:
                continue
            inline = dag.functions[producer].type == "inline"
            needed.update(dict.fromkeys(found.get(producer, ()) if inline else (index[producer],)))
        found[id] = tuple(needed)
    return list(found.values())
