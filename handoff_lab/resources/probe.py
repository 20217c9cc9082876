"""What this machine has: cpus and memory that this process may use, and NVIDIA GPUs.

Containers are limited by cgroups, which neither the cpu count nor the memory
total of the machine show; both versions of cgroups are read.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

from handoff_lab.resources.amounts import Resources
from handoff_lab.resources.gpus import find_gpus

# cgroup v1 writes "no limit" as the largest page-aligned int64.
_UNLIMITED = 2**62


def probe_machine(root: Path = Path("/")) -> Resources:
    """Capabilities of this machine: ``cpu``, ``memory`` (MB), and ``gpu``, ``gpu_memory`` (MB) where there are GPUs.

    Parameters
    ----------
    root
        Where ``proc`` and ``sys`` are found.
    """
    cpus = float(_usable_cpus())
    quota = cpu_quota(root)
    if quota is not None:
        cpus = min(cpus, max(1.0, quota // 1))
    return Resources({"cpu": cpus, "memory": probe_memory(root) // 10**6, **probe_gpus()})


def probe_memory(root: Path = Path("/")) -> int:
    """Bytes of memory that this process may use."""
    import psutil

    total: int = psutil.virtual_memory().total
    limit = memory_limit(root)
    return total if limit is None else min(total, limit)


def load() -> dict[str, float]:
    """How busy this machine is: ``cpu`` in percent since the last call, ``memory`` in use in MB."""
    import psutil

    memory = psutil.virtual_memory()
    return {"cpu": psutil.cpu_percent(), "memory": (memory.total - memory.available) / 10**6}


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Cpus that the cgroups of this process allow, a fraction perhaps; None without a limit."""
    quotas = []
    for folder in _cgroups(root, "cpu"):
        words = _read(folder / "cpu.max").split()  # version 2: "200000 100000" or "max 100000"
        if not words:
            words = [_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")]
        if len(words) == 2 and words[0].isdecimal() and words[1].isdecimal() and int(words[1]):
            quotas.append(int(words[0]) / int(words[1]))
    return min(quotas, default=None)


def memory_limit(root: Path = Path("/")) -> int | None:
    """Bytes that the cgroups of this process allow; None without a limit."""
    limits = []
    for folder in _cgroups(root, "memory"):
        text = _read(folder / "memory.max") or _read(folder / "memory.limit_in_bytes")
        if text.isdecimal() and int(text) < _UNLIMITED:
            limits.append(int(text))
    return min(limits, default=None)


def probe_gpus() -> dict[str, float]:
    """``gpu`` and ``gpu_memory`` (MB, of all GPUs) as NVML has them; empty where there are none."""
    gpus = [gpu for gpu in find_gpus() if math.isfinite(gpu.memory)]  # one that is only named may not be there
    return {"gpu": len(gpus), "gpu_memory": sum(gpu.memory for gpu in gpus)} if gpus else {}


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cgroups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of this process's cgroup and those above it; a limit of each of them holds."""
    mount = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        # Inside a container the path may be the host's, which is not there: the mount's own top then is ours.
        top = mount / controllers
        folder = top / path.strip("/")
        yield from (f for f in (folder, *folder.parents) if f.is_relative_to(top))


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
