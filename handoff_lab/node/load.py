"""What a node's processes really use, read from ``/proc``: the agent, and all that descends from it."""

from __future__ import annotations

import os
import time
from pathlib import Path

from handoff_lab.node.lifeline import descendants

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_THRIFT = 100  # looking for descendants reads all of /proc: it may take a hundredth of the time


class Meter:
    """Measures between calls of ``read``."""

    def __init__(self) -> None:
        self._ticks: dict[int, int] = {}
        self._time = self._look_again = time.monotonic()
        self._family: list[int] = []

    def read(self) -> tuple[float, int]:
        """Percent of one cpu since the last call, and bytes of memory now (shared pages counted in each process)."""
        now = time.monotonic()
        if now >= self._look_again:
            self._family = [os.getpid(), *descendants(os.getpid())]
            self._look_again = now + _THRIFT * (time.monotonic() - now)
        before, self._ticks = self._ticks, {}
        memory = 0
        for pid in self._family:
            try:
                fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
            except OSError:
                continue  # it ended meanwhile
            self._ticks[pid] = int(fields[11]) + int(fields[12])
            memory += int(fields[21]) * _PAGE
        used = sum(ticks - before.get(pid, ticks) for pid, ticks in self._ticks.items()) / _TICK
        elapsed, self._time = now - self._time, now
        return max(0.0, 100 * used / max(elapsed, 1e-3)), memory
