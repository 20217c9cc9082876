import json
import os
from pathlib import Path

import pytest

from handoff_lab import AuthenticationError
from handoff_lab.transport.keys import JoinFile, KeyPair


@pytest.fixture
def join() -> JoinFile:
    return JoinFile("tcp://127.0.0.1:1234", KeyPair.generate().public, KeyPair.generate())


def test_is_read_as_it_was_written(tmp_path: Path, join: JoinFile) -> None:
    join.write(tmp_path / "join.json")
    assert JoinFile.read(tmp_path / "join.json") == join


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_has_mode_0600_whatever_the_umask(tmp_path: Path, join: JoinFile, umask: int) -> None:
    before = os.umask(umask)
    try:
        join.write(tmp_path / "join.json")
    finally:
        os.umask(before)
    assert (tmp_path / "join.json").stat().st_mode & 0o777 == 0o600


def test_is_never_written_over(tmp_path: Path, join: JoinFile) -> None:
    (tmp_path / "join.json").touch()
    with pytest.raises(FileExistsError):
        join.write(tmp_path / "join.json")
    (tmp_path / "link.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        join.write(tmp_path / "link.json")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_is_refused_when_others_can_read_it(tmp_path: Path, join: JoinFile, mode: int) -> None:
    path = tmp_path / "join.json"
    join.write(path)
    path.chmod(mode)
    with pytest.raises(AuthenticationError, match=f"chmod 600 {path}"):
        JoinFile.read(path)


@pytest.mark.parametrize("content", ["", "{", "[]", '"text"', '{"kind": "other"}', "\xff"])
def test_what_is_none_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "join.json"
    path.touch(0o600)
    path.write_text(content, encoding="latin-1")
    with pytest.raises(AuthenticationError, match="no join file"):
        JoinFile.read(path)


@pytest.mark.parametrize("missing", ["endpoint", "server_key", "public_key", "secret_key"])
def test_every_part_is_needed(tmp_path: Path, join: JoinFile, missing: str) -> None:
    path = tmp_path / "join.json"
    join.write(path)
    content = json.loads(path.read_text())
    del content[missing]
    path.write_text(json.dumps(content))
    with pytest.raises(AuthenticationError) as caught:
        JoinFile.read(path)
    assert join.keys.secret not in str(caught.value)


def test_one_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(AuthenticationError, match="No such file"):
        JoinFile.read(tmp_path / "join.json")


def test_secrets_show_in_no_repr(join: JoinFile) -> None:
    assert join.keys.secret not in repr(join)
    assert join.keys.secret not in f"{join.keys!r} {join.keys}"
