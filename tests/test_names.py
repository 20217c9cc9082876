"""What nodes, clusters and resources may be called is the same wherever a name is given."""

from __future__ import annotations

from pathlib import Path

import pytest

import handoff_lab as hl
from handoff_lab._names import is_name, writable
from handoff_lab.cli import main
from handoff_lab.nodes import name_nodes

WRONG = ["", " ", " a", "a\tb", "a\nb", "a\0", "a" * 65, "\udcff.txt"]
RULE = "is no name for a {}; use up to 64 printable characters, no blanks around them"

wrong = pytest.mark.parametrize("name", WRONG, ids=ascii)


def refused(what: str) -> str:
    return RULE.format(what)


@pytest.mark.parametrize("name", ["a", "my box", "äö-1.example", "a" * 64, "<b>"])
def test_anything_printable_is_a_name(name: str) -> None:
    assert is_name(name)


@wrong
def test_a_nodes_name(name: str) -> None:
    with pytest.raises(hl.BackendError, match=refused("node")):
        name_nodes({name: {"cpu": 1}})
    with hl.Cluster({"there": {"cpu": 1}}, backend="local") as cluster:
        with pytest.raises(hl.BackendError, match=refused("node")):
            cluster.add_node({"cpu": 1}, name)
        assert list(cluster.nodes) == ["there"]


@wrong
def test_a_node_on_the_command_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["node", "--join", str(tmp_path / "none"), "--name", name]) == 2
    assert capsys.readouterr().err.endswith(f"{refused('node')}: see --name\n")


@wrong
def test_a_resource(name: str) -> None:
    with pytest.raises(hl.InvalidFunctionError, match=refused("resource")):
        hl.Function("f", len, cost={name: 1})
    with pytest.raises(hl.ResourceError, match=refused("resource")):
        name_nodes({"a": {name: 1}})


@wrong
def test_a_cluster(name: str) -> None:
    with pytest.raises(ValueError, match=refused("cluster")):
        hl.Cluster({}, backend="local", name=name)


@pytest.mark.parametrize("name", ["a/b", "../up", ".", ".."])
def test_a_detached_cluster_is_not_called_as_a_path(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with pytest.raises(ValueError, match="would be taken for a path"):
        hl.Cluster({}, name=name, detached=True)
    assert not list(tmp_path.iterdir())


def test_a_text_that_utf8_has_not_is_written_with_escapes() -> None:
    assert writable("ä\udcff") == "ä\\udcff"
    assert writable("plain") == "plain"
