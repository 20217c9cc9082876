"""Agents of nodes on this machine, as processes that end with the one that started them, and who clears up after."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path

from handoff_lab.node.lifeline import Lifeline, descendants
from handoff_lab.node.options import NodeOptions
from handoff_lab.transport.loop import Loop

# Each user of the directory holds a shared lock: see ``store.directory``.
_REAPER = """
import fcntl, os, shutil, sys
directory = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)
sys.stdin.read()
fcntl.flock(directory, fcntl.LOCK_EX)
shutil.rmtree(sys.argv[1], ignore_errors=True)
"""
_PF_EXITING = 0x4  # of a process: flag that its end has begun
_TAIL = 2000  # characters of what an agent wrote before it failed
_LOG_LIMIT = 100_000  # bytes of its log that are shown


class LocalAgent:
    """An agent's process. ``exited`` is called once, when it has ended by itself or was killed.

    ``environment`` has variables that are set over those of this process.
    """

    def __init__(
        self,
        loop: Loop,
        options: NodeOptions,
        log_file: Path,
        exited: Callable[[], None],
        environment: Mapping[str, str],
    ) -> None:
        self._loop = loop
        self._exited = exited
        self._log_file = log_file
        self._environment = environment
        self._lifeline = Lifeline()
        try:
            self._process = self._start(replace(options, lifeline=self._lifeline.read_fd))
            self.pid = self._process.pid
            self.sentinel = os.pidfd_open(self.pid)
        except OSError:
            self._lifeline.cut()  # which ends the process, if there is one
            raise
        loop.add_reader(self.sentinel, self._ended)

    def _start(self, options: NodeOptions) -> subprocess.Popen[bytes]:
        with open(self._log_file, "ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "handoff_lab.node", *options.command_line()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[self._lifeline.read_fd],
                env={**os.environ, "PYTHONPATH": _import_path(), **self._environment},
                start_new_session=True,  # Ctrl-C in this terminal is not for the nodes
            )

    @property
    def is_running(self) -> bool:
        """Whether it is neither stopped nor at its end."""
        return self._state() not in "TtX"

    @property
    def is_ending(self) -> bool:
        """Whether its end has begun: its connections may be closed a while before it is gone."""
        return self._state() == "X"

    def _state(self) -> str:
        """As the kernel calls it, but X from the moment on when its end begins."""
        with contextlib.suppress(OSError):
            state, *numbers = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            return "X" if state == "Z" or int(numbers[5]) & _PF_EXITING else state
        return "X"

    @property
    def story(self) -> str:
        """How it ended, and the last that it wrote."""
        code = self._process.poll()
        if code is None:
            end = "its agent hangs"
        elif code < 0:
            end = f"its agent was killed by {signal.Signals(-code).name}"
        else:
            end = f"its agent ended with code {code}"
        written = self.written.strip()[-_TAIL:]
        return f"{end}: {written}" if written else end

    @property
    def written(self) -> str:
        """The end of what it wrote."""
        with contextlib.suppress(OSError), open(self._log_file, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LOG_LIMIT))
            return file.read().decode(errors="replace")
        return ""

    def kill(self) -> None:
        """End it now; what it started ends with it, or notices when it goes on."""
        started = list(descendants(self.pid))
        self._process.kill()  # the process is ours and not reaped yet, so the pid is its own
        for pid in started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)  # it may have been stopped before it armed its lifeline

    def close(self) -> None:
        """Forget it; it must have ended, or be about to after ``kill``."""
        self._loop.remove_reader(self.sentinel)
        self._process.wait()
        self._lifeline.cut()
        os.close(self.sentinel)

    def _ended(self) -> None:
        self._loop.remove_reader(self.sentinel)
        self._exited()


class Reaper:
    """A small process that removes a shared directory when this process and all its agents are gone, even if killed."""

    def __init__(self, directory: Path) -> None:
        self._lifeline = Lifeline()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _REAPER, str(directory)],
            stdin=self._lifeline.read_fd,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def close(self) -> None:
        """Let it do its work, for which all users must be gone."""
        self._lifeline.cut()
        self._process.wait()


def end_all(agents: Collection[LocalAgent], patience_s: float) -> None:
    """Wait for agents that were told to stop; kill those that take too long."""
    poller = select.poll()
    for agent in agents:
        poller.register(agent.sentinel, select.POLLIN)
    left = len(agents)
    end = time.monotonic() + patience_s
    while left and (patience := end - time.monotonic()) > 0:
        for sentinel, _ in poller.poll(patience * 1000):
            poller.unregister(sentinel)
            left -= 1
    for agent in agents:
        agent.kill()
        agent.close()


def _import_path() -> str:
    """What can be imported here can be imported there."""
    return os.pathsep.join(str(path) or str(Path.cwd()) for path in sys.path)
