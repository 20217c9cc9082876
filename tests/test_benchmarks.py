"""The benchmarks work: every figure of every engine that needs no peer installed. How fast is not tested."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.others import soon

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
RUN = BENCHMARKS / "run.py"

OF_ALL = {
    "start-up",
    "fan-out-2k",
    "fan-out-10k",
    "chain-300",
    "layered-20x50",
    "tree-10k",
    "pass-100mb-first",
    "pass-100mb",
    "result-50mb-first",
    "result-50mb",
}
FIGURES = {
    "handoff": OF_ALL | {"build-10k", "fan-out-2k-claims", "chain-300-across"},
    "pool": OF_ALL,
    "pyzmq": OF_ALL | {"chain-300-across"},
}


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path_factory.mktemp("byte-code")))
        yield


def run(*arguments: str, script: str = "run.py") -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(BENCHMARKS / script), *arguments]
    return subprocess.run(words, capture_output=True, text=True, timeout=230)


@pytest.mark.real
def test_every_figure_is_there_and_positive(tmp_path: Path) -> None:
    output = tmp_path / "results.json"
    done = run("--quick", "--repeat", "1", "--peers", "pool,pyzmq", "--json", str(output))
    assert done.returncode == 0, done.stdout + done.stderr
    results: dict[str, Any] = json.loads(output.read_text())
    medians = {name: engine["medians"] for name, engine in results["engines"].items()}
    assert {name: set(figures) for name, figures in medians.items()} == FIGURES
    assert all(value > 0 for figures in medians.values() for value in figures.values())
    assert set(results["units"]) == FIGURES["handoff"]
    for peer in ("pool", "pyzmq"):
        for figure, ratio in results["ratios"][peer].items():
            ours, theirs = medians["handoff"][figure], medians[peer][figure]
            more_is_better = results["units"][figure] in {"functions/s", "GB/s"}
            assert ratio == pytest.approx(ours / theirs if more_is_better else theirs / ours)
    assert "| handoff_lab | process pool |" in done.stdout


@pytest.mark.real
@pytest.mark.parametrize("terminate", [False, True], ids=["done", "terminated"])
def test_nothing_is_left(tmp_path: Path, terminate: bool) -> None:
    mark = secrets.token_hex(8)
    command = [sys.executable, str(RUN), "--quick", "--repeat", "1", "--peers", "none", "--only", "start-up"]
    environment = {**os.environ, "BENCHMARK_TEST": mark, "TMPDIR": str(tmp_path)}
    del environment["PYTHONPYCACHEPREFIX"]  # so that a folder for it is made, and removed
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"round 1 of 1: handoff_lab\n"
        if terminate:
            process.terminate()
        assert process.wait(200) == (128 + signal.SIGTERM if terminate else 0), process.stderr.read()
    soon(lambda: not [p for p in psutil.process_iter() if mark in environment_of(p).values()])
    soon(lambda: not list(tmp_path.iterdir()))


def environment_of(process: psutil.Process) -> dict[str, str]:
    try:
        environment: dict[str, str] = process.environ()
    except (psutil.Error, OSError):  # ended meanwhile, or another user's
        return {}
    return environment


@pytest.mark.parametrize(("option", "value"), [("--peers", "spark"), ("--only", "fan-in")])
def test_an_unknown_name_is_refused(option: str, value: str) -> None:
    done = run("--quick", option, value)
    assert done.returncode == 2
    assert f"{value}: not one of " in done.stderr


@pytest.mark.real
def test_growth_is_measured_on_kernels_and_in_virtual_time(tmp_path: Path) -> None:
    output = tmp_path / "scale.json"
    done = run("--quick", "--only", "sizes", "--json", str(output), script="scale.py")
    assert done.returncode == 0, done.stdout + done.stderr
    sizes = json.loads(output.read_text())["sizes"]
    assert set(sizes) == {"50 on 2 nodes", "200 on 20 simulated nodes"}
    for found in sizes.values():
        assert 0 < found["submit_s"] < found["done_s"]
        assert found["rate"] * found["us_per_function"] == pytest.approx(1e6)
    assert 0 < sizes["50 on 2 nodes"]["first_start_s"] < sizes["50 on 2 nodes"]["done_s"]


@pytest.mark.real
def test_many_nodes_are_measured_and_nothing_is_lost_with_them(tmp_path: Path) -> None:
    output = tmp_path / "scale.json"
    done = run("--quick", "--only", "losses,agents", "--json", str(output), script="scale.py")
    assert done.returncode == 0, done.stdout + done.stderr  # which totals that are wrong are not
    results = json.loads(output.read_text())
    (losses,), (agents,) = (results[name].values() for name in ("losses", "agents"))
    assert losses["lost"] == 1
    assert 0 < losses["replan_median_ms"] <= losses["replan_max_ms"]
    assert losses["again"] > 0
    assert agents["noticed_ms"] > 0


@pytest.mark.real
def test_every_quality_is_there_and_positive(tmp_path: Path) -> None:
    output = tmp_path / "qualities.json"
    done = run("--quick", "--repeat", "1", "--json", str(output), script="qualities.py")
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(output.read_text())
    assert set(results["medians"]) == set(results["units"])
    assert all(value > 0 for value in results["medians"].values())
    assert results["medians"]["agents-ready"] < results["medians"]["first-result"] < results["medians"]["shells-ready"]


@pytest.mark.real
def test_faults_are_put_to_an_engine_and_what_it_tells_is_kept(tmp_path: Path) -> None:
    output = tmp_path / "faults.json"
    options = ["--repeat", "1", "--peers", "none", "--only", "pinned-killed", "--json", str(output)]
    done = run(*options, script="faults.py")
    assert done.returncode == 0, done.stdout + done.stderr
    (finding,) = json.loads(output.read_text())["findings"]["handoff"]["pinned-killed"]
    assert finding["words"] == "NodeLostError after {after_s}; names function, node"
    assert "to which it is pinned" in finding["told"]
    assert finding["figures"]["attempts"] == 1
    assert " s; names function, node |" in done.stdout


@pytest.mark.real
def test_what_is_added_to_dask_is_told_for_each_work(tmp_path: Path) -> None:
    output = tmp_path / "overhead.json"
    done = run("--functions", "100", "--repeat", "1", "--json", str(output), script="dask_overhead.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| client.submit | handoff_lab |" in " ".join(done.stdout.split())
    assert len(json.loads(output.read_text())["seconds"]) == 6


@pytest.mark.real
def test_costs_are_told_for_each_part() -> None:
    done = run("--functions", "200", "--repeat", "1", "--shape", "layered", script="costs.py")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split("|")[1].strip() for line in done.stdout.splitlines() if line.startswith("|")]
    assert rows[2:] == ["wall", "main thread", "coordinator's thread", "its other threads", "agents", "slots"]
