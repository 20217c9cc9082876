"""Private directories that vanish with their users: each user holds a shared lock, and the last one out removes all.

What a kill leaves behind is reaped by the next process that makes such a directory. While one is being made or removed,
a dot comes before its name.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import ClassVar, Self

from handoff_lab._errors import BackendError

_PREFIX = "handoff-lab-"
_MARK = ".handoff-lab-run"  # only what has this file in it is ever reaped: the prefix alone may be a user's folder
_LOOK_S = 0.005
# In bytes. The deepest that is made below is the Unix socket ``handoff-lab-12345678/node-12345678/kernel-ipc-99``, and
# the whole path of one has at most 107.
_BASE_LIMIT = 58


class SharedDirectory:
    """A directory with mode 0700, in use as long as this object is open.

    It is this process that uses it: children forked from here do not, unless they ``enter``.
    """

    _open: ClassVar[set[SharedDirectory]] = set()

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._open.add(self)

    @classmethod
    def create(cls) -> Self:
        """Make a new one, where the system keeps what lives as long as a session.

        Raises
        ------
        BackendError
            There is no place for one.
        """
        base = _base()
        _reap(base)
        try:
            directory = cls(*_make(base))
            try:
                (directory.path / _MARK).touch()
                directory.path = directory.path.rename(base / directory.path.name.removeprefix("."))
            except OSError:
                directory.leave()
                raise
        except OSError as error:
            raise unusable(base, error) from error
        return directory

    @classmethod
    def enter(cls, path: Path) -> Self:
        """Use one that another process made.

        Raises
        ------
        FileNotFoundError
            When it is gone.
        """
        return cls(path, _lock(path))

    def leave(self, patience_s: float = 0.0) -> None:
        """Use it no more; remove it if nobody else does by then. Does nothing the second time."""
        if self._descriptor < 0:
            return
        end = time.monotonic() + patience_s
        while not _remove_unused(self.path, self._descriptor) and time.monotonic() < end:
            time.sleep(_LOOK_S)
        self._let_go()

    @classmethod
    def let_all_go(cls) -> None:
        """In a child that was just forked: the locks are the parent's."""
        for directory in list(cls._open):
            directory._let_go()

    def _let_go(self) -> None:
        self._open.discard(self)
        os.close(self._descriptor)
        self._descriptor = -1


os.register_at_fork(after_in_child=SharedDirectory.let_all_go)


def unusable(place: Path, error: OSError) -> BackendError:
    """What to tell of a place where nothing can be written."""
    advice = "make room there, or set TMPDIR to another directory"
    return BackendError(f"nothing can be written in {place}: {error}; {advice}")


def _base() -> Path:
    places = (os.environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir(), "/tmp")  # noqa: S108 - a private one below
    for place in places:
        if place and len(os.fsencode(place)) <= _BASE_LIMIT and os.access(place, os.W_OK):
            return Path(place)
    raise BackendError(f"no directory for sockets: set TMPDIR to one with a path of at most {_BASE_LIMIT} bytes")


def _make(base: Path) -> tuple[Path, int]:
    """A new directory, hidden, with the descriptor that holds its lock."""
    while True:
        hidden = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}", dir=base))
        try:
            return hidden, _lock(hidden)
        except FileNotFoundError:
            continue  # another process took it for left over, as it was not locked yet


def _lock(path: Path) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if not os.path.samestat(os.fstat(descriptor), path.stat()):
            raise FileNotFoundError(path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _reap(base: Path) -> None:
    marked = (mark.parent for mark in base.glob(f"{_PREFIX}*/{_MARK}"))
    for path in (*marked, *base.glob(f".{_PREFIX}????????")):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue  # it went away, or it is someone else's
        try:
            if os.fstat(descriptor).st_uid == os.geteuid():
                _remove_unused(path, descriptor)
        finally:
            os.close(descriptor)


def _remove_unused(path: Path, descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    hidden = path.with_name(f".{path.name.removeprefix('.')}")
    with contextlib.suppress(OSError):
        path.rename(hidden)
    shutil.rmtree(hidden, ignore_errors=True)
    return True
