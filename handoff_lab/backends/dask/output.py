"""What a function writes in a thread of a Dask worker: the rest of the process keeps its own streams.

Python's streams alone are caught, of the function's own thread: what C code or child processes write goes to the log of
the worker itself.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

LOG_LIMIT = 10**5  # characters of one attempt's log, without its middle; Dask's scheduler keeps a thousand messages
NEWS_LIMIT = LOG_LIMIT // 5  # of what is told of it at a time while it runs
_ROOM = 10 * LOG_LIMIT  # before the middle of what is here goes

_own = threading.local()
_lock = threading.Lock()
_writers = 0  # threads whose streams are caught


class Log:
    """What one attempt wrote.

    Parameters
    ----------
    on_news
        Called, in the writing thread, when there is something new after `news` took all there was.
    """

    def __init__(self, on_news: Callable[[], None]) -> None:
        self._lock = threading.RLock()  # an RLock: finalizers write too, wherever they come
        self._parts: list[str] = []
        self._told = 0  # parts
        self._size = 0
        self._closed = False
        self._on_news = on_news

    def write(self, text: str) -> None:
        """Take in what was written."""
        if not text:
            return
        with self._lock:
            is_first = len(self._parts) == self._told
            self._parts.append(text)
            self._size += len(text)
            if self._size > _ROOM:
                self._parts = [_shortened("".join(self._parts), LOG_LIMIT)]
                self._told, self._size = 1, len(self._parts[0])
        if is_first:
            self._on_news()

    def news(self) -> str:
        """What was written since the last call; nothing when the attempt is over, for then all of it is told."""
        with self._lock:
            if self._closed:
                return ""
            fresh, self._told = self._parts[self._told :], len(self._parts)
        return _shortened("".join(fresh), NEWS_LIMIT)

    def close(self) -> str:
        """All of it, at the end."""
        with self._lock:
            self._closed = True
            return _shortened("".join(self._parts), LOG_LIMIT)


@contextmanager
def caught(log: Log) -> Iterator[None]:
    """Send what this thread writes to ``log``."""
    global _writers  # noqa: PLW0603 - streams are the process's
    with _lock:
        if not _writers:
            sys.stdout, sys.stderr = _out.over(sys.stdout), _err.over(sys.stderr)
        _writers += 1
    _own.log = log
    try:
        yield
    finally:
        _own.log = None
        with _lock:
            _writers -= 1
            if not _writers:
                sys.stdout, sys.stderr = _out.stream, _err.stream


class _Divided:
    """A stream whose text goes to the log of the thread that writes, if it has one; in all else it is as it was."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def over(self, stream: Any) -> TextIO:
        """Take the place of another stream."""
        if stream is not self:  # else somebody who had seen it here put it back
            self.stream = stream
        return cast(TextIO, self)

    def write(self, text: str) -> int:
        log: Log | None = getattr(_own, "log", None)
        if log is None:
            return self.stream.write(text)
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        log.write(text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if getattr(_own, "log", None) is None:
            self.stream.flush()

    def close(self) -> None:
        if getattr(_own, "log", None) is None:
            self.stream.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


# They stay for ever: ``print`` in another thread crashes when the stream that it writes to is freed meanwhile.
_out, _err = _Divided(sys.stdout), _Divided(sys.stderr)


def _shortened(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters left out ...]\n{text[-half:]}"
