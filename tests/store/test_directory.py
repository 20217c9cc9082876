import os
import subprocess
import sys
from pathlib import Path

import pytest

from handoff_lab.store.directory import SharedDirectory


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


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


def test_what_is_gone_cannot_be_entered(base: Path) -> None:
    with pytest.raises(FileNotFoundError):
        SharedDirectory.enter(base / "handoff-lab-gone")


def test_without_a_session_directory_it_is_with_the_temporary_files(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/nonexistent")
    monkeypatch.setattr("tempfile.tempdir", str(base))
    directory = SharedDirectory.create()
    assert directory.path.parent == base
    directory.leave()
