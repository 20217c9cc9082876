"""The coordinator's thread: an event loop that other threads can call into and wait for."""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any, TypeVar

from handoff_lab._errors import BackendError
from handoff_lab.transport.loop import Loop

log = logging.getLogger(__name__)
T = TypeVar("T")


class LoopThread:
    """Runs a ``Loop`` on a thread of its own.

    Parameters
    ----------
    name : str
        Of the thread.
    shut : callable
        Called once on the thread before it ends, whatever ends it.
    """

    def __init__(self, name: str, shut: Callable[[], None]) -> None:
        self.loop = Loop()
        self._shut = shut
        self._pid = os.getpid()
        self._lock = threading.RLock()  # an RLock: a finalizer may come in while this thread holds it
        self._promises: set[Future[Any]] | None = set()  # None: the thread has ended
        self._waiters: list[tuple[Callable[[], bool], Future[None]]] = []
        self._closing = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread; at the latest when the process ends it is closed."""
        atexit.register(self.close)
        self._thread.start()

    def close(self, wait: bool = True) -> None:
        """End the thread, after ``shut``; every caller waits until it has ended, if it is to wait."""
        if os.getpid() != self._pid:
            return  # a forked child must not end its parent's nodes
        with self._lock:
            first, self._closing = not self._closing, True
        if first:
            self.loop.call_soon_threadsafe(self.loop.stop)
            atexit.unregister(self.close)
        if wait and threading.current_thread() is not self._thread:
            self._thread.join()

    @property
    def closing(self) -> bool:
        """Whether ``close`` was called."""
        return self._closing

    def call(self, function: Callable[[], T]) -> T:
        """What ``function`` returns or raises, called on the thread."""
        if threading.current_thread() is self._thread:
            return function()
        future: Future[T] = self.promise()

        def call() -> None:
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)

        self.loop.call_soon_threadsafe(call)
        return future.result()

    def promise(self) -> Future[Any]:
        """A future that fails when the thread ends before it is kept."""
        if os.getpid() != self._pid:  # a forked child has no such thread, and maybe a lock that nobody will release
            raise BackendError(
                f"this cluster belongs to process {self._pid}, from which this one was forked; start one here, or use "
                "hl.attach for a detached one"
            )
        future: Future[Any] = Future()
        with self._lock:
            if self._promises is None or self._closing:
                raise _closed_error()
            self._promises.add(future)
        future.add_done_callback(self._kept)
        return future

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until ``condition``, looked at on the thread after each event, is true; raise what it raises."""
        future = self.promise()
        waiter = (condition, future)

        def begin() -> None:
            self._waiters.append(waiter)
            self.look()

        try:
            self.call(begin)
            future.result()
        finally:  # also when the one who waits is interrupted
            future.cancel()

    def look(self) -> None:
        """See which of those who wait can go on; only on the thread."""
        self._waiters = [waiter for waiter in self._waiters if not _can_go_on(*waiter)]

    def _kept(self, future: Future[Any]) -> None:
        with self._lock:
            if self._promises is not None:
                self._promises.discard(future)

    def _work(self) -> None:
        try:
            self.loop.run()
        except BaseException:
            log.exception("the coordinator's loop failed; its cluster is closed")
        try:
            self._shut()
        except Exception:
            log.exception("the cluster was not closed properly")
        self.loop.close()
        with self._lock:
            self._closing = True
            broken, self._promises = self._promises or set(), None
        for future in broken:
            if not future.done():
                future.set_exception(_closed_error())


def _can_go_on(condition: Callable[[], bool], future: Future[None]) -> bool:
    if future.done():
        return True  # it was interrupted
    failure = None
    try:
        is_true = condition()
    except Exception as error:
        is_true, failure = True, error
    if is_true:
        with suppress(InvalidStateError):  # it is interrupted at this very moment
            future.set_result(None) if failure is None else future.set_exception(failure)
    return is_true


def _closed_error() -> BackendError:
    return BackendError("the cluster is closed; make a new one")
