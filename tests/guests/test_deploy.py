"""The files in docs/deploy, by which nodes are started by hand."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import handoff_lab as hl
from handoff_lab.node.options import NodeOptions, parse_options
from tests.guests.slurm import Slurm, why_no_slurm
from tests.others import gone, soon

DEPLOY = Path(__file__).parents[2] / "docs" / "deploy"
UNIT = DEPLOY / "handoff-node.service"
SCRIPT = DEPLOY / "handoff-nodes.sbatch"
MANIFEST = DEPLOY / "handoff-nodes.yaml"


def options_in(command: str) -> NodeOptions:
    """What a node would make of a command line."""
    return parse_options(shlex.split(command.partition("handoff-lab node ")[2]))


# -- systemd -----------------------------------------------------------------------


def test_the_unit_starts_a_node() -> None:
    unit = configparser.RawConfigParser()
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(UNIT.read_text())
    assert options_in(unit["Service"]["ExecStart"]).join_file == Path("/etc/handoff-lab/join.json")
    assert unit["Service"]["KillMode"] == "mixed"  # the agent alone is told to end, and ends the others


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
def test_systemd_finds_no_fault_with_the_unit(tmp_path: Path) -> None:
    here = tmp_path / UNIT.name  # it asks for programs that are there
    here.write_text(re.sub(r"(?<=ExecStart=)\S+", sys.executable, UNIT.read_text()))
    told = subprocess.run(["systemd-analyze", "verify", here], capture_output=True, text=True, check=False)
    assert [line for line in told.stderr.splitlines() if UNIT.name in line] == []
    assert told.returncode == 0


# -- Kubernetes --------------------------------------------------------------------


@pytest.fixture
def manifest() -> Any:
    return yaml.safe_load(MANIFEST.read_text())


def test_the_job_starts_a_node_in_each_pod(manifest: Any) -> None:
    pod = manifest["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (script,) = container["args"]
    copy, node = script.split("&&")
    options = options_in(node)
    assert copy.split() == ["install", "-m", "600", "/join/join.json", str(options.join_file)]
    assert options.name == f"${container['env'][0]['name']}"
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounted.keys() == {volume["name"] for volume in pod["volumes"]}
    assert mounted["join"] == "/join"


def test_kubernetes_knows_all_that_the_job_says(manifest: Any) -> None:
    validate = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate, which has the schemas, is missing"
    )
    validate.validate(manifest, validate.latest_version(), strict=True)


# -- Slurm -------------------------------------------------------------------------


def test_bash_can_read_the_script() -> None:
    subprocess.run(["bash", "-n", SCRIPT], check=True)


@pytest.fixture
def slurm() -> Iterator[Slurm]:
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, Slurm(Path(folder)) as slurm:
        yield slurm


@pytest.mark.real
@pytest.mark.skipif(why_no_slurm() is not None, reason=str(why_no_slurm()))
def test_slurm_starts_nodes_and_ends_them(slurm: Slurm) -> None:
    size = ("--nodes=1", "--ntasks-per-node=2", "--cpus-per-task=2", "--mem=1000M")
    with hl.Cluster({}) as cluster:
        job = slurm.run("sbatch", "--parsable", *size, str(SCRIPT), str(cluster.join_file))
        soon(lambda: len(cluster.nodes) == 2)
        nodes = dict(cluster.nodes)
        assert list(nodes) == [f"slurm-{job}-0", f"slurm-{job}-1"]
        assert nodes[f"slurm-{job}-0"].capabilities == {"cpu": 2, "memory": 500 * 1.048576}
        cluster.remove_node(f"slurm-{job}-0")
        dag = hl.DAG().add(hl.Function("two", lambda: 2, cost={"cpu": 2}))
        assert cluster.execute(dag).allocations == {"two": f"slurm-{job}-1"}
        slurm.run("scancel", job)
        soon(lambda: not cluster.nodes)
        soon(gone([node.pid for node in nodes.values()]))
        soon(lambda: not slurm.run("squeue", "--noheader"))
