"""Slurm on this machine alone, for tests: its daemons as children of this process, with a folder of their own."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "sinfo")
_PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin"])
_CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser=root
StateSaveLocation={folder}
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=2000 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES State=UP
SlurmdParameters=config_overrides
"""


def why_no_slurm() -> str | None:
    """Why Slurm can't run here; None if it can."""
    missing = [name for name in _PROGRAMS if shutil.which(name, path=_PATH) is None]
    if missing:
        return f"Slurm is not installed: there is no {', '.join(missing)}"
    return None if os.geteuid() == 0 else "only root can run Slurm's daemons"


class Slurm:
    """One host with four CPUs; ``folder`` has a short path, because sockets lie in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "PATH": _PATH}

    def __enter__(self) -> Self:
        folder = self._folder
        values = {"host": socket.gethostname(), "folder": folder, "ports": free_ports(2)}
        (folder / "slurm.conf").write_text(_CONFIGURATION.format(**values))
        (folder / "munge.key").write_bytes(secrets.token_bytes(128))
        (folder / "munge.key").chmod(0o400)
        own = {"socket": "munge.socket", "key-file": "munge.key", "log-file": "munge.log", "pid-file": "munge.pid"}
        paths = [f"--{option}={folder / name}" for option, name in {**own, "seed-file": "munge.seed"}.items()]
        with ExitStack() as stack:
            self._start(stack, "munged", "--foreground", "--force", *paths)
            self._wait("munge", "-n", f"--socket={folder / 'munge.socket'}")
            self._start(stack, "slurmctld", "-D")
            self._start(stack, "slurmd", "-D")
            self._wait("sh", "-c", "sinfo --noheader --format=%T | grep idle")
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def run(self, *words: str) -> str:
        """What a command of Slurm says."""
        ran = subprocess.run(
            words, env=self._environment, cwd=self._folder, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.strip()

    def _start(self, stack: ExitStack, *words: str) -> None:
        with open(self._folder / f"{words[0]}.out", "ab") as log:
            process = subprocess.Popen(words, env=self._environment, stdout=log, stderr=log)
        stack.callback(process.wait)
        stack.callback(process.terminate)

    def _wait(self, *words: str) -> None:
        end = time.monotonic() + 60.0
        while subprocess.run(words, env=self._environment, capture_output=True, check=False).returncode:
            assert time.monotonic() < end, f"{words[0]} never succeeded; see {self._folder}"
            time.sleep(0.05)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, for programs that can't choose themselves."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
