"""`handoff-lab node` from another terminal."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import handoff_lab as hl
from handoff_lab.cli import main

COMMAND = [sys.executable, "-c", "import sys; from handoff_lab.cli import main; sys.exit(main())", "node"]
WAIT_S = 60


@pytest.fixture
def arrivals() -> Iterator[dict[str, threading.Event]]:
    """An event for the node ``extra``, set when it is there."""
    waiting = {"extra": threading.Event()}

    def up(event: tuple[str, ...], numbers: dict[str, float], facts: dict[str, Any], config: object) -> None:
        if facts["node"] in waiting:
            waiting[facts["node"]].set()

    hl.telemetry.attach("arrivals", ("handoff", "node", "up"), up)
    yield waiting
    hl.telemetry.detach("arrivals")


@pytest.mark.real
def test_a_node_joins_works_and_ends_with_its_cluster(arrivals: dict[str, threading.Event]) -> None:
    with hl.Cluster({"first": {"cpu": 1}}) as cluster:
        options = ["--join", str(cluster.join_file), "--name", "extra", "--cpu", "1", "--resource", "fpga=2"]
        process = subprocess.Popen([*COMMAND, *options])
        try:
            assert arrivals["extra"].wait(WAIT_S)
            assert cluster.nodes["extra"].capabilities["fpga"] == 2
            run = cluster.execute(hl.DAG().add(hl.Function("pid", os.getppid, cost={"fpga": 1})))
            assert run.allocations == {"pid": "extra"}
            assert run.results["pid"] != os.getpid()
            cluster.close()
            assert process.wait(WAIT_S) == 0
        finally:
            process.kill()
            process.wait()


def test_a_join_file_that_is_not_there_is_a_line_and_2(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "--join", str(tmp_path / "none.json")], capture_output=True, text=True, check=False, timeout=WAIT_S
    )
    assert done.returncode == 2
    assert done.stderr.startswith("handoff-lab: join file ")
    assert done.stderr.count("\n") == 1


def test_a_capability_that_makes_no_sense_is_a_line_and_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["node", "--join", str(tmp_path / "none.json"), "--resource", "fpga=-2"]) == 2
    assert capsys.readouterr().err.startswith("handoff-lab: 'fpga'")
