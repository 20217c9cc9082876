"""Brings what a detached coordinator tells of a run into the run's state in this process."""

from __future__ import annotations

from typing import Any

from handoff_lab.coordinator.state import RunState
from handoff_lab.detached.protocol import read_end, read_failures
from handoff_lab.scheduler.state import FinalFailure
from handoff_lab.telemetry.batch_lines import LineReader
from handoff_lab.telemetry.bus import dispatch, listens


class Feed:
    """One run. Everything is called on the thread that delivers events."""

    def __init__(self, state: RunState) -> None:
        self.state = state
        self.seen = 0  # parts of its log
        self._failures: dict[int, FinalFailure] = {}
        self._reader = LineReader()
        state.failures = self._failures

    @property
    def is_over(self) -> bool:
        """Whether no more will come."""
        return self.state.end is not None

    def begin_again(self) -> None:
        """Another coordinator tells the rest."""
        self._reader = LineReader()

    def take(self, kind: str, *fields: Any) -> None:
        """Take in a message."""
        if self.is_over:
            return
        if kind == "failures":
            self._failures |= read_failures(fields[0])
        elif kind == "over":
            self.state.finish(read_end(fields[0]))
        else:
            self._read(*fields)

    def _read(self, lines: str, is_live: int) -> None:
        for line in lines.splitlines():
            news = self._reader.part(line)
            if news is None:
                continue
            self.seen += 1
            self.state.apply(news)
            if is_live and listens(news.names):
                for event in news.events():
                    dispatch(event)
