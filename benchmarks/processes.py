"""Child processes that leave nothing behind: no process, no temporary file, nothing in the user's folders."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

_HERE = Path(__file__).resolve().parent
TIMEOUT_S = 600.0

_PR_SET_CHILD_SUBREAPER = 36
_GRACE_S = 5.0
_LAST_LINES = 15


class ChildError(Exception):
    """A child failed; the message holds the end of what it wrote."""


def adopt_orphans() -> None:
    """Make processes whose parent ended children of this one (Linux), so that ``end_children`` sees them."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Places:
    """Where a child may write: temporary files, and the byte code of what it imports, which later ones find there."""

    private: Path
    byte_code: Path

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            **_private_folders(self.private),
            "PYTHONPATH": str(_HERE),  # workers of every engine import the functions, none sends them by value
            "PYTHONPYCACHEPREFIX": str(self.byte_code),  # installed packages are compiled, whatever the caller's habits
            "PYTHONDONTWRITEBYTECODE": "",
        }


def run_child(command: Sequence[str], places: Places, timeout_s: float = TIMEOUT_S) -> None:
    """Run one of our scripts in a session of its own, and end all that it started.

    Raises
    ------
    ChildError
        It failed or took too long.
    """
    script, *arguments = command
    log = places.private / "log"
    try:
        with log.open("wb") as file:
            done = subprocess.run(  # in a session of its own: Ctrl-C comes here only
                [sys.executable, str(_HERE / script), *arguments],
                env=places.environment(),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                timeout=timeout_s,
                start_new_session=True,
                check=False,
            )
    except subprocess.TimeoutExpired as error:
        raise ChildError(f"still not done after {timeout_s:.0f} s\n{_end_of(log)}") from error
    finally:
        end_children()
    if done.returncode:
        raise ChildError(f"ended with status {done.returncode}\n{_end_of(log)}")


def ask(command: Sequence[str], byte_code: Path) -> Any:
    """What a script of ours writes as JSON to the path that it gets as its last argument."""
    with private_folder() as folder:
        output = Path(folder) / "answer"
        run_child([*command, str(output)], Places(Path(folder), byte_code))
        return json.loads(output.read_text(encoding="utf-8"))


def private_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder that goes with all that is in it."""
    return tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True)


@contextmanager
def byte_code_folder() -> Iterator[Path]:
    """Where children find the byte code of what others imported: this process's own folder for it, or a private one."""
    if sys.pycache_prefix is not None:
        yield Path(sys.pycache_prefix)
    else:
        with private_folder() as folder:
            yield Path(folder)


def end_children() -> None:
    """Give what is left of this process's descendants some time to end, then kill it; reap all."""
    _, left = psutil.wait_procs(_descendants(), timeout=_GRACE_S)
    while left:
        for process in left:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                pass
        psutil.wait_procs(left, timeout=_GRACE_S)
        left = _descendants()  # what the killed ones had started is ours now


def _descendants() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def _private_folders(folder: Path) -> dict[str, str]:
    """Where an engine's temporary files, logs and profiles go instead of the user's folders."""
    names = ("TMPDIR", "XDG_STATE_HOME", "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
    for name in names:
        (folder / name).mkdir(mode=0o700)
    return {name: str(folder / name) for name in names}


def _end_of(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-_LAST_LINES:])
