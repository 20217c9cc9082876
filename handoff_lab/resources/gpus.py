"""NVIDIA's GPUs as NVML tells of them: which there are, how busy they are and with what.

A process that CUDA lets see some GPUs only (``CUDA_VISIBLE_DEVICES``) is told of these alone.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from handoff_lab.resources.devices import Device

VISIBLE = "CUDA_VISIBLE_DEVICES"
ORDER = "CUDA_DEVICE_ORDER"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ProcessReading:
    """What a process does on a GPU: bytes of its memory, percent of the time that it computed; None is unknown."""

    memory: int | None
    percent: float | None


@dataclass(frozen=True, slots=True)
class GpuReading:
    """What a GPU does now: percent of the time since the last look that it computed, bytes of memory in use."""

    id: str
    percent: float | None
    memory: int
    total: int
    processes: Mapping[int, ProcessReading] = field(default_factory=dict)  # by process id


def find_gpus() -> tuple[Device, ...]:
    """The GPUs that CUDA would use here, in its order.

    Where there is no NVML they are those that the environment names: whether they are there, and how much memory they
    have, is then not known, and where it names none, none is found.
    """
    nvml = _open()
    if nvml is None:
        return tuple([Device(id) for id in _named()])
    try:
        return tuple([_device(nvml, id, handle) for id, handle in _visible(nvml)])
    except nvml.NVMLError as error:
        _log.warning("NVML could not list the GPUs, so none is offered: %s", error)
        return ()
    finally:
        nvml.nvmlShutdown()


def nvml_answers() -> bool:
    """Whether NVML is there and has found its driver."""
    nvml = _open()
    if nvml is not None:
        nvml.nvmlShutdown()
    return nvml is not None


def why_only_counted() -> str | None:
    """Why GPUs that seem to be here are not handed out; None where nothing says that there are any."""
    if VISIBLE in os.environ or shutil.which("nvidia-smi") is None or nvml_answers():
        return None
    return "NVML does not answer: they are only counted, and functions see all of them (pip install nvidia-ml-py)"


def sight_of(ids: tuple[str, ...]) -> dict[str, str]:
    """Variables of the environment that let a process see these GPUs alone.

    NVML counts GPUs as they lie on the bus, CUDA only if it is told to. Names that this process was given are CUDA's
    already.
    """
    return {VISIBLE: ",".join(ids), **order()}


def order() -> dict[str, str]:
    """The variable of the environment, if any is needed, that makes CUDA count GPUs as ``find_gpus`` does."""
    return {} if VISIBLE in os.environ else {ORDER: "PCI_BUS_ID"}


class GpuMeter:
    """Looks at these GPUs. Calls may take some milliseconds each, more when a GPU wakes."""

    def __init__(self) -> None:
        self._nvml = _open()
        self._handles: dict[str, Any] = {}
        self._seen: dict[str, int] = {}  # time of the last sample of processes, in NVML's clock
        if self._nvml is not None:
            self._handles = _asked(self._nvml, lambda nvml: dict(_visible(nvml))) or {}

    def read(self) -> tuple[GpuReading, ...]:
        """What each does now; one that is lost is left out."""
        readings = (self._read(self._nvml, id, handle) for id, handle in self._handles.items())
        return tuple([reading for reading in readings if reading is not None])

    def close(self) -> None:
        """Look no more."""
        if self._nvml is not None:
            _asked(self._nvml, lambda nvml: nvml.nvmlShutdown())
            self._nvml, self._handles = None, {}

    def _read(self, nvml: Any, id: str, handle: Any) -> GpuReading | None:
        memory = _asked(nvml, lambda nvml: nvml.nvmlDeviceGetMemoryInfo(handle))
        if memory is None:
            return None
        rates = _asked(nvml, lambda nvml: nvml.nvmlDeviceGetUtilizationRates(handle))
        percent = None if rates is None else float(rates.gpu)
        return GpuReading(id, percent, memory.used, memory.total, self._processes(nvml, id, handle))

    def _processes(self, nvml: Any, id: str, handle: Any) -> dict[int, ProcessReading]:
        running = _asked(nvml, lambda nvml: nvml.nvmlDeviceGetComputeRunningProcesses(handle)) or ()
        if not running:
            return {}
        since = self._seen.get(id, 0)
        samples = _asked(nvml, lambda nvml: nvml.nvmlDeviceGetProcessUtilization(handle, since)) or ()
        latest = {sample.pid: sample for sample in sorted(samples, key=lambda sample: sample.timeStamp)}
        self._seen[id] = max([since, *(sample.timeStamp for sample in samples)])
        percents = {pid: float(sample.smUtil) for pid, sample in latest.items()}
        idle = 0.0 if samples else None
        return {p.pid: ProcessReading(p.usedGpuMemory, percents.get(p.pid, idle)) for p in running}


def _open() -> Any:
    """NVML, ready to be asked; None without it."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        _log.debug("NVML is not usable: %s", error)
        return None
    return pynvml


def _asked(nvml: Any, question: Callable[[Any], Any]) -> Any:
    """The answer; None where a GPU or its driver has none."""
    try:
        return question(nvml)
    except nvml.NVMLError as error:
        _log.debug("NVML: %s", error)
        return None


def _device(nvml: Any, id: str, handle: Any) -> Device:
    return Device(id, nvml.nvmlDeviceGetMemoryInfo(handle).total / 10**6)


def _visible(nvml: Any) -> Iterator[tuple[str, Any]]:
    """Ids and handles of the GPUs that CUDA would use: as CUDA does, the list ends at the first bad entry."""
    count = nvml.nvmlDeviceGetCount()
    if VISIBLE not in os.environ:
        yield from ((str(index), nvml.nvmlDeviceGetHandleByIndex(index)) for index in range(count))
        return
    for entry in _named():
        if not entry.isdecimal():
            yield entry, nvml.nvmlDeviceGetHandleByUUID(entry)
        elif int(entry) < count:
            yield entry, nvml.nvmlDeviceGetHandleByIndex(int(entry))
        else:
            return


def _named() -> Iterator[str]:
    """What the environment lets this process see, up to the first entry that is none, or is there twice."""
    seen = set()
    for entry in map(str.strip, os.environ.get(VISIBLE, "").split(",")):
        if entry in seen or not (entry.isdecimal() or entry.startswith(("GPU-", "MIG-"))):
            return
        seen.add(entry)
        yield entry
