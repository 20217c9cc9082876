"""Where a detached cluster is kept: a private directory with all that it takes to go on after a crash."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import socket
import stat
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import unquote

from handoff_lab._errors import AuthenticationError, BackendError

FRESH_S = 60.0  # for a directory that is just being made
_LOOK_S = 0.02


@dataclass(frozen=True, slots=True)
class Settings:
    """What a detached cluster was started with."""

    name: str
    machine: str  # whose process its coordinator is: a home folder may be that of many machines
    nodes: dict[str, dict[str, float]]
    host: str
    store_limit: int | None
    lease_s: float
    log_directory: str | None


@dataclass(frozen=True, slots=True)
class Address:
    """Where a coordinator can be reached."""

    pid: int
    socket: str


class Place:
    """The directory of one detached cluster. Who holds its lock is its coordinator."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log_file = path / "log"

    @property
    def name(self) -> str:
        """The cluster's name."""
        return unquote(self.path.name)

    def require_private(self) -> None:
        """Raise where another user could have put something: what is read here is trusted, pickles among it."""
        found = self.path.stat()
        if found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise AuthenticationError(
                f"{self.path} is not of this user alone (owner {found.st_uid}, mode {stat.S_IMODE(found.st_mode):04o}),"
                " so nothing in it is trusted: attach as the user who started the cluster"
            )

    # -- files -------------------------------------------------------------------

    def write(self, name: str, data: bytes) -> None:
        """Write a file, all or nothing."""
        path = self.path / name
        path.parent.mkdir(exist_ok=True, mode=0o700)
        new = path.with_name(f".{path.name}.new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(data)
        new.replace(path)

    def append(self, name: str, data: bytes) -> None:
        """Write at the end of a file, in a directory that is there."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        with open(os.open(self.path / name, flags, 0o600), "ab") as file:
            file.write(data)

    def read(self, name: str) -> bytes | None:
        """A file's content; None if it is not there."""
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None

    @property
    def settings(self) -> Settings:
        """What the cluster was started with.

        Raises
        ------
        BackendError
            It was started by another version of handoff_lab, or has just ended.
        """
        try:
            return Settings(**json.loads(self.read("settings") or b""))
        except (ValueError, TypeError):
            raise BackendError(
                f"the detached cluster in {self.path} has ended, or is of another version of handoff_lab: use that one"
            ) from None

    @settings.setter
    def settings(self, settings: Settings) -> None:
        self.write("settings", json.dumps(asdict(settings)).encode())

    @property
    def address(self) -> Address | None:
        """Where its latest coordinator listens, or did."""
        data = self.read("address")
        return None if data is None else Address(**json.loads(data))

    @address.setter
    def address(self, address: Address | None) -> None:
        if address is None:
            (self.path / "address").unlink(missing_ok=True)
        else:
            self.write("address", json.dumps(asdict(address)).encode())

    # -- life --------------------------------------------------------------------

    def hold(self, patience_s: float = 0.5) -> int | None:
        """Become its coordinator: a descriptor to keep open; None if there is one.

        Raises
        ------
        FileNotFoundError
            The place is gone.
        """
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        end = time.monotonic() + patience_s  # others may be looking whether there is one
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > end:
                    os.close(descriptor)
                    return None
                time.sleep(_LOOK_S)
            else:
                break
        if not _is_at(descriptor, self.path / "lock"):
            os.close(descriptor)
            raise FileNotFoundError(self.path)
        return descriptor

    @property
    def is_served(self) -> bool:
        """Whether there is a coordinator."""
        with contextlib.suppress(FileNotFoundError), open(self.path / "lock", "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    @property
    def exists(self) -> bool:
        """Whether it was not removed yet."""
        return (self.path / "settings").is_file()

    def touch(self) -> None:
        """Say that its coordinator lives."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(self.path / "lock")

    def remove(self) -> None:
        """Remove it: nothing of its cluster is left."""
        (self.path / "settings").unlink(missing_ok=True)  # first: without it nobody takes it up
        gone = self.path.with_name(f".{self.path.name}.{os.getpid()}")  # where nobody puts anything into it any more
        with contextlib.suppress(OSError):
            self.path.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    @property
    def is_left_over(self) -> bool:
        """Whether its coordinator was killed so long ago that its nodes have ended, too."""
        try:
            if self.exists and self.settings.machine != socket.gethostname():
                return False
            lease_s = self.settings.lease_s if self.exists else 0.0
            seen = max(path.stat().st_mtime for path in (self.path, self.path / "lock") if path.exists())
        except (FileNotFoundError, BackendError):
            return False  # it changes just now, or is not ours to judge
        return not self.is_served and time.time() - seen > FRESH_S + 2 * lease_s


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether this is still the file that is there."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
