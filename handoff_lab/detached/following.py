"""What clients hear of runs: the lines of their logs, from the first on or where they were, live ones, then the end.

And what the journal keeps of them, for the coordinator after this one. All this is on the thread that delivers the
runs' events.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from handoff_lab.coordinator.state import RunState
from handoff_lab.detached.journal import Journal
from handoff_lab.detached.protocol import failure_rows
from handoff_lab.scheduler.state import FinalFailure
from handoff_lab.telemetry.batch_lines import LineWriter
from handoff_lab.telemetry.batches import FunctionBatch
from handoff_lab.telemetry.events import Event

_HISTORY = 2**18  # characters of the past in one message

Tell: TypeAlias = Callable[..., None]  # kind and fields of a message


class _Failures:
    """The final failures of a run, as they come. They are known here before the events that tell of them."""

    def __init__(self, state: RunState) -> None:
        self._state = state
        self.seen = 0

    def new(self) -> list[tuple[int, FinalFailure]]:
        """Those since the last look."""
        if len(self._state.failures) == self.seen:
            return []
        new = list(self._state.failures.items())[self.seen :]
        self.seen += len(new)
        return new


class Follower:
    """Tells one client of one run, under a number, and calls ``over`` with itself at the end."""

    def __init__(self, state: RunState, number: int, tell: Tell, over: Callable[[Follower], None]) -> None:
        self._state = state
        self._number = number
        self._tell = tell
        self._told = over
        self._writer = LineWriter()
        self._failures = _Failures(state)
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
        self._tell("over", self._number, self._state.end)
        self._told(self)

    def _tell_failures(self) -> None:
        if new := self._failures.new():
            self._tell("failures", self._number, failure_rows(new))


class Scribe:
    """Keeps the journal's failures and end of a run up to date, and its log in reach."""

    def __init__(self, state: RunState, journal: Journal) -> None:
        self._state = state
        self._journal = journal
        self._failures = _Failures(state)
        self._has_log = False

    def begin(self) -> None:
        """Write from now on."""
        self._state.subscribe(self._hear)
        self._state.when_over(self._over)

    def _hear(self, news: object = None) -> None:
        run, log = self._state.id, self._state.log
        if log is not None and not self._has_log:
            self._journal.keep_log(run, log.path)
            self._has_log = True
        anew = not self._failures.seen
        try:
            if new := self._failures.new():
                self._journal.fail(run, new, anew=anew)
        except OSError:
            self._failures.seen = 0  # what is there may end in the middle of a failure
            raise

    def _over(self) -> None:
        self._hear()
        if self._state.end is not None:
            self._journal.finish(self._state.end)
