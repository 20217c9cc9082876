"""What was seen of GPUs during a run: how busy each was, and what the run's functions had of it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from handoff_lab.telemetry.events import Event


@dataclass(frozen=True, slots=True)
class GpuUseRecord:
    """What a function's process had of a GPU: percent of its time, bytes of its memory; None where that is unknown."""

    function: Hashable
    attempt: int
    percent: float | None
    memory: int | None


@dataclass(frozen=True, slots=True)
class GpuRecord:
    """A GPU at one time: how busy it was with anything, in percent of its time and bytes of its memory."""

    time: float
    node: str
    gpu: str
    percent: float | None
    memory: int
    total: int
    functions: tuple[GpuUseRecord, ...] = ()


def gpu_records(event: Event, run: str) -> list[GpuRecord]:
    """Of each GPU that an event of utilization tells of, with the functions of this run."""
    return [_record(event, gpu, run) for gpu in event.metadata.get("gpus", ())]


def _record(event: Event, gpu: dict[str, Any], run: str) -> GpuRecord:
    uses = [
        GpuUseRecord(use["function"], use["attempt"], use["percent"], use["memory"])
        for use in gpu["functions"]
        if use["run"] == run
    ]
    return GpuRecord(
        event.time, event.metadata["node"], gpu["gpu"], gpu["percent"], gpu["memory"], gpu["total"], tuple(uses)
    )
