"""NVML as ``nvidia-ml-py`` brings it, of GPUs that are not there.

``FAKE_NVML`` names a directory. ``gpus.json`` in it has a list of ``{"uuid", "memory", "used", "percent"}``. A file
named as a process lists its GPUs' numbers, of which it has a gigabyte each and half of the time.
"""

# ruff: noqa: N802 (the names are NVML's)

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any


class NVMLError(Exception):
    """As NVML's."""


class NVMLError_NotSupported(NVMLError):  # noqa: N801 (as it is called there)
    """What this GPU can't tell."""


GIGABYTE = 10**9
_calls: list[str] = []  # that are open


def _place() -> Path:
    return Path(os.environ["FAKE_NVML"])


def _gpu(index: int) -> dict[str, Any]:
    assert _calls, "nvmlInit was not called"
    gpus: list[dict[str, Any]] = json.loads((_place() / "gpus.json").read_text())
    if index >= len(gpus):
        raise NVMLError("GPU is lost")
    return gpus[index]


def _processes(index: int) -> list[int]:
    files = [path for path in _place().iterdir() if path.name.isdecimal()]
    return sorted(int(path.name) for path in files if str(index) in path.read_text().split(","))


def nvmlInit() -> None:
    if not (_place() / "gpus.json").exists():
        raise NVMLError("Driver Not Loaded")
    _calls.append("init")


def nvmlShutdown() -> None:
    _calls.pop()


def nvmlDeviceGetCount() -> int:
    assert _calls, "nvmlInit was not called"
    return len(json.loads((_place() / "gpus.json").read_text()))


def nvmlDeviceGetHandleByIndex(index: int) -> int:
    return index


def nvmlDeviceGetHandleByUUID(uuid: str) -> int:
    for index in range(nvmlDeviceGetCount()):
        if _gpu(index)["uuid"] == uuid:
            return index
    raise NVMLError("Not Found")


def nvmlDeviceGetName(handle: int) -> str:
    return f"Fake {handle}"


def nvmlDeviceGetMemoryInfo(handle: int) -> SimpleNamespace:
    gpu = _gpu(handle)
    return SimpleNamespace(total=gpu["memory"], used=gpu.get("used", 0) + GIGABYTE * len(_processes(handle)))


def nvmlDeviceGetUtilizationRates(handle: int) -> SimpleNamespace:
    percent = _gpu(handle).get("percent")
    if percent is None:
        raise NVMLError_NotSupported("Not Supported")
    return SimpleNamespace(gpu=percent, memory=1)


def nvmlDeviceGetComputeRunningProcesses(handle: int) -> list[SimpleNamespace]:
    return [SimpleNamespace(pid=pid, usedGpuMemory=GIGABYTE) for pid in _processes(handle)]


def nvmlDeviceGetProcessUtilization(handle: int, since: int) -> list[SimpleNamespace]:
    if _gpu(handle).get("percent") is None:
        raise NVMLError_NotSupported("Not Supported")
    return [
        SimpleNamespace(pid=pid, timeStamp=since + step, smUtil=util)
        for pid in _processes(handle)
        for step, util in ((2, 50), (1, 10))
    ]
