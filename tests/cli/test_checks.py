"""What doctor finds, on a machine that is well and on one that is not."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NoReturn

import pytest

from handoff_lab.cli import checks, doctor, main
from handoff_lab.cli.checks import Finding, State
from handoff_lab.resources import Resources
from handoff_lab.resources.devices import Device


def worst(findings: Iterator[Finding]) -> Finding:
    return max(findings, key=lambda finding: finding.state)


def test_this_machine_can_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "BAD" not in said
    assert said.splitlines()[-1] == "handoff_lab can work here"


def test_what_is_bad_is_told_with_how_to_mend_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    findings = [Finding("ports", "closed", State.BAD, "open them"), Finding("Python", "3.11")]
    monkeypatch.setattr(doctor, "CHECKS", (lambda: iter(findings),))
    assert main(["doctor"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "BAD   ports: closed",
        "      → open them",
        "ok    Python: 3.11",
        "handoff_lab can not work here before that is mended",
    ]


def test_warnings_alone_are_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CHECKS", (lambda: iter([Finding("x", "y", State.WARNING)]),))
    assert main(["doctor"]) == 0


def test_an_old_python_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 4))
    assert worst(checks.check_python()).state is State.BAD


def test_a_missing_package_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "pyzmq":
            raise metadata.PackageNotFoundError(name)
        return metadata.version(name)

    monkeypatch.setattr(checks, "version", version)
    found = worst(checks.check_packages())
    assert (found.what, found.state) == ("pyzmq", State.BAD)
    assert found.mend.startswith('pip install "pyzmq')


def test_an_old_package_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "version", lambda name: "0.1" if name == "msgpack" else metadata.version(name))
    found = worst(checks.check_packages())
    assert (found.what, found.detail[:3]) == ("msgpack", "0.1")


def test_without_dot_pygraphviz_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks.shutil, "which", lambda name: None)
    monkeypatch.setattr(checks, "version", lambda name: "2.0")
    assert worst(checks.check_dot()).state is State.GOOD


def test_without_either_graphs_are_drawn_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> NoReturn:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(checks.shutil, "which", lambda name: None)
    monkeypatch.setattr(checks, "version", version)
    found = worst(checks.check_dot())
    assert found.state is State.WARNING
    assert "apt-get install graphviz" in found.mend


def test_a_dot_that_does_not_run_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "dot"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(checks.shutil, "which", lambda name: str(broken))
    assert worst(checks.check_dot()).state is State.WARNING


def test_a_closed_loopback_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> NoReturn:
        raise PermissionError("not here")

    monkeypatch.setattr(socket, "create_server", refuse)
    assert worst(checks.check_loopback()).state is State.BAD


def test_a_libzmq_without_curve_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    import zmq

    monkeypatch.setattr(zmq, "has", lambda feature: feature != "curve")
    assert worst(checks.check_curve()).state is State.BAD


def test_a_small_dev_shm_is_a_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(checks, "SHARED", tmp_path)
    monkeypatch.setattr(checks, "LEAST_SHARED_BYTES", 10**18)
    found = worst(checks.check_shared_memory())
    assert (found.state, "shm-size" in found.mend) == (State.WARNING, True)


def test_a_gpu_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "probe_machine", lambda: Resources({"cpu": 2}))
    monkeypatch.setattr(checks.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    assert worst(checks.check_machine()).what == "GPU"


def test_each_gpu_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "find_gpus", lambda: (Device("2", 16_000), Device("GPU-5", 80_000)))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-5")
    told = [finding.detail for finding in checks.check_machine() if finding.what == "GPU"]
    chosen = "one of CUDA_VISIBLE_DEVICES=2,GPU-5"
    assert told == [f"2 with 16 GB, {chosen}", f"GPU-5 with 80 GB, {chosen}"]


@pytest.mark.parametrize(
    ("visible", "told"),
    [
        (None, "no NVML: GPUs are only counted, functions see all of them"),
        ("2,3", "2 with unknown memory (no NVML), one of CUDA_VISIBLE_DEVICES=2,3"),
    ],
)
def test_without_nvml_that_is_told(visible: str | None, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(checks.shutil, "which", lambda name: None)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    gpus = [finding for finding in checks.check_machine() if finding.what == "GPU"]
    assert (gpus[0].detail, gpus[0].state) == (told, State.GOOD)
