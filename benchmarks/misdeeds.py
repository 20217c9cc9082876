"""What functions do in the scenarios of ``faults.py``; each leaves a mark as it begins."""

from __future__ import annotations

import ctypes
import itertools
import os
import time
from dataclasses import dataclass
from pathlib import Path

ANSWER = 42
RESULT_NBYTES = 1_000_000
GLUT_MB, BITE_MB, BITE_S = 2_500, 20, 0.01
LOOK_S = 0.01


@dataclass(frozen=True, slots=True)
class Mark:
    pid: int
    time: float  # on the clock that all processes of this machine share


def leave(here: Path, name: str) -> int:
    """Leave a mark; how many were there before it."""
    before = len(marks(here, name))
    with (here / name).open("a") as file:
        file.write(f"{os.getpid()} {time.monotonic()}\n")
    return before


def marks(here: Path, name: str) -> list[Mark]:
    try:
        lines = (here / name).read_text().splitlines()
    except FileNotFoundError:
        return []
    return [Mark(int(pid), float(at)) for pid, at in map(str.split, lines)]


def wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(LOOK_S)


def held_once(here: Path) -> int:
    """The first time it never ends."""
    if leave(here, "held") == 0:
        wait_for(here / "never")
    return ANSWER


def make(here: Path) -> bytes:
    leave(here, "make")
    return bytes(RESULT_NBYTES)


def gate(here: Path) -> int:
    leave(here, "gate")
    wait_for(here / "open")
    return ANSWER


def use(made: bytes, opened: int, here: Path) -> int:
    leave(here, "use")
    return len(made) + opened


def brief(here: Path) -> int:
    leave(here, "brief")
    return ANSWER


def crash(here: Path) -> None:
    leave(here, "crash")
    ctypes.string_at(0)


def fail(here: Path) -> None:
    leave(here, "fail")
    raise ValueError("it always fails")


def spin(here: Path) -> None:
    leave(here, "busy")
    while True:
        pass


def nap(here: Path) -> None:
    """Wait in C, where a signal ends the wait."""
    leave(here, "busy")
    time.sleep(600)


def deaf(here: Path) -> None:
    """Compute in C, where nobody looks for signals, and keep the GIL."""
    leave(here, "busy")
    sum(itertools.repeat(0))


def glut(here: Path) -> int:
    """Take more memory than anybody allowed."""
    leave(here, "glut")
    wait_for(here / "eat")
    held = []
    for _ in range(GLUT_MB // BITE_MB):
        held.append(b"x" * (BITE_MB * 10**6))
        time.sleep(BITE_S)
    return len(held)


def start_daemon(here: Path) -> int:
    """Start a process in a session of its own, whose parent is gone at once; its number."""
    leave(here, "daemon")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        if (daemon := os.fork()) != 0:
            os.write(write, str(daemon).encode())
            os._exit(0)
        os.execvp("sleep", ["sleep", "600"])
    os.waitpid(child, 0)
    return int(os.read(read, 20))
