"""What the coordinator knows of one run besides the scheduler's state, and hands to the user's side."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import TypeVar

from handoff_lab.backends.base import Feature
from handoff_lab.coordinator.calls import Calls
from handoff_lab.graph import DAG
from handoff_lab.messages import Ended
from handoff_lab.scheduler import Program
from handoff_lab.scheduler.state import FinalFailure
from handoff_lab.telemetry.batches import FunctionBatch
from handoff_lab.telemetry.events import RUN_START, Event
from handoff_lab.telemetry.log import RunLog
from handoff_lab.telemetry.record import RunRecord

_log = logging.getLogger(__name__)

News = TypeVar("News", Event, Event | FunctionBatch)


@dataclass(slots=True)
class RunState:
    """One run: its program on the coordinator's side, its record and its end on the user's."""

    id: str
    dag: DAG
    program: Program
    calls: Calls
    record: RunRecord
    setup: tuple[str, ...] = ()  # source that each slot executes first
    ids: Sequence[Hashable] = ()  # of the program's functions, by number; in the coordinator's process only
    log_directory: str | PathLike[str] | None = None
    log: RunLog | None = None  # open while the run goes on
    lacks: Mapping[Feature, str] = field(default_factory=dict)  # what its backend can't do, in words
    logged_elsewhere: bool = False  # its coordinator is another process
    end: Ended | None = None
    over: threading.Event = field(default_factory=threading.Event)
    process: int = field(default_factory=os.getpid)  # that hears what happens to it
    left: bool = False  # it goes on, and nothing more is heard of it
    failures: Mapping[int, FinalFailure] = field(default_factory=dict)  # the scheduler's own, which grows
    publish: Callable[[Hashable], None] | None = None  # takes each finished function's id, for a result store
    withdraw: Callable[[], None] | None = None  # takes everything out of the store again
    _callbacks: list[Callable[[], object]] = field(default_factory=list)
    _listeners: tuple[
        Callable[[Event | FunctionBatch], object], ...
    ] = ()  # replaced, never changed: read without the lock
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _watchers: int = 0

    def when_over(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call back once the run is over, or left; at once if it is. What is returned takes that back."""
        with self._changed:
            if not self.over.is_set() and not self.left:
                self._callbacks.append(callback)
                return lambda: self._forget(callback)
        callback()
        return lambda: None

    def subscribe(self, callback: Callable[[Event | FunctionBatch], object]) -> Callable[[], None]:
        """Call back after each event or batch, on the thread that delivers them; what is returned ends that."""
        with self._changed:
            if not self.over.is_set():
                self._listeners = (*self._listeners, callback)
        return lambda: self._unsubscribe(callback)

    def subscribe_to_each(self, callback: Callable[[Event], object]) -> Callable[[], None]:
        """`subscribe`, but to one event after the other, those of batches too."""

        def hear(news: Event | FunctionBatch) -> None:
            for event in news.events():
                if hear in self._listeners:  # it may end with any of them
                    self._tell(callback, event)

        return self.subscribe(hear)

    def _forget(self, callback: Callable[[], object]) -> None:
        with self._changed:
            if callback in self._callbacks:
                self._callbacks.remove(callback)

    def _unsubscribe(self, callback: Callable[[Event | FunctionBatch], object]) -> None:
        with self._changed:
            self._listeners = tuple(listener for listener in self._listeners if listener is not callback)

    def wait_for(self, condition: Callable[[], bool], timeout_s: float) -> None:
        """Wait until ``condition``, looked at whenever the run has news, is true, or the run is over."""
        with self._changed:
            self._watchers += 1
            try:
                self._changed.wait_for(lambda: condition() or self.over.is_set() or self.left, timeout_s)
            finally:  # also when the one who waits is interrupted
                self._watchers -= 1

    def apply(self, news: Event | FunctionBatch) -> None:
        """Take an event, or many at once, into the record and the log."""
        self.record.apply(news)
        if RUN_START in news.names and not self.logged_elsewhere:
            self.log = RunLog(self.id, self.log_directory)
        if self.log is not None:
            self.log.write(news)
        if self._watchers:
            with self._changed:
                self._changed.notify_all()
        for listener in self._listeners:
            self._tell(listener, news)

    def flush(self) -> None:
        """See that the log outlives this process as far as it was told."""
        if self.log is not None:
            self.log.flush()

    def finish(self, end: Ended) -> None:
        """The run is over; everyone who waits hears of it. What is over stays as it is."""
        if self.over.is_set():
            return
        if self.log is not None:
            self.log.close()
        with self._changed:
            self.record.status = end.status
            self.end = end
            self.over.set()
        self._hear_no_more()

    def leave(self) -> None:
        """Nothing more is heard of the run here, though it may go on; everyone who waits hears of that."""
        if not self.over.is_set():
            self.left = True
            self._hear_no_more()

    def _hear_no_more(self) -> None:
        with self._changed:
            callbacks, self._callbacks = self._callbacks, []
            self._listeners = ()
            self._changed.notify_all()
        for callback in callbacks:
            try:
                callback()
            except BaseException:  # the others wait, too
                _log.exception("run %s could not tell that it is over", self.id)

    def _tell(self, listener: Callable[[News], object], news: News) -> None:
        try:
            listener(news)
        except BaseException:  # the record and the other listeners must not suffer
            _log.exception("a listener of run %s failed at %s", self.id, ".".join(news.names[0]))
