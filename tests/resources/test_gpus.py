"""What NVML says of GPUs, and what is made of its silence."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from handoff_lab.resources.devices import Device
from handoff_lab.resources.gpus import (
    GpuMeter,
    GpuReading,
    ProcessReading,
    find_gpus,
    nvml_answers,
    order,
    sight_of,
    why_only_counted,
)
from handoff_lab.resources.probe import probe_gpus

FAKES = Path(__file__).parents[1] / "fakes"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the fake NVML looks; two GPUs, of which the second doesn't tell how busy it is."""
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.syspath_prepend(str(FAKES))
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    monkeypatch.setenv("FAKE_NVML", str(tmp_path))
    gpus: list[dict[str, Any]] = [
        {"uuid": "GPU-a", "memory": 16 * 10**9, "used": 10**8, "percent": 70},
        {"uuid": "MIG-b", "memory": 10 * 10**9},
    ]
    (tmp_path / "gpus.json").write_text(json.dumps(gpus))
    yield tmp_path
    sys.modules.pop("pynvml", None)


@pytest.mark.parametrize(
    ("visible", "ids"),
    [(None, ["0", "1"]), ("1", ["1"]), ("MIG-b,GPU-a", ["MIG-b", "GPU-a"]), ("0,0,1", ["0"]), ("", []), ("-1", [])],
)
@pytest.mark.usefixtures("place")
def test_ids_are_those_that_cuda_understands(
    visible: str | None, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = find_gpus()
    assert [gpu.id for gpu in found] == ids
    assert all(gpu == Device(gpu.id, 16_000 if gpu.id in ("0", "GPU-a") else 10_000) for gpu in found)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}),
        ({"CUDA_VISIBLE_DEVICES": "1,0"}, {}),
        ({"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}, {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}),
        ({"CUDA_DEVICE_ORDER": "FASTEST_FIRST", "CUDA_VISIBLE_DEVICES": "1,0"}, {}),
    ],
)
@pytest.mark.usefixtures("place")
def test_numbers_mean_the_same_to_cuda_as_to_who_gave_them(
    given: dict[str, str], expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert order() == expected
    assert sight_of(("1", "0")) == {"CUDA_VISIBLE_DEVICES": "1,0", **expected}


def test_a_meter_reads_each_and_who_uses_it(place: Path) -> None:
    (place / str(os.getpid())).write_text("0,1")
    meter = GpuMeter()
    readings = meter.read()
    meter.close()
    assert readings == (
        GpuReading("0", 70.0, 1_100_000_000, 16 * 10**9, {os.getpid(): ProcessReading(10**9, 50.0)}),
        GpuReading("1", None, 10**9, 10**10, {os.getpid(): ProcessReading(10**9, None)}),
    )
    assert meter.read() == ()


def test_a_driver_that_is_gone_is_no_error(place: Path) -> None:
    meter = GpuMeter()
    (place / "gpus.json").write_text("[]")
    assert meter.read() == ()
    meter.close()
    (place / "gpus.json").unlink()
    assert find_gpus() == ()
    assert GpuMeter().read() == ()


class TestWithoutNvml:
    @pytest.fixture(autouse=True)
    def none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pynvml", None)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        assert not nvml_answers()

    @pytest.mark.parametrize(
        ("visible", "ids"),
        [("2,3", ["2", "3"]), ("MIG-b, GPU-a", ["MIG-b", "GPU-a"]), ("1,1,2", ["1"]), ("0,x,1", ["0"]), ("", [])],
    )
    def test_gpus_are_those_that_are_named(self, visible: str, ids: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert find_gpus() == tuple(Device(id) for id in ids)
        assert probe_gpus() == {}, "they may not be there"

    def test_nothing_is_named(self) -> None:
        assert find_gpus() == ()

    @pytest.mark.parametrize(
        ("smi", "visible", "said"),
        [(None, None, False), ("/usr/bin/nvidia-smi", None, True), ("/usr/bin/nvidia-smi", "0", False)],
    )
    def test_gpus_that_seem_to_be_there(
        self, smi: str | None, visible: str | None, said: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shutil, "which", lambda name: smi)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        reason = why_only_counted()
        assert (reason is not None and "functions see all of them" in reason) == said
