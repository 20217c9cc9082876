"""Where detached clusters are kept: a private directory for each, with all that it takes to go on after a crash."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from handoff_lab._errors import BackendError
from handoff_lab.telemetry.log import log_directory

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

    @classmethod
    def make(cls, name: str) -> Place:
        """A new one.

        Raises
        ------
        BackendError
            There is a cluster of this name.
        """
        reap()
        place = cls(_home() / quote(name, safe=" "))
        place.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            place.path.mkdir(mode=0o700)
        except FileExistsError:
            raise BackendError(
                f"there is a detached cluster {name!r} already; hl.attach({name!r}) gives it back, .close() ends it"
            ) from None
        return place

    @classmethod
    def find(cls, name_or_path: str | os.PathLike[str] | None) -> Place:
        """The one of this name, or the only one of this machine.

        Raises
        ------
        BackendError
            There is no such cluster, or it is not clear which is meant.
        """
        reap()
        places = found()
        if name_or_path is None:
            if len(places) == 1:
                return places[0]
            names = ", ".join(repr(place.name) for place in places)
            raise BackendError(
                f"which one? there are detached clusters {names}" if names else "there is no detached cluster"
            )
        for place in (cls(_home() / quote(os.fspath(name_or_path), safe=" ")), cls(Path(name_or_path))):
            if place.exists:
                if (machine := place.settings.machine) != socket.gethostname():
                    raise BackendError(f"the detached cluster {place.name!r} is on {machine}; attach to it there")
                return place
        names = ", ".join(repr(place.name) for place in places) or "none"
        raise BackendError(f"there is no detached cluster {os.fspath(name_or_path)!r}; there are: {names}")

    @property
    def name(self) -> str:
        """The cluster's name."""
        return unquote(self.path.name)

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

    def read(self, name: str) -> bytes | None:
        """A file's content; None if it is not there."""
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None

    @property
    def settings(self) -> Settings:
        """What the cluster was started with."""
        return Settings(**json.loads(self.read("settings") or b""))

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
        """Become its coordinator: a descriptor to keep open; None if there is one."""
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
        except (FileNotFoundError, ValueError):
            return False  # it changes just now
        return not self.is_served and time.time() - seen > FRESH_S + 2 * lease_s


def found() -> list[Place]:
    """The detached clusters of this user on this machine."""
    here = (place for place in _places() if place.exists and place.settings.machine == socket.gethostname())
    return sorted(here, key=lambda place: place.path)


def reap() -> None:
    """Remove what killed coordinators left behind."""
    for place in _places():
        if place.is_left_over:
            place.remove()


def _places() -> Iterator[Place]:
    with contextlib.suppress(FileNotFoundError):
        for entry in os.scandir(_home()):
            if entry.is_dir(follow_symlinks=False):  # also one that is still being made, or removed
                yield Place(Path(entry.path))


def _home() -> Path:
    return log_directory().parent / "detached"
