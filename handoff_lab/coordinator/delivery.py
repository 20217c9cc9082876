"""The thread that tells the outside what happened: records, telemetry handlers, the run's log, the user's result store.

What a handler does takes no time from the coordinator. Events of a run arrive in order, its end last, whatever
handlers and stores raise.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Hashable, Sequence

from handoff_lab.coordinator.state import RunState
from handoff_lab.messages import Ended
from handoff_lab.telemetry.batches import FunctionBatch
from handoff_lab.telemetry.bus import dispatch, listens
from handoff_lab.telemetry.events import FUNCTION_STOP, Event

log = logging.getLogger(__name__)


class Delivery:
    """Delivers events, in order, on a thread of its own."""

    def __init__(self, name: str) -> None:
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"{name} delivery", daemon=True)
        self._thread.start()

    def events(self, batch: Sequence[tuple[Sequence[RunState], Event | FunctionBatch]]) -> None:
        """Deliver events, one by one or many at once, each with the runs that it concerns."""
        self._queue.put(lambda: self._tell(batch))

    def call(self, call: Callable[[], None]) -> None:
        """Call on the thread that delivers, after what was handed over so far."""
        self._queue.put(call)

    def end(self, run: RunState, end: Ended) -> None:
        """Deliver the end of a run, after all its events."""
        self._queue.put(lambda: run.finish(end))

    def withdraw(self, run: RunState) -> None:
        """Take the results of a run that nobody holds any more out of the user's store."""
        run.publish = None
        if run.withdraw is not None:
            self._queue.put(run.withdraw)

    def close(self, wait: bool = True) -> None:
        """Deliver what is left, then end the thread."""
        self._queue.put(None)
        if wait and threading.current_thread() is not self._thread:
            self._thread.join()

    def _work(self) -> None:
        while (call := self._queue.get()) is not None:
            _guarded(call)

    def _tell(self, batch: Sequence[tuple[Sequence[RunState], Event | FunctionBatch]]) -> None:
        for runs, news in batch:
            for run in runs:
                _guarded(run.apply, news)
                publish = run.publish  # another thread may take it away
                if publish is not None and FUNCTION_STOP in news.names:
                    _publish(publish, news)
            if listens(news.names):
                for event in news.events():
                    _guarded(dispatch, event)
        for run in {id(run): run for runs, _ in batch for run in runs}.values():
            _guarded(run.flush)


def _guarded(call: Callable[..., None], *args: object) -> None:
    """What one listener raises, a cancellation among it, must not keep the rest from those who wait."""
    try:
        call(*args)
    except BaseException:
        log.exception("an event could not be delivered")


def _publish(publish: Callable[[Hashable], None], news: Event | FunctionBatch) -> None:
    for event in news.events():
        if event.name == FUNCTION_STOP:
            try:
                publish(event.metadata["function"])
            except BaseException:
                log.exception("the result store did not take the result of %r", event.metadata["function"])
