"""Where detached clusters are kept: found by name, trusted only if private, and removed when left over."""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path

import pytest

import handoff_lab as hl
from handoff_lab.detached import places
from handoff_lab.detached.place import Place, Settings


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "handoff_lab" / "detached"


def make(name: str) -> Place:
    place = places.make(name)
    place.settings = Settings(name, os.uname().nodename, {}, "127.0.0.1", None, 1.0, None)
    return place


@pytest.mark.parametrize("name", ["night", "..", ".", ".hidden", "a/b", "../../up", "ä ö\n", "%2E"])
def test_any_name_is_a_directory_of_its_own(home: Path, name: str) -> None:
    place = make(name)
    other = make("other")
    assert place.path.parent == other.path.parent == home
    assert place.name == name
    assert {found.name for found in places.found()} == {name, "other"}
    assert places.find(name).path == place.path
    place.remove()
    assert list(home.iterdir()) == [other.path]


def test_only_its_user_can_enter_and_read(home: Path) -> None:
    place = make("night")
    place.write("run-1/order", b"")
    place.append("run-1/cancelled", b"")
    assert place.hold() is not None
    modes = {path: path.stat().st_mode & 0o777 for path in (home, *home.rglob("*"))}
    assert set(modes.values()) == {0o700, 0o600}


def test_a_place_that_others_could_have_written_is_not_trusted(home: Path) -> None:
    place = make("night")
    place.path.chmod(0o755)
    for name in ("night", place.path, None):
        with pytest.raises(hl.AuthenticationError, match="is not of this user alone"):
            hl.attach(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_place_of_another_user_is_not_looked_into(home: Path) -> None:
    place = make("night")
    os.chown(place.path, 12345, 12345)
    with pytest.raises(hl.AuthenticationError, match="owner 12345, mode 0700"):
        places.find("night")
    with pytest.raises(hl.BackendError, match="there is no detached cluster"):
        places.find(None)
    old = time.time() - 1e6
    os.utime(place.path, (old, old))
    places.reap()
    assert place.exists


def test_a_cluster_of_another_version_hinders_no_others(home: Path) -> None:
    strange, mine = make("strange"), make("mine")
    strange.write("settings", json.dumps({"name": "strange", "later": 1}).encode())
    old = time.time() - 1e6
    os.utime(strange.path, (old, old))
    assert places.find(None).path == mine.path
    assert make("another").exists
    assert strange.path.exists()
    with pytest.raises(hl.BackendError, match="is of another version of handoff_lab"):
        places.find("strange")


def test_who_locks_a_place_that_is_gone_by_then_is_not_the_coordinator_of_the_next(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = make("night")
    lock = fcntl.flock

    def lock_late(file: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        place.path.rename(home / ".gone")
        make("night").write("lock", b"")
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", lock_late)
    with pytest.raises(FileNotFoundError):
        place.hold()
    held = Place(home / "night").hold()
    assert held is not None
    os.close(held)


def test_what_was_left_over_goes_and_what_is_served_stays(home: Path) -> None:
    dead, alive = make("dead"), make("alive")
    lock, released = alive.hold(), dead.hold()
    assert lock is not None
    assert released is not None
    os.close(released)
    old = time.time() - 3600
    for place in (dead, alive):
        for path in (place.path, place.path / "lock"):
            os.utime(path, (old, old))
    places.reap()
    assert list(home.iterdir()) == [alive.path]
    os.close(lock)
