"""A node's events on their way to the coordinator: at once when little happens, in batches when much does."""

from __future__ import annotations

import time
from collections.abc import Callable

from handoff_lab.messages import BackendEvent, Failed, Finished, FinishedMany, Started, Wrote
from handoff_lab.node.columns import in_columns
from handoff_lab.transport.loop import Loop, Timer
from handoff_lab.transport.rows import event_row
from handoff_lab.transport.wire import BATCH, BATCH_BYTES, pack

INTERVAL_S = 0.004


class Outbox:
    """Gathers events; sends them when the loop's present round is over, but no more often than ``INTERVAL_S``.

    ``is_urgent`` says that there is nothing to wait for.
    """

    def __init__(self, loop: Loop, send: Callable[[bytes], None], is_urgent: Callable[[], bool]) -> None:
        self._loop = loop
        self._send = send
        self._is_urgent = is_urgent
        self._events: list[BackendEvent] = []
        self._count = 0  # of them, each function of one in columns
        self._nbytes = 0
        self._sent = 0.0
        self._scheduled = False
        self._timer: Timer | None = None

    def add(self, event: BackendEvent) -> None:
        """Send this event, soon."""
        self._events.append(event)
        self._count += len(event.functions) if type(event) is FinishedMany else 1
        if type(event) is not Started:
            self._nbytes += _size(event)
        if self._count >= BATCH or self._nbytes >= BATCH_BYTES:
            self.flush()
        elif not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._round_over)

    def flush(self) -> None:
        """Send what there is, now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._events:
            events, self._events, self._count, self._nbytes = self._events, [], 0, 0
            self._sent = time.monotonic()
            self._send(pack("events", [event_row(event) for event in in_columns(events)]))

    def close(self) -> None:
        """Send nothing more: the connection is closed."""
        self._events.clear()
        self.flush()

    def _round_over(self) -> None:
        self._scheduled = False
        wait = self._sent + INTERVAL_S - time.monotonic()
        if wait <= 0 or self._is_urgent():
            self.flush()
        elif self._timer is None:
            self._timer = self._loop.call_later(wait, self.flush)


def _size(event: BackendEvent) -> int:
    """Bytes that make an event large, if any do."""
    if type(event) is Finished:
        return len(event.log) + (sum(map(len, event.inline)) if event.inline else 0)
    if type(event) is FinishedMany:
        return sum([nbytes for nbytes, inline in zip(event.nbytes, event.inline, strict=True) if inline])
    if type(event) is Failed:
        failure = event.failure
        return len(event.log) + len(failure.exception or b"") + len(failure.traceback) + len(failure.message)
    return len(event.text) if type(event) is Wrote else 0
