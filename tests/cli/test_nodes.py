"""Nodes are found among the processes of this user."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import handoff_lab as hl
from handoff_lab.cli import main
from handoff_lab.node.options import NodeOptions

SLEEPER = "import sys; print('ready', flush=True); sys.stdin.read()"


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process whose command line is a node's, and that does nothing."""
    program = tmp_path / "handoff-lab"
    program.write_text(SLEEPER)
    options = NodeOptions(tmp_path / "join", "asleep", capabilities=hl.Resources({"cpu": 3, "fpga": 2}))
    command = [sys.executable, str(program), "node", *options.command_line()]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.mark.real
def test_a_node_has_a_line(sleeper: subprocess.Popen[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nodes"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert re.split(r"\s{2,}", header) == ["node", "pid", "has", "uses", "for", "join file"]
    (line,) = (line for line in lines if line.startswith("asleep"))
    assert re.split(r"\s{2,}", line)[:3] == ["asleep", str(sleeper.pid), "cpu 3, fpga 2"]


def test_without_nodes_it_says_how_to_start_some(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("psutil.process_iter", lambda attributes: iter(()))
    assert main(["nodes"]) == 0
    assert "handoff-lab node --join FILE" in capsys.readouterr().out


@pytest.mark.real
def test_a_cluster_s_nodes_are_there_once_each(capsys: pytest.CaptureFixture[str]) -> None:
    with hl.Cluster({"first": {"cpu": 2}, "second": {"cpu": 1, "gpu": 1}}) as cluster:
        assert main(["nodes"]) == 0
        pids = {name: node.pid for name, node in cluster.nodes.items()}
        file = str(cluster.join_file)
    lines = [re.split(r"\s{2,}", line) for line in capsys.readouterr().out.splitlines()]
    ours = {name: (int(pid), has) for name, pid, has, *_, join in lines[1:] if join == file}
    assert ours == {"first": (pids["first"], "cpu 2"), "second": (pids["second"], "cpu 1, gpu 1")}
