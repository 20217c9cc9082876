"""Who is told what becomes of attempts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from handoff_lab.messages import AttemptId, Cancelled, Failed, Finished, FinishedMany, Started, Wrote
from handoff_lab.store.payload import Frames


class Listener(Protocol):
    """One call for each thing that happens; exactly one end per attempt: finished, failed or cancelled."""

    def started(self, event: Started) -> None:
        """An attempt runs, or ran: a brief one in a batch is told to have started when it has ended."""

    def finished(self, event: Finished, value: Frames) -> None: ...

    def finished_many(self, event: FinishedMany, ids: Sequence[AttemptId], values: Sequence[Frames]) -> None:
        """Brief attempts of one run made their results; of some no start was told."""

    def failed(self, event: Failed) -> None: ...
    def cancelled(self, event: Cancelled) -> None: ...

    def wrote(self, event: Wrote) -> None:
        """An attempt wrote something and still runs. The terminal event has the whole log again."""
