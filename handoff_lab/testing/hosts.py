"""Hosts for tests, as network namespaces of this machine: Linux, for root only.

They go with the process that made them, however that ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import astuple
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from handoff_lab.testing.relay import MTU, Line

CUT = Line(loss=1.0)
_TUN = Path("/dev/net/tun")
_SET_INTERFACE = 0x400454CA  # TUNSETIFF
_TUN_WITHOUT_HEADER = 0x0001 | 0x1000  # IFF_TUN, IFF_NO_PI


def why_no_hosts() -> str | None:
    """Why there can be no hosts here; None if there can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "only root on Linux can make network namespaces"
    for program in ("ip", "unshare", "nsenter"):
        if shutil.which(program) is None:
            return f"there is no {program} command"
    if not os.access(_TUN, os.R_OK | os.W_OK):
        return f"there is no {_TUN}"
    probe = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False)
    return None if probe.returncode == 0 else "network namespaces are not allowed here"


class Host:
    """A network namespace, which stays until ``close`` or the end of this process."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        self._holder.stdout.readline()  # it is there now
        self.pid = self._holder.pid
        self.ip("link set lo up")

    def command(self, words: Sequence[str]) -> list[str]:
        """What to start, so that a program runs on this host; the process is the program's own."""
        return ["nsenter", "--target", str(self.pid), "--net", *words]

    def ip(self, command: str) -> None:
        """Run an ``ip`` command there."""
        subprocess.run(self.command(["ip", *command.split()]), check=True)

    def close(self) -> None:
        """Let it go, with the last process that is there."""
        self._holder.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Network:
    """The host that runs this program and others, with a `Relay` between all of them.

    Parameters
    ----------
    count
        Hosts beside this one.
    subnet
        The first three numbers of their addresses. This host's ends in 1, the others' in 2 and so on.
    seed
        Decides which packets get lost.
    """

    def __init__(self, count: int, *, subnet: str = "10.213.8", seed: int = 0) -> None:
        self.here = f"{subnet}.1"
        self.addresses = [f"{subnet}.{number + 2}" for number in range(count)]
        self._hosts: dict[str, Host] = {}
        self._seed = seed
        self._stack = ExitStack()
        self._relay: subprocess.Popen[str]

    def __enter__(self) -> Self:
        with ExitStack() as stack, ExitStack() as descriptors:
            pairs = [self._join(self.here, 0, None, descriptors)]
            for number, address in enumerate(self.addresses, 1):
                host = self._hosts[address] = stack.enter_context(Host())
                pairs.append(self._join(address, number, host, descriptors))
            self._relay = subprocess.Popen(
                [sys.executable, "-m", "handoff_lab.testing.relay", str(self._seed), *pairs],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                pass_fds=[int(pair.partition("=")[2]) for pair in pairs],
            )
            stack.callback(self._relay.communicate)  # it ends when its standard input does
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def command(self, address: str, words: Sequence[str]) -> list[str]:
        """What to start, so that a program runs on a host; the process is the program's own."""
        return self._hosts[address].command(words)

    def set(self, source: str, target: str, line: Line) -> None:
        """Have the way from one host to another be so from now on."""
        self._tell([source, target, *astuple(line)])

    def set_all(self, line: Line) -> None:
        """Have all ways be so from now on."""
        addresses = (self.here, *self.addresses)
        for source in addresses:
            for target in addresses:
                if source != target:
                    self.set(source, target, line)

    @property
    def nbytes(self) -> int:
        """Bytes that this host has sent and received."""
        counts = Path(f"/sys/class/net/{_link_name(0)}/statistics")
        return sum(int((counts / name).read_text()) for name in ("rx_bytes", "tx_bytes"))

    def _tell(self, command: Any) -> None:
        assert self._relay.stdin is not None
        assert self._relay.stdout is not None
        self._relay.stdin.write(json.dumps(command) + "\n")
        self._relay.stdin.flush()
        self._relay.stdout.readline()  # it is so now

    def _join(self, address: str, number: int, host: Host | None, descriptors: ExitStack) -> str:
        """Give a host its link; address and descriptor, as the relay wants them."""
        device = os.open(_TUN, os.O_RDWR | os.O_CLOEXEC)
        descriptors.callback(os.close, device)
        name = _link_name(number)
        fcntl.ioctl(device, _SET_INTERFACE, struct.pack("16sH", name.encode(), _TUN_WITHOUT_HEADER))
        if host is not None:
            subprocess.run(["ip", "link", "set", name, "netns", str(host.pid)], check=True)
        for command in (f"addr add {address}/24 dev {name}", f"link set {name} mtu {MTU} up"):
            if host is None:
                subprocess.run(["ip", *command.split()], check=True)
            else:
                host.ip(command)
        return f"{address}={device}"


def _link_name(number: int) -> str:
    return f"hl{os.getpid()}n{number}"
