"""The thread that tells the outside what happened: records, telemetry handlers, the run's log, the user's result store.

What a handler does takes no time from the coordinator. Events of a run arrive in order, its end last.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Hashable, Sequence

from handoff_lab.coordinator.state import RunState
from handoff_lab.messages import Ended
from handoff_lab.telemetry.bus import dispatch
from handoff_lab.telemetry.events import Event

log = logging.getLogger(__name__)

FUNCTION_STOP = ("handoff", "execution", "function", "stop")


class Delivery:
    """Delivers events, in order, on a thread of its own."""

    def __init__(self, name: str) -> None:
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"{name} delivery", daemon=True)
        self._thread.start()

    def events(self, batch: Sequence[tuple[Sequence[RunState], Event]]) -> None:
        """Deliver events, each with the runs that it concerns."""
        self._queue.put(lambda: self._tell(batch))

    def end(self, run: RunState, end: Ended) -> None:
        """Deliver the end of a run, after all its events."""
        self._queue.put(lambda: run.finish(end))

    def close(self) -> None:
        """Deliver what is left, then end the thread."""
        self._queue.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _work(self) -> None:
        while (call := self._queue.get()) is not None:
            try:
                call()
            except Exception:
                log.exception("an event could not be delivered")

    def _tell(self, batch: Sequence[tuple[Sequence[RunState], Event]]) -> None:
        for runs, event in batch:
            for run in runs:
                run.apply(event)
                if run.publish is not None and event.name == FUNCTION_STOP:
                    self._publish(run.publish, event)
            dispatch(event)

    def _publish(self, publish: Callable[[Hashable], None], event: Event) -> None:
        try:
            publish(event.metadata["function"])
        except Exception:
            log.exception("the result store did not take the result of %r", event.metadata["function"])
