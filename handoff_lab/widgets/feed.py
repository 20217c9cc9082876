"""When the browser hears of a run: news soon but not too often, from a thread that ends with the run."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

STATUS_S: Final = 0.1
METERS_S: Final = 1.0
STATE_S: Final = 5.0
# Of its time that the thread may spend.
_SHARE_OF_NEWS: Final = 0.05
_SHARE_OF_METERS: Final = 0.025
_SHARE_OF_STATE: Final = 0.01

_log = logging.getLogger(__name__)


class Watched(Protocol):
    """The part of a run that a feed needs."""

    def subscribe(self, callback: Callable[[object], object]) -> Callable[[], None]: ...
    def when_over(self, callback: Callable[[], object]) -> Callable[[], None]: ...


class Audience(Protocol):
    """Who tells the browser; called on the feed's thread."""

    def tell(self, *, meters: bool) -> bool:
        """Send what changed, amounts too if ``meters``; whether there was anything."""
        ...

    def refresh(self) -> None:
        """Publish the whole state."""
        ...

    def ended(self) -> None:
        """The run is over; nothing more comes."""
        ...


class Feed:
    """Watches one run until it is over, or until `close`.

    Parameters
    ----------
    run, audience
        Who is watched, and for whom.
    after
        Seconds until the first news is told, unless the run is over before.
    clock
        Monotonic seconds.
    wait
        Waits until an event is set, so many seconds at most.
    """

    def __init__(
        self,
        run: Watched,
        audience: Audience,
        *,
        after: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[threading.Event, float | None], object] = threading.Event.wait,
    ) -> None:
        self._run = run
        self._audience = audience
        self._after = after
        self._clock = clock
        self._wait = wait
        self._news = threading.Event()
        self._stop = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="handoff widget feed", daemon=True)

    def start(self) -> None:
        """Begin to tell, on a thread."""
        self._thread.start()

    def close(self) -> None:
        """Tell nothing more, and wait until the thread is gone."""
        self._closed = True
        self._stop.set()
        self._news.set()
        self.join()

    def finish(self) -> None:
        """The run is over: tell the rest of it, and wait until the thread is gone."""
        self._end()
        self.join()

    def join(self, timeout: float | None = None) -> None:
        """Wait until the thread is gone: a run that is over was told to its end."""
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def follow(self) -> None:
        """Tell until the run is over; the thread does this."""
        take_back = (self._run.subscribe(self._hear), self._run.when_over(self._end))
        try:
            self._tell_news()
            if not self._closed:
                self._audience.tell(meters=True)
                self._audience.refresh()
                self._audience.ended()
        finally:
            for end in take_back:
                end()

    def _hear(self, news: object) -> None:
        if not self._news.is_set():  # cheaper than to set it, which takes a lock
            self._news.set()

    def _end(self) -> None:
        self._stop.set()
        self._news.set()

    def _work(self) -> None:
        try:
            self.follow()
        except Exception:  # what is shown must not hurt what runs
            _log.exception("a view of a run failed; it shows no more changes")

    def _tell_news(self) -> None:
        self._news.set()  # what came before it listened
        tell_at = meters_at = self._clock() + self._after
        state_at = tell_at + STATE_S
        unmetered = unsaved = False
        while not self._stop.is_set():
            now = self._clock()
            fresh = self._news.is_set()
            if now >= tell_at and (fresh or (unmetered and now >= meters_at)):
                self._news.clear()
                meters = now >= meters_at
                unsaved |= self._audience.tell(meters=meters)
                spent = self._clock() - now
                tell_at = now + max(STATUS_S, spent / _SHARE_OF_NEWS)
                if meters:
                    meters_at = now + max(METERS_S, spent / _SHARE_OF_METERS)
                unmetered = not meters
            elif unsaved and now >= state_at:
                self._audience.refresh()
                unsaved = False
                state_at = now + max(STATE_S, (self._clock() - now) / _SHARE_OF_STATE)
            else:
                times = ((tell_at, fresh), (max(tell_at, meters_at), unmetered), (state_at, unsaved))
                due = [at for at, wanted in times if wanted]
                # News that is there already must not wake it up again before its time.
                self._wait(self._stop if fresh else self._news, min(due) - now if due else None)
