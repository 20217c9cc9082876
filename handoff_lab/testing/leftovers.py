"""What a process has around it: descendants, descriptors, threads, shared memory, files; and what of it is new."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from handoff_lab.node.lifeline import descendants

PATIENCE_S = 60.0  # for what killed processes leave to others to clear up


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is there at a moment."""

    processes: frozenset[int]
    descriptors: Counter[str]  # what they are of
    threads: frozenset[str]
    files: frozenset[str]

    @classmethod
    def look(cls, folders: Sequence[Path]) -> Surroundings:
        """Look around: files are those below ``folders``, and shared memory."""
        # The hidden ones are those of browsers; semaphores are multiprocessing's, which is not used here.
        shared = (path for path in Path("/dev/shm").glob("[!.]*") if not path.name.startswith("sem."))  # noqa: S108
        paths = [*shared, *(path for folder in folders for path in folder.rglob("*"))]
        return cls(
            frozenset(descendants(os.getpid())),
            _descriptors(),
            frozenset(thread.name for thread in threading.enumerate()),
            frozenset(map(str, paths)),
        )

    def more_than(self, before: Surroundings) -> list[str]:
        """What was not there before."""
        return [
            *(f"process {pid}: {_command(pid)}" for pid in self.processes - before.processes),
            *(f"descriptor of {what}" for what in (self.descriptors - before.descriptors).elements()),
            *(f"thread {name}" for name in self.threads - before.threads),
            *(f"file {path}" for path in self.files - before.files),
        ]


def left_over(before: Surroundings, folders: Sequence[Path]) -> list[str]:
    """What was not there before and does not go soon."""
    end = time.monotonic() + PATIENCE_S
    while (more := Surroundings.look(folders).more_than(before)) and time.monotonic() < end:
        gc.collect()  # what only garbage holds is not left over
        time.sleep(0.05)
    return more


def _descriptors() -> Counter[str]:
    found: Counter[str] = Counter()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            what = str(entry.readlink())
            found[what if what.startswith("anon_inode:") else what.partition("[")[0]] += 1  # sockets without numbers
        except FileNotFoundError:
            pass  # the listing's own
    return found


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:200]
    except OSError:
        return "it ended meanwhile"
