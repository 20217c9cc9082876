"""The log that each run writes: a JSON line for each event, and for each batch of them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO
from urllib.parse import quote

from handoff_lab.telemetry.batch_lines import LineReader, LineWriter
from handoff_lab.telemetry.batches import FunctionBatch
from handoff_lab.telemetry.events import Event

_log = logging.getLogger(__name__)

_SUFFIX = ".jsonl"
_KEY = "handoff_lab_log"
_VERSION = 2  # of the format; the first had no batches


def log_directory() -> Path:
    """Where runs log when nothing else is said: ``handoff_lab/runs`` in the user's state directory (XDG)."""
    state = os.environ.get("XDG_STATE_HOME", "")
    base = Path(state) if Path(state).is_absolute() else Path.home() / ".local" / "state"
    return base / "handoff_lab" / "runs"


def log_path(run: str, directory: str | PathLike[str] | None = None) -> Path:
    """Where a run logs."""
    return Path(directory or log_directory()) / (quote(run, safe=" ") + _SUFFIX)


class RunLog:
    """Writes the log of one run; the newest ``keep`` logs of the directory stay, older ones that nobody writes go.

    A disk that is full or not writable ends the log with a warning, never the run.

    Parameters
    ----------
    run
        The run's id, which names the file.
    directory
        Made when it is not there; by default ``log_directory()``.
    resume
        Go on with the log that a killed process left, but for a last line that was cut off.
    """

    def __init__(
        self, run: str, directory: str | PathLike[str] | None = None, keep: int = 50, resume: bool = False
    ) -> None:
        self.path = log_path(run, directory)
        self._writer = LineWriter()
        self._file: TextIO | None = None
        try:
            self._file = _create(self.path, resume)
            if not resume:
                self._file.write(json.dumps({_KEY: _VERSION}) + "\n")
            _prune(self.path, keep)
        except OSError as error:
            self._give_up(error)

    def write(self, news: Event | FunctionBatch) -> None:
        """Add an event, or many at once; after ``close`` nothing happens."""
        if self._file is not None:
            try:
                self._file.write(self._writer.lines(news))
            except OSError as error:
                self._give_up(error)

    def flush(self) -> None:
        """Hand what was written to the system, so that it outlives this process."""
        if self._file is not None:
            try:
                self._file.flush()
            except OSError as error:
                self._give_up(error)

    def close(self) -> None:
        """Finish the file."""
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError as error:
                self._give_up(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _give_up(self, error: OSError) -> None:
        _log.warning("the run goes on without its log %s: %s", self.path, error)
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()


def read_log(path: str | PathLike[str]) -> Iterator[Event]:
    """The events of a log, in order. A last line that was cut off by a crash is left out.

    Raises
    ------
    ValueError
        When the file is no such log, or is damaged; it names the line.
    """
    for part in read_parts(path):
        yield from part.events()


def read_parts(path: str | PathLike[str]) -> Iterator[Event | FunctionBatch]:
    """`read_log`, but as it was told: one by one or many at once."""
    reader = LineReader()
    with Path(path).open(encoding="ascii") as file:
        lines = (line for line in file if line.endswith("\n"))
        _check_head(next(lines, ""), path)
        for number, line in enumerate(lines, start=2):
            try:
                part = reader.part(line)
            except (ValueError, TypeError, LookupError, OverflowError) as error:
                raise ValueError(f"{os.fspath(path)}, line {number}: not an event of a run ({error})") from error
            if part is not None:
                yield part


def _check_head(line: str, path: str | PathLike[str]) -> None:
    with contextlib.suppress(ValueError):
        if json.loads(line) in [{_KEY: version} for version in range(1, _VERSION + 1)]:
            return
    raise ValueError(f"{os.fspath(path)} is no log of a run that this version of handoff_lab can read")


def _create(path: Path, resume: bool) -> TextIO:
    # What functions print may be private: only the user may read it.
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if resume:
        _cut_off(path)
    flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if resume else os.O_TRUNC)
    file = os.fdopen(os.open(path, flags, 0o600), "w", encoding="ascii")
    with contextlib.suppress(OSError):  # a file system without locks
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return file


def _cut_off(path: Path) -> None:
    """Remove a last line without an end."""
    with path.open("r+b") as file:
        data = file.read()
        file.truncate(data.rfind(b"\n") + 1)


def _prune(own: Path, keep: int) -> None:
    logs: list[tuple[int, str]] = []
    for entry in os.scandir(own.parent):
        if entry.name.endswith(_SUFFIX) and entry.name != own.name:  # it is the newest, whatever the clock says
            with contextlib.suppress(FileNotFoundError):  # another process prunes, too
                logs.append((entry.stat().st_mtime_ns, entry.path))
    for _, path in sorted(logs, reverse=True)[max(keep - 1, 0) :]:
        with contextlib.suppress(OSError), open(path, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused while a run still writes it
            Path(path).unlink()
