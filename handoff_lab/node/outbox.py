"""A node's events on their way to the coordinator: at once when little happens, in batches when much does.

Functions of one run that ended one after the other go in columns; of these the starts, if not sent yet, are left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from handoff_lab.messages import AttemptId, BackendEvent, Failed, Finished, FinishedMany, Started, Wrote
from handoff_lab.transport.loop import Loop, Timer
from handoff_lab.transport.rows import event_row
from handoff_lab.transport.wire import BATCH, BATCH_BYTES, pack

INTERVAL_S = 0.004


class Outbox:
    """Gathers events; sends them when the loop's present round is over, but no more often than ``INTERVAL_S``.

    ``is_idle`` says that nothing more will come soon: then there is nothing to wait for.
    """

    def __init__(self, loop: Loop, send: Callable[[bytes], None], is_idle: Callable[[], bool]) -> None:
        self._loop = loop
        self._send = send
        self._is_idle = is_idle
        self._events: list[BackendEvent] = []
        self._nbytes = 0
        self._sent = 0.0
        self._scheduled = False
        self._timer: Timer | None = None

    def add(self, event: BackendEvent) -> None:
        """Send this event, soon."""
        self._events.append(event)
        if type(event) is not Started:
            self._nbytes += _size(event)
        if len(self._events) >= BATCH or self._nbytes >= BATCH_BYTES:
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
            events, self._events, self._nbytes = self._events, [], 0
            self._sent = time.monotonic()
            self._send(pack("events", [event_row(event) for event in _in_columns(events)]))

    def _round_over(self) -> None:
        self._scheduled = False
        wait = self._sent + INTERVAL_S - time.monotonic()
        if wait <= 0 or self._is_idle():
            self.flush()
        elif self._timer is None:
            self._timer = self._loop.call_later(wait, self.flush)


def _in_columns(events: Sequence[BackendEvent]) -> Iterator[BackendEvent]:
    """The events, in order, with what ended together as one."""
    ended = {event.id for event in events if type(event) is Finished}
    starts: dict[AttemptId, Started] = {}
    together: list[Finished] = []
    for event in events:
        if type(event) is Started and event.id in ended:
            starts[event.id] = event
        elif type(event) is Finished and (not together or together[0].id.run == event.id.run):
            together.append(event)
        else:
            yield from _joined(together, starts)
            together = []
            if type(event) is Finished:
                together.append(event)
            else:
                yield event
    yield from _joined(together, starts)


def _joined(together: Sequence[Finished], starts: Mapping[AttemptId, Started]) -> Iterator[BackendEvent]:
    if len(together) > 1:
        yield FinishedMany(
            together[0].id.run,
            [event.id.function for event in together],
            [event.id.number for event in together],
            [event.started for event in together],
            [event.ended for event in together],
            [event.nbytes for event in together],
            [event.inline for event in together],
            [event.slot for event in together],
            [event.peak_memory for event in together],
            [event.log for event in together],
        )
    else:
        for event in together:
            if event.id in starts:
                yield starts[event.id]
            yield event


def _size(event: BackendEvent) -> int:
    """Bytes that make an event large, if any do."""
    if type(event) is Finished:
        return len(event.log) + (sum(map(len, event.inline)) if event.inline else 0)
    if type(event) is Failed:
        failure = event.failure
        return len(event.log) + len(failure.exception or b"") + len(failure.traceback) + len(failure.message)
    return len(event.text) if type(event) is Wrote else 0
