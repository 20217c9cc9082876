"""How busy a node's GPUs are, looked at in a thread: a driver can take long to answer."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from handoff_lab.messages import AttemptId, GpuLoad, GpuUse
from handoff_lab.resources.gpus import GpuMeter, GpuReading

FAREWELL_S = 1.0  # for an answer that is waited for when the node ends


class GpuWatch:
    """Looks every ``period_s``."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._latest: tuple[GpuReading, ...] = ()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="GPUs", daemon=True)
        self._thread.start()

    def loads(self, functions: Mapping[int, AttemptId]) -> tuple[GpuLoad, ...]:
        """What was seen last, and what these functions have of it, given by their processes."""
        return tuple([_load(reading, functions) for reading in self._latest])

    def close(self) -> None:
        """Look no more."""
        self._ended.set()
        self._thread.join(FAREWELL_S)

    def _look(self) -> None:
        meter = GpuMeter()
        while True:
            self._latest = meter.read()
            if self._ended.wait(self._period_s):
                break
        meter.close()


def _load(reading: GpuReading, functions: Mapping[int, AttemptId]) -> GpuLoad:
    uses = [
        GpuUse(functions[pid], process.percent, process.memory)
        for pid, process in reading.processes.items()
        if pid in functions
    ]
    return GpuLoad(reading.id, reading.percent, reading.memory, reading.total, tuple(uses))
