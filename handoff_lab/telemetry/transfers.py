"""Results that went from node to node: columns of the batches that told of them, records for those who look."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import repeat

from handoff_lab.telemetry.batches import TransferredBatch
from handoff_lab.telemetry.unfolding import Unfolding


@dataclass(frozen=True, slots=True)
class TransferRecord:
    """A result that went from one node to another."""

    function: Hashable
    source: str
    target: str
    nbytes: int
    started: float
    ended: float


class Transfers(Unfolding[TransferRecord, TransferredBatch]):
    """The transfers of a run, in the order in which they were told."""

    @property
    def nbytes(self) -> int:
        """Of all of them; makes no records."""
        return sum(sum(batch.nbytes) for batch in self.parts)

    def _unfold(self, part: TransferredBatch) -> Sequence[TransferRecord]:
        functions = map(part.ids.__getitem__, part.functions)
        columns = part.sources, repeat(part.target), part.nbytes, part.started, part.ended
        return list(map(TransferRecord, functions, *columns))
