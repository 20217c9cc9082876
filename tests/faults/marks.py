"""Marks that functions leave, wherever they run: functions import this, so it imports little."""

from __future__ import annotations

import os
import time
from pathlib import Path


class Marks:
    """Files that functions leave and look for, wherever they run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def leave(self, name: str) -> int:
        """Leave another mark; how many there were before."""
        for number in range(10**6):
            try:
                os.close(os.open(self._folder / f"{name}.{number}", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                continue
            return number
        raise AssertionError("too many marks")

    def count(self, name: str) -> int:
        return len(list(self._folder.glob(f"{name}.*")))

    def wait(self, name: str, seconds: float = 120.0) -> None:
        """Wait for a mark; raises nothing when it never comes, so that a process left alone ends."""
        end = time.monotonic() + seconds
        while not self.count(name) and time.monotonic() < end:
            time.sleep(0.005)
