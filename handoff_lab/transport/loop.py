"""One thread's event loop over zmq sockets, file descriptors, timers and calls from other threads. Nothing else."""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

import zmq

log = logging.getLogger(__name__)

Callback: TypeAlias = Callable[[], None]
_IN, _OUT = int(zmq.POLLIN), int(zmq.POLLOUT)  # as plain numbers, which are quicker than flags
LONGEST_S = 3600.0  # of one wait: zmq takes no more milliseconds than an int holds


class Timer:
    """A call to come; ``cancel`` takes it back."""

    __slots__ = ("callback", "due")

    def __init__(self, due: float, callback: Callback) -> None:
        self.due = due
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        """Forget the call."""
        self.callback = None


class Loop:
    """Waits for whatever comes first and calls back, on the thread that called ``run``.

    A callback that raises is logged and the loop goes on, unless ``on_error`` decides otherwise.
    """

    def __init__(self, on_error: Callable[[BaseException], None] | None = None) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(io_threads=3)  # see ``sockets``
        self._poller = zmq.Poller()
        self._readers: dict[Any, Callback] = {}
        self._writers: dict[Any, Callback] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._sequence = itertools.count()
        self._calls: deque[Callback] = deque()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wake_lock = threading.RLock()  # an RLock: finalizers call too, wherever they come
        self._running = False
        self._on_error = on_error or _log_error
        self.add_reader(self._wake_read, self._drain_wake)

    def add_reader(self, source: zmq.Socket[bytes] | int, callback: Callback) -> None:
        """Call back whenever ``source``, a zmq socket or a file descriptor, can be read.

        It is called again as long as something is left to read.
        """
        self._readers[source] = callback
        self._watch(source)

    def remove_reader(self, source: zmq.Socket[bytes] | int) -> None:
        """Stop watching ``source``; call it before closing it."""
        if self._readers.pop(source, None) is not None:
            self._watch(source)

    def add_writer(self, source: int, callback: Callback) -> None:
        """Call back whenever the file descriptor ``source`` can be written."""
        self._writers[source] = callback
        self._watch(source)

    def remove_writer(self, source: int) -> None:
        """Stop watching ``source`` for writing; call it before closing it."""
        if self._writers.pop(source, None) is not None:
            self._watch(source)

    def call_later(self, seconds: float, callback: Callback) -> Timer:
        """Call back after ``seconds``, on the loop's thread."""
        timer = Timer(time.monotonic() + seconds, callback)
        heapq.heappush(self._timers, (timer.due, next(self._sequence), timer))
        return timer

    def call_soon(self, callback: Callback) -> None:
        """Call back after the present callback; only from the loop's thread."""
        self._calls.append(callback)

    def call_soon_threadsafe(self, callback: Callback) -> None:
        """Call back on the loop's thread; from any thread."""
        self._calls.append(callback)
        with self._wake_lock:  # the number of a closed descriptor may be another file's by now
            if self._wake_write < 0:
                return
            try:
                os.write(self._wake_write, b"\0")
            except BlockingIOError:
                pass  # the pipe is full of wake-ups already

    def stop(self) -> None:
        """Let ``run`` return after the present callback; only from the loop's thread."""
        self._running = False

    def run(self) -> None:
        """Run until ``stop``."""
        self._running = True
        while self._running:
            self.run_once()

    def run_once(self) -> None:
        """Wait for the next thing, and do what is due."""
        for source, events in self._poller.poll(self._patience_ms()):
            # Errors and hang-ups count as readable: the reader finds out what it is.
            reader = self._readers.get(source) if events & ~_OUT else None
            if reader is not None:
                self._call(reader)
            writer = self._writers.get(source) if events & _OUT else None
            if writer is not None:
                self._call(writer)
        for _ in range(len(self._calls)):
            self._call(self._calls.popleft())
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            if timer.callback is not None:
                self._call(timer.callback)

    def close(self) -> None:
        """Free the loop's own descriptors and its zmq context; sockets must be closed before."""
        self.remove_reader(self._wake_read)
        with self._wake_lock:
            os.close(self._wake_read)
            os.close(self._wake_write)
            self._wake_write = -1
        self.context.destroy(linger=0)

    def _patience_ms(self) -> int | None:
        if self._calls:
            return 0
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return None
        seconds = min(self._timers[0][0] - time.monotonic(), LONGEST_S)
        return max(0, int(seconds * 1000) + 1)

    def _watch(self, source: Any) -> None:
        flags = (_IN if source in self._readers else 0) | (_OUT if source in self._writers else 0)
        self._poller.register(source, flags)  # no flags: forgotten

    def _drain_wake(self) -> None:
        try:
            while os.read(self._wake_read, 4096):
                pass
        except BlockingIOError:
            pass

    def _call(self, callback: Callback) -> None:
        try:
            callback()
        except Exception as error:
            self._on_error(error)


def _log_error(error: BaseException) -> None:
    log.error("a callback failed", exc_info=error)
