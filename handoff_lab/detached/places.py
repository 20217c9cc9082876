"""The detached clusters of this user: one directory for each, by name; what was left behind is removed."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from handoff_lab._errors import BackendError
from handoff_lab.detached.place import Place
from handoff_lab.telemetry.log import log_directory


def make(name: str) -> Place:
    """A new one.

    Raises
    ------
    BackendError
        There is a cluster of this name.
    """
    reap()
    place = Place(_path_of(name))
    place.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        place.path.mkdir(mode=0o700)
    except FileExistsError:
        raise BackendError(
            f"there is a detached cluster {name!r} already; hl.attach({name!r}) gives it back, .close() ends it"
        ) from None
    return place


def find(name_or_path: str | os.PathLike[str] | None) -> Place:
    """The one of this name or in this directory, or the only one of this machine.

    Raises
    ------
    BackendError
        There is no such cluster, or it is not clear which is meant.
    AuthenticationError
        Its directory is another user's, or others can write there.
    """
    reap()
    known = found()
    if name_or_path is None:
        if not known:
            raise BackendError("there is no detached cluster")
        if len(known) > 1:
            raise BackendError(f"which one? there are detached clusters {_names(known)}")
        known[0].require_private()
        return known[0]
    for place in (Place(_path_of(os.fspath(name_or_path))), Place(Path(name_or_path))):
        if place.path.is_dir():
            place.require_private()
            if place.exists:
                if (machine := place.settings.machine) != socket.gethostname():
                    raise BackendError(f"the detached cluster {place.name!r} is on {machine}; attach to it there")
                return place
    raise BackendError(
        f"there is no detached cluster {os.fspath(name_or_path)!r}; there are: {_names(known) or 'none'}"
    )


def found() -> list[Place]:
    """The detached clusters of this user on this machine."""
    return sorted(filter(_is_here, _all()), key=lambda place: place.path)


def reap() -> None:
    """Remove what killed coordinators left behind."""
    for place in _all():
        if place.is_left_over:
            place.remove()


def _all() -> Iterator[Place]:
    """Those of this user, also what is still being made, or removed."""
    with contextlib.suppress(FileNotFoundError):
        for entry in os.scandir(_home()):
            with contextlib.suppress(FileNotFoundError):
                if entry.is_dir(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_uid == os.geteuid():
                    yield Place(Path(entry.path))


def _is_here(place: Place) -> bool:
    try:
        return place.exists and place.settings.machine == socket.gethostname()
    except BackendError:
        return False


def _names(places: list[Place]) -> str:
    return ", ".join(repr(place.name) for place in places)


def _path_of(name: str) -> Path:
    quoted = quote(name, safe=" ")
    if quoted.startswith("."):  # what is being removed begins so, and ".." is elsewhere
        quoted = quoted.replace(".", "%2E", 1)
    return _home() / quoted


def _home() -> Path:
    return log_directory().parent / "detached"
