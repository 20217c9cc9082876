"""What clients hear of runs: the lines of their logs, from the first on or where they were, live ones, then the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from handoff_lab.coordinator.state import RunState
from handoff_lab.detached.journal import Journal
from handoff_lab.detached.protocol import end_row, failure_rows
from handoff_lab.telemetry.batch_lines import LineWriter
from handoff_lab.telemetry.batches import FunctionBatch
from handoff_lab.telemetry.events import Event

_HISTORY = 2**18  # characters of the past in one message

Tell: TypeAlias = Callable[..., None]  # kind and fields of a message


class Follower:
    """Tells one client of one run, under a number. It is called on the thread that delivers the run's events."""

    def __init__(self, state: RunState, number: int, tell: Tell) -> None:
        self._state = state
        self._number = number
        self._tell = tell
        self._writer = LineWriter()
        self._failures = 0
        self._stop: list[Callable[[], None]] = []

    def begin(self, seen: int) -> None:
        """Tell what happened after the first ``seen`` parts, and go on."""
        lines: list[str] = []
        size = 0
        self._tell_failures()
        for part in self._state.record.events.parts[seen:]:
            lines.append(self._writer.lines(part))
            size += len(lines[-1])
            if size > _HISTORY:
                self._tell("news", self._number, "".join(lines), 0)
                lines, size = [], 0
        if lines:
            self._tell("news", self._number, "".join(lines), 0)
        self._stop.append(self._state.subscribe(self._hear))
        self._stop.append(self._state.when_over(self._over))

    def end(self) -> None:
        """Tell no more."""
        for stop in self._stop:
            stop()

    def _hear(self, news: Event | FunctionBatch) -> None:
        self._state.flush()  # the log must not know less than a client when this process is killed
        self._tell_failures()
        self._tell("news", self._number, self._writer.lines(news), 1)

    def _over(self) -> None:
        self._tell_failures()
        assert self._state.end is not None
        self._tell("over", self._number, end_row(self._state.end))

    def _tell_failures(self) -> None:
        failures = list(self._state.failures.items())
        if len(failures) > self._failures:
            self._tell("failures", self._number, failure_rows(failures[self._failures :]))
            self._failures = len(failures)


def write_down(state: RunState, journal: Journal) -> None:
    """Keep the journal's failures and end of a run up to date, and its log in reach."""
    written = 0
    kept = False

    def hear(news: Any) -> None:
        nonlocal written, kept
        if not kept and state.log is not None:
            journal.keep_log(state.id, state.log.path)
            kept = True
        failures = list(state.failures.items())
        if len(failures) > written:
            journal.fail(state.id, failures)
            written = len(failures)

    def over() -> None:
        hear(None)
        if state.end is not None:
            journal.finish(state.end)

    state.subscribe(hear)
    state.when_over(over)
