"""What a function writes in a thread of a Dask worker: the rest of the process keeps its own streams.

Python's streams alone are caught, of the function's own thread: what C code or child processes write goes to the log of
the worker itself.
"""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

LOG_LIMIT = 10**6  # characters of one attempt's log; the middle of a longer one is left out

_own = threading.local()
_lock = threading.Lock()
_writers = 0  # threads whose streams are caught
_saved: list[TextIO] = []


class Log:
    """What one attempt wrote.

    Parameters
    ----------
    on_news
        Called, in the writing thread, when there is something new after `news` took all there was.
    """

    def __init__(self, on_news: Callable[[], None]) -> None:
        self._parts: list[str] = []
        self._told = 0  # parts
        self._closed = False
        self._on_news = on_news

    def write(self, text: str) -> None:
        """Take in what was written."""
        if text:
            self._parts.append(text)
            if len(self._parts) == self._told + 1:
                self._on_news()

    def news(self) -> str:
        """What was written since the last call; nothing when the attempt is over, for then all of it is told."""
        if self._closed:
            return ""
        upto = len(self._parts)
        fresh, self._told = self._parts[self._told : upto], upto
        return _shortened("".join(fresh))

    def close(self) -> str:
        """All of it, at the end."""
        self._closed = True
        return _shortened("".join(self._parts))


@contextmanager
def caught(log: Log) -> Iterator[None]:
    """Send what this thread writes to ``log``."""
    global _writers  # noqa: PLW0603 - streams are the process's
    with _lock:
        if not _writers:
            _saved[:] = [sys.stdout, sys.stderr]
            sys.stdout, sys.stderr = _Divided(sys.stdout), _Divided(sys.stderr)
        _writers += 1
    _own.log = log
    try:
        yield
    finally:
        _own.log = None
        with _lock:
            _writers -= 1
            if not _writers:
                sys.stdout, sys.stderr = _saved


class _Divided(io.TextIOBase):
    """A stream whose text goes to the log of the thread that writes, if it has one."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        log: Log | None = getattr(_own, "log", None)
        if log is None:
            return self._stream.write(text)
        log.write(text)
        return len(text)

    def flush(self) -> None:
        if getattr(_own, "log", None) is None:
            self._stream.flush()

    def writable(self) -> bool:
        return True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _shortened(text: str) -> str:
    if len(text) <= LOG_LIMIT:
        return text
    half = LOG_LIMIT // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters left out ...]\n{text[-half:]}"
