"""What tests ask of other processes: to end with the tests, whether they are there, and to wait for what they do."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

PYTHON = ("setpriv", "--pdeathsig", "KILL", sys.executable)  # ends with the thread that started it, whatever ends that


def soon(condition: Callable[[], object], seconds: float = 60.0, story: Callable[[], object] = str) -> None:
    """Until it is so: what other processes do is told to nobody."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"it did not happen in time; {story()}"
        time.sleep(0.005)


def is_there(pid: int) -> bool:
    """Whether a process lives, zombies aside."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def said_in_a_fork(deed: Callable[[], object], error: type[Exception]) -> str:
    """The text of the error that a deed raises in a forked child; nothing if it raises none."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        try:
            deed()
        except error as raised:
            os.write(writer, str(raised).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, encoding="utf-8") as told:
        said = told.read()
    os.waitpid(child, 0)
    return said


def gone(pids: Collection[int]) -> Callable[[], bool]:
    return lambda: not any(map(is_there, pids))


def stories(pids: Collection[int]) -> list[str]:
    """Those that are there: their states and parents, and what they were started as."""
    found = []
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
            found.append(f"{pid} ({state}) of {parent}: {words[:200]}")
    return found
