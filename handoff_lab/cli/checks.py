"""What ``handoff-lab doctor`` looks at: each check yields what it found, good or bad."""

from __future__ import annotations

import math
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from handoff_lab._units import format_bytes
from handoff_lab.resources import probe_machine
from handoff_lab.resources.gpus import VISIBLE, find_gpus, nvml_answers

LEAST_PYTHON = (3, 11)
LEAST_SHARED_BYTES = 256 * 10**6  # containers are given 64 MB of /dev/shm, less than one large array
_NO_NVML = "no NVML: GPUs are only counted, functions see all of them"
SHARED = Path("/dev/shm")  # noqa: S108 (looked at, not written to)


class State(IntEnum):
    """How bad a finding is; the greater the worse."""

    GOOD = 0
    WARNING = 1
    BAD = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found, and what to do about it when it is not good."""

    what: str
    detail: str
    state: State = State.GOOD
    mend: str = ""


Check = Callable[[], Iterator[Finding]]


def check_python() -> Iterator[Finding]:
    """New enough."""
    detail = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info[:2] >= LEAST_PYTHON:
        yield Finding("Python", detail)
    else:
        yield Finding("Python", detail, State.BAD, "make the environment with Python 3.11 or newer")


def check_packages() -> Iterator[Finding]:
    """Everything that handoff_lab requires is there in a version that it can work with."""
    from packaging.requirements import Requirement

    wrong = 0
    requirements = [Requirement(text) for text in requires("handoff_lab") or ()]
    needed = [r for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]
    for requirement in needed:
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            found = "missing"
        if found == "missing" or not requirement.specifier.contains(found, prereleases=True):
            wrong += 1
            detail = f"{found}, but handoff_lab needs {requirement.specifier}"
            yield Finding(requirement.name, detail, State.BAD, f'pip install "{requirement}"')
    yield Finding("packages", f"{len(needed) - wrong} of {len(needed)} required ones are right")


def check_dot() -> Iterator[Finding]:
    """Something that lays out graphs."""
    mend = "as root: apt-get install graphviz   (or: conda install graphviz, brew install graphviz)"
    dot = shutil.which("dot")
    if dot is not None:
        said = subprocess.run([dot, "-V"], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        good = said.returncode == 0
        detail = said.stderr.strip() if good else f"{dot} does not run"
        yield Finding("Graphviz", detail, State.GOOD if good else State.WARNING, "" if good else mend)
        return
    try:
        detail = f"no dot program; pygraphviz {version('pygraphviz')} draws instead"
        yield Finding("Graphviz", detail)
    except PackageNotFoundError:
        yield Finding("Graphviz", "no dot program, no pygraphviz: graphs will be drawn plainly", State.WARNING, mend)


def check_loopback() -> Iterator[Finding]:
    """Nodes and coordinator can talk to each other on this machine."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            with socket.create_connection(("127.0.0.1", port), timeout=5):
                yield Finding("ports", f"127.0.0.1 takes connections (tried port {port})")
    except OSError as error:
        mend = "let processes of this machine talk over 127.0.0.1: look at firewall and sandbox settings"
        yield Finding("ports", f"127.0.0.1 takes no connections: {error}", State.BAD, mend)


def check_curve() -> Iterator[Finding]:
    """The libzmq at work can encrypt."""
    import zmq

    detail = f"libzmq {zmq.zmq_version()}, pyzmq {zmq.pyzmq_version()}"
    if zmq.has("curve"):
        yield Finding("encryption", f"{detail}, with CURVE")
    else:
        mend = "install the wheel of pyzmq, which brings a libzmq with CURVE: pip install --force-reinstall pyzmq"
        yield Finding("encryption", f"{detail}, without CURVE", State.BAD, mend)


def check_kernel() -> Iterator[Finding]:
    """The kernel that nodes start is there."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    mend = "pip install ipykernel"
    try:
        spec = KernelSpecManager().get_kernel_spec("python3")
    except NoSuchKernel:
        yield Finding("kernel", "Jupyter finds no kernel named python3", State.BAD, mend)
        return
    program = spec.argv[0]
    if program.startswith("python") or shutil.which(program):
        yield Finding("kernel", f"ipykernel {version('ipykernel')}, {spec.resource_dir}")
    else:
        yield Finding("kernel", f"{program} of {spec.resource_dir} is not there", State.BAD, mend)


def check_shared_memory() -> Iterator[Finding]:
    """Arrays can cross between the processes of a node without a copy."""
    if hasattr(os, "memfd_create"):
        os.close(os.memfd_create("handoff-lab-doctor"))
        yield Finding("shared memory", "memfd works")
    if not os.access(SHARED, os.W_OK):
        yield Finding("shared memory", f"{SHARED} can't be written to: arrays will be copied", State.WARNING)
        return
    nbytes = shutil.disk_usage(SHARED).total
    detail = f"{SHARED} holds {format_bytes(nbytes)}"
    if nbytes >= LEAST_SHARED_BYTES:
        yield Finding("shared memory", detail)
    else:
        mend = "in Docker: docker run --shm-size=2g ..."
        yield Finding("shared memory", f"{detail}, little for arrays", State.WARNING, mend)


def check_machine() -> Iterator[Finding]:
    """What a node here would offer, and which GPUs it would hand out."""
    yield Finding("this machine", str(probe_machine()))
    yield from _gpus()


def _gpus() -> Iterator[Finding]:
    found = find_gpus()
    chosen = f", one of {VISIBLE}={os.environ[VISIBLE]}" if VISIBLE in os.environ else ""
    for gpu in found:
        known = math.isfinite(gpu.memory)
        memory = format_bytes(gpu.memory * 10**6) if known else "unknown memory (no NVML)"
        yield Finding("GPU", f"{gpu.id} with {memory}{chosen}")
    if found:
        return
    if nvml_answers():
        yield Finding("GPU", f"none that a node here sees{chosen}")
    elif shutil.which("nvidia-smi"):
        mend = "pip install nvidia-ml-py   (and see whether nvidia-smi works)"
        yield Finding("GPU", f"there seems to be one, but {_NO_NVML}", State.WARNING, mend)
    else:
        yield Finding("GPU", _NO_NVML)


CHECKS: tuple[Check, ...] = (
    check_python,
    check_packages,
    check_dot,
    check_loopback,
    check_curve,
    check_kernel,
    check_shared_memory,
    check_machine,
)
