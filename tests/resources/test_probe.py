"""What the machine has, read from fake files and a fake NVML."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from handoff_lab.resources import probe, probe_machine


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


@pytest.fixture
def big_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=64 * 10**9, available=24 * 10**9))
    monkeypatch.setitem(sys.modules, "pynvml", None)


@pytest.mark.usefixtures("big_machine")
class TestLimits:
    def test_without_cgroups_it_is_the_machine(self, tmp_path: Path) -> None:
        assert dict(probe_machine(tmp_path)) == {"cpu": 16, "memory": 64_000}

    def test_version_2_takes_the_tightest_limit_on_the_way_up(self, tmp_path: Path) -> None:
        root = write(
            tmp_path,
            {
                "proc/self/cgroup": "0::/user.slice/job",
                "sys/fs/cgroup/user.slice/job/cpu.max": "max 100000",
                "sys/fs/cgroup/user.slice/cpu.max": "350000 100000",
                "sys/fs/cgroup/user.slice/job/memory.max": "2000000000",
                "sys/fs/cgroup/user.slice/memory.max": "9000000000",
            },
        )
        assert probe.cpu_quota(root) == 3.5
        assert dict(probe_machine(root)) == {"cpu": 3, "memory": 2000}

    def test_version_1_has_a_folder_for_each_controller(self, tmp_path: Path) -> None:
        root = write(
            tmp_path,
            {
                "proc/self/cgroup": "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "200000",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "3000000000",
            },
        )
        assert dict(probe_machine(root)) == {"cpu": 2, "memory": 3000}

    def test_no_limit_is_written_in_three_ways(self, tmp_path: Path) -> None:
        root = write(
            tmp_path,
            {
                "proc/self/cgroup": "5:memory:/\n4:cpu:/\n0::/",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
                "sys/fs/cgroup/memory.max": "max",
            },
        )
        assert dict(probe_machine(root)) == {"cpu": 16, "memory": 64_000}

    def test_part_of_a_cpu_still_runs_one_function(self, tmp_path: Path) -> None:
        root = write(tmp_path, {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "50000 100000"})
        assert probe_machine(root)["cpu"] == 1

    def test_load_is_what_is_in_use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(psutil, "cpu_percent", lambda: 12.5)
        assert probe.load() == {"cpu": 12.5, "memory": 40_000.0}


class FakeNvml:
    """Two GPUs of 24 and 80 GB."""

    NVMLError = type("NVMLError", (Exception,), {})

    def __init__(self, broken: str | None = None) -> None:
        self.broken = broken
        self.open = False

    def _may(self, what: str) -> None:
        if what == self.broken:
            raise self.NVMLError(what)

    def module(self) -> SimpleNamespace:
        return SimpleNamespace(
            NVMLError=self.NVMLError,
            nvmlInit=self.start,
            nvmlShutdown=self.stop,
            nvmlDeviceGetCount=lambda: 2,
            nvmlDeviceGetHandleByIndex=lambda index: index,
            nvmlDeviceGetHandleByUUID=lambda uuid: int(uuid[-1]),
            nvmlDeviceGetMemoryInfo=self.memory,
        )

    def start(self) -> None:
        self._may("init")
        self.open = True

    def stop(self) -> None:
        self.open = False

    def memory(self, handle: int) -> SimpleNamespace:
        self._may("memory")
        return SimpleNamespace(total=[24, 80][handle] * 10**9)


class TestGpus:
    @pytest.fixture(autouse=True)
    def _all_visible(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def found(self, monkeypatch: pytest.MonkeyPatch, nvml: FakeNvml | None) -> dict[str, float]:
        monkeypatch.setitem(sys.modules, "pynvml", nvml and nvml.module())
        return probe.probe_gpus()

    def test_all_of_them_with_their_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        nvml = FakeNvml()
        assert self.found(monkeypatch, nvml) == {"gpu": 2, "gpu_memory": 104_000}
        assert not nvml.open

    @pytest.mark.parametrize(
        ("visible", "expected"),
        [
            ("1", {"gpu": 1, "gpu_memory": 80_000}),
            ("GPU-0", {"gpu": 1, "gpu_memory": 24_000}),
            ("0,1", {"gpu": 2, "gpu_memory": 104_000}),
            ("0,-1,1", {"gpu": 1, "gpu_memory": 24_000}),
            ("", {}),
            ("7", {}),
        ],
    )
    def test_only_those_that_cuda_would_use(
        self, monkeypatch: pytest.MonkeyPatch, visible: str, expected: dict[str, float]
    ) -> None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert self.found(monkeypatch, FakeNvml()) == expected

    @pytest.mark.parametrize("broken", ["init", "memory"])
    def test_an_nvml_that_fails_is_no_gpu(self, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
        nvml = FakeNvml(broken)
        assert self.found(monkeypatch, nvml) == {}
        assert not nvml.open

    def test_without_nvml_there_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.found(monkeypatch, None) == {}


def test_this_machine_has_something() -> None:
    has = probe_machine()
    assert has["cpu"] >= 1
    assert has["memory"] > 0
