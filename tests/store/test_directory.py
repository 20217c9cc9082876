import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from handoff_lab import BackendError
from handoff_lab.store.directory import SharedDirectory


@pytest.fixture(autouse=True)
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="hl-") as path:
        monkeypatch.setenv("XDG_RUNTIME_DIR", path)
        yield Path(path)


def test_is_private_and_gone_afterwards(base: Path) -> None:
    directory = SharedDirectory.create()
    assert directory.path.parent == base
    assert directory.path.stat().st_mode & 0o777 == 0o700
    (directory.path / "file").touch()
    directory.leave()
    directory.leave()
    assert not list(base.iterdir())


def test_the_last_one_out_removes_it() -> None:
    first = SharedDirectory.create()
    second = SharedDirectory.enter(first.path)
    first.leave()
    assert first.path.exists()
    second.leave()
    assert not first.path.exists()


def test_one_in_use_is_not_reaped() -> None:
    first = SharedDirectory.create()
    second = SharedDirectory.create()
    assert first.path.exists()
    first.leave()
    second.leave()


def test_what_a_killed_process_left_is_reaped(base: Path) -> None:
    code = "import os; from handoff_lab.store.directory import SharedDirectory as S; S.create(); os.abort()"
    subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, check=False
    )
    (left,) = base.iterdir()
    SharedDirectory.create().leave()
    assert not left.exists()


@pytest.mark.parametrize("moment", ["tempfile.mkdtemp", "Path.touch", "Path.rename", "shutil.rmtree"])
def test_what_was_killed_while_it_made_or_removed_one_left_is_reaped(base: Path, moment: str) -> None:
    owner, _, name = moment.partition(".")
    code = f"""
import os, shutil, tempfile
from pathlib import Path
from handoff_lab.store.directory import SharedDirectory

original = {moment}

def last_deed(*args, **options):
    original(*args, **options) if {name!r} != "rmtree" else None
    os.abort()

{owner}.{name} = last_deed
SharedDirectory.create().leave()
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode < 0
    assert list(base.iterdir())
    SharedDirectory.create().leave()
    assert not list(base.iterdir())


def test_one_that_another_process_took_for_left_over_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    make, made = tempfile.mkdtemp, []

    def robbed(*args: str, **options: str) -> str:
        made.append(make(*args, **options))
        if len(made) == 1:
            Path(made[0]).rmdir()
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", robbed)
    directory = SharedDirectory.create()
    assert directory.path.is_dir()
    assert len(made) == 2
    directory.leave()


def test_a_folder_of_the_users_is_not_ours_to_reap(base: Path) -> None:
    (base / "handoff-lab-results").mkdir()
    (base / "handoff-lab-results" / "mine").touch()
    SharedDirectory.create().leave()
    assert [path.name for path in (base / "handoff-lab-results").iterdir()] == ["mine"]


def test_what_is_gone_cannot_be_entered(base: Path) -> None:
    with pytest.raises(FileNotFoundError):
        SharedDirectory.enter(base / "handoff-lab-gone")


def test_a_forked_child_does_not_use_it() -> None:
    directory = SharedDirectory.create()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write)
        os.read(read, 1)
        os._exit(0)
    directory.leave()
    assert not directory.path.exists()
    os.close(write)
    os.close(read)
    os.waitpid(child, 0)


def test_where_paths_are_too_long_for_sockets_it_is_elsewhere(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = base / ("x" * 60)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    monkeypatch.setattr("tempfile.tempdir", str(long))
    directory = SharedDirectory.create()
    assert directory.path.parent == Path("/tmp")
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(BackendError, match="TMPDIR"):
        SharedDirectory.create()
    directory.leave()


def test_without_a_session_directory_it_is_with_the_temporary_files(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/nonexistent")
    monkeypatch.setattr("tempfile.tempdir", str(base))
    directory = SharedDirectory.create()
    assert directory.path.parent == base
    directory.leave()


def test_a_place_where_nothing_can_be_written_is_named(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **options: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    with pytest.raises(BackendError, match=f"in {base}: .*No space left.*; make room there, or set TMPDIR"):
        SharedDirectory.create()
