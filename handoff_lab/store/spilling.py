"""A store with a limit: over it, the values that were not used for longest go from shared memory to disk.

A thread copies them, so that nobody waits for the disk. The file has no name, so nothing is left behind however this
process ends. Its descriptor takes the place of the one to memory, under the same number: whoever has the value goes on
as if nothing had happened, and maps the file as it would have mapped memory. Readers who have it mapped already keep
the memory as long as they do. When the disk is full, what is in memory stays there, and the store has no place for more
than its limit. (``zict``, which others use for this, copies values to and fro as bytes, waits for the
disk and names its files.)
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import queue
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TypeAlias

from handoff_lab._units import format_bytes
from handoff_lab.messages import AttemptId
from handoff_lab.store.memory import MemoryStore
from handoff_lab.store.payload import Frames
from handoff_lab.store.segments import Segment, offsets_of

log = logging.getLogger(__name__)

Callback: TypeAlias = Callable[[], None]
RETRY_S = 5.0  # after the disk took no more, until it is tried again
SOON_S = 0.2  # the same, if it was full, and seems to have room again
_CHUNK = 8 * 2**20  # bytes copied between two looks at whether it is still wanted


class SpillingStore(MemoryStore[Frames]):
    """Values by key, in memory up to a limit.

    Parameters
    ----------
    limit_bytes
        Of values in memory. Small values count, but stay there.
    call_soon
        Runs a function on the thread that this store belongs to; called from another.
    directory
        On the disk to use.
    """

    def __init__(self, limit_bytes: int, call_soon: Callable[[Callback], None], directory: Path | None = None) -> None:
        super().__init__()
        self.limit_bytes = limit_bytes
        self.on_disk = 0  # bytes
        self._in_memory: dict[AttemptId, Segment] = {}  # what could go, least recently used first
        self._leaving: dict[AttemptId, Segment] = {}
        self._on_disk: dict[AttemptId, Segment] = {}
        self._directory = directory or spill_directory()
        self._writer = _Writer(self._directory, call_soon)
        self._on_room: list[Callback] = []
        self._trouble = ""  # why nothing could be written to disk at the last try
        self._lacked = 0  # bytes for which there was no room then; 0: that was not the reason
        self._troubled_at = 0.0

    @property
    def in_memory(self) -> int:
        """Bytes in memory."""
        return self.nbytes - self.on_disk

    @property
    def is_full(self) -> bool:
        """Whether more is in memory than should be, and on its way to disk: hold back what makes more of it."""
        return bool(self._leaving) and self.in_memory > self.limit_bytes

    @property
    def is_stuck(self) -> bool:
        """Whether the disk takes no more."""
        return bool(self._trouble)

    def refusal(self, value: Frames) -> str:
        """Why there is no place for this value: it would be over the limit, and the disk takes no more."""
        last = value.parts[-1]
        if not self._trouble or (isinstance(last, Segment) and not last.is_memory):
            return ""
        if self.in_memory + value.nbytes <= self.limit_bytes:
            return ""
        self._make_room(value.nbytes)  # it may be time to try again: the next value may have a place then
        limit = format_bytes(self.limit_bytes)
        return (
            f"its node may hold {limit} of results in memory and can write no more to {self._directory} "
            f"({self._trouble}); make room there, or raise store_limit"
        )

    def on_room(self, callback: Callback) -> None:
        """Call back each time when the store was full and is not any more."""
        self._on_room.append(callback)

    def put(self, key: AttemptId, value: Frames) -> None:
        """Hold ``value``; others may go to disk for it."""
        self._notice(key, value)
        super().put(key, value)
        if self.in_memory > self.limit_bytes:
            self._make_room()

    def put_many(self, keys: Sequence[AttemptId], values: Sequence[Frames], nbytes: Sequence[int]) -> None:
        """Hold values of these sizes; others may go to disk for them."""
        for key, value in zip(keys, values, strict=True):
            if type(value.parts[-1]) is Segment:
                self._notice(key, value)
        super().put_many(keys, values, nbytes)
        if self.in_memory > self.limit_bytes:
            self._make_room()

    def get(self, key: AttemptId) -> Frames | None:
        """The value, if it is here; it counts as used."""
        if key in self._in_memory:
            self._in_memory[key] = self._in_memory.pop(key)
        return super().get(key)

    def free(self, keys: Iterable[AttemptId]) -> None:
        """Forget these values, wherever they are."""
        keys = list(keys)
        with self._telling_of_room():
            for key in [key for key in keys if key in self._in_memory or key in self._leaving or key in self._on_disk]:
                self._lose_sight_of(key)
            super().free(keys)

    def forget(self, run: str) -> None:
        """Forget all values of a run, wherever they are."""
        large = (*self._in_memory, *self._leaving, *self._on_disk)
        with self._telling_of_room():
            for key in [key for key in large if key.run == run]:
                self._lose_sight_of(key)
            super().forget(run)

    def close(self) -> None:
        """Write no more."""
        self._writer.close()

    def _lose_sight_of(self, key: AttemptId) -> None:
        self._in_memory.pop(key, None)
        self._leaving.pop(key, None)
        spilled = self._on_disk.pop(key, None)
        self.on_disk -= 0 if spilled is None else spilled.nbytes

    def _notice(self, key: AttemptId, value: Frames) -> None:
        """Remember where a value lies, if it is one that can go to disk."""
        last = value.parts[-1]
        if isinstance(last, Segment) and not self.knows(key):
            if last.is_memory:
                self._in_memory[key] = last
            else:
                self._count_on_disk(key, last)

    def _make_room(self, coming: int = 0) -> None:
        if self._trouble and not self._is_worth_a_try():
            return
        leaving = sum([segment.nbytes for segment in self._leaving.values()])
        while self._in_memory and self.in_memory - leaving + coming > self.limit_bytes:
            key = next(iter(self._in_memory))
            segment = self._leaving[key] = self._in_memory.pop(key)
            leaving += segment.nbytes
            self._writer.write(_Job(segment, partial(self._is_leaving, key, segment), partial(self._written, key)))

    def _is_leaving(self, key: AttemptId, segment: Segment) -> bool:
        return self._leaving.get(key) is segment

    def _written(self, key: AttemptId, job: _Job) -> None:
        if job.wanted():  # else it was freed meanwhile
            with self._telling_of_room():
                del self._leaving[key]
                if job.file is None:
                    self._in_memory = {key: job.segment, **self._in_memory}
                    self._take_trouble(job)
                else:
                    self._trouble = ""
                    job.segment.move_to(job.file.fileno())
                    self._count_on_disk(key, job.segment)
        if job.file is not None:
            job.file.close()

    def _take_trouble(self, job: _Job) -> None:
        now = time.monotonic()
        if not self._trouble or now >= self._troubled_at + RETRY_S:  # of more that was on its way one word is enough
            nbytes = format_bytes(job.segment.nbytes)
            log.warning("a value of %s stays in memory: nothing goes to %s: %s", nbytes, self._directory, job.trouble)
        self._trouble, self._troubled_at = job.trouble, now
        self._lacked = job.segment.nbytes if job.is_disk_full else 0

    def _is_worth_a_try(self) -> bool:
        waited = time.monotonic() - self._troubled_at
        if self._lacked and SOON_S <= waited < RETRY_S:
            with contextlib.suppress(OSError):
                return shutil.disk_usage(self._directory).free > self._lacked
        return waited >= RETRY_S

    def _count_on_disk(self, key: AttemptId, segment: Segment) -> None:
        self._on_disk[key] = segment
        self.on_disk += segment.nbytes

    @contextlib.contextmanager
    def _telling_of_room(self) -> Iterator[None]:
        was_full = self.is_full
        yield
        if was_full and not self.is_full:
            for callback in self._on_room:
                callback()


@dataclass(slots=True)
class _Job:
    """A segment to write; the file when that is done, or what was in the way."""

    segment: Segment
    wanted: Callable[[], bool]
    done: Callable[[_Job], None]
    file: IO[bytes] | None = None
    trouble: str = ""
    is_disk_full: bool = False


class _Writer:
    """A thread that writes segments to files without a name."""

    def __init__(self, directory: Path, call_soon: Callable[[Callback], None]) -> None:
        self._directory = directory
        self._call_soon = call_soon
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    def write(self, job: _Job) -> None:
        """Write when all that came before is written; ``done`` is called then."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="handoff-spill", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # this machine, or container, lets nobody have more threads
                job.trouble = str(error)
                self._call_soon(partial(job.done, job))
                return
            self._thread = thread
        self._jobs.put(job)

    def close(self) -> None:
        """End the thread."""
        self._closed = True
        self._jobs.put(None)
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while self._write_next():
            pass

    def _write_next(self) -> bool:
        job = self._jobs.get()  # a local of this function, so that nothing is held while there is nothing to do
        if job is None or self._closed:
            return False
        try:
            job.file = self._copy(job)
        except OSError as error:
            job.trouble, job.is_disk_full = str(error), error.errno == errno.ENOSPC
        self._call_soon(partial(job.done, job))
        return True

    def _copy(self, job: _Job) -> IO[bytes] | None:
        """A file with the same bytes, open for reading; None when it is not wanted any more."""
        *_, end = offsets_of(job.segment.sizes)
        at = 0
        with tempfile.TemporaryFile(dir=self._directory, buffering=0) as file:
            while at < end:
                if self._closed or not job.wanted():
                    return None
                copied = os.sendfile(file.fileno(), job.segment.fd, at, min(_CHUNK, end - at))
                if not copied:
                    raise OSError(errno.ENODATA, "it is shorter than it should be")
                at += copied
            return open(f"/proc/self/fd/{file.fileno()}", "rb", buffering=0)


def spill_directory() -> Path:
    """``TMPDIR`` if it is set; else where temporary files are on disk, which ``/tmp`` is not everywhere."""
    chosen = os.environ.get("TMPDIR", "/var/tmp")  # noqa: S108 - files there have no name
    return Path(chosen if os.access(chosen, os.W_OK) else tempfile.gettempdir())
