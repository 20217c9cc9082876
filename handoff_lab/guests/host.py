"""What is called on a host that lends a place: it starts a node's agent there, and lasts as long as that."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Self

from handoff_lab.node.lifeline import Lifeline, has_ended
from handoff_lab.node.options import NodeOptions
from handoff_lab.resources import probe_machine
from handoff_lab.transport.invitation import read_invitation
from handoff_lab.transport.sockets import host_and_port

REACH_S = 5.0  # for the coordinator to take a connection
LOOK_S = 0.2  # at whether the host is about to end, which waits for whoever keeps it busy
_TAIL = 2000  # characters of what the agent wrote


class Agent:
    """A node's agent below this process, which it does not outlive: not even a moment, however this process ends."""

    def __init__(self, options: NodeOptions) -> None:
        with ExitStack() as stack:
            lifeline = Lifeline()
            stack.callback(lifeline.cut)
            self._log = stack.enter_context(tempfile.TemporaryFile())
            words = replace(options, invite="-", tie=lifeline.read_fd).command_line()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "handoff_lab.node", *words],
                stdin=subprocess.PIPE,
                stdout=self._log,
                stderr=self._log,
                pass_fds=[lifeline.read_fd],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                start_new_session=True,  # an interrupt of the host is not for the node
            )
            stack.callback(self._process.wait)
            stack.callback(self._process.kill)
            self._sentinel = os.pidfd_open(self._process.pid)
            stack.callback(os.close, self._sentinel)
            assert self._process.stdin is not None
            with self._process.stdin as stdin:  # others can read a command line
                stdin.write(f"{options.invite}\n".encode())
            self._stack = stack.pop_all()

    def wait(self, timeout_s: float) -> str | None:
        """How it ended, with the last that it wrote; None if it goes on."""
        if not has_ended(self._sentinel, timeout_s):
            return None
        code = self._process.wait()
        self._log.seek(0)
        written = self._log.read().decode(errors="replace").strip()[-_TAIL:]
        return f"its agent ended with code {code}: {written}" if written else f"its agent ended with code {code}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def stay(options: NodeOptions, why_over: Callable[[], str | None] = lambda: None) -> str:
    """Be the host of a node until it ends, or there is a reason to end it; how it ended."""
    unreachable = why_unreachable(options)
    if unreachable is not None:
        return unreachable
    with Agent(options) as agent:
        while (end := agent.wait(LOOK_S) or why_over()) is None:
            pass
        return end


def why_unreachable(options: NodeOptions) -> str | None:
    """Why a node with these options could not join from here; None if it may."""
    endpoint = read_invitation(options.invite or "").endpoint
    try:
        socket.create_connection(host_and_port(endpoint), REACH_S).close()
    except OSError as error:
        return (
            f"the cluster's address {endpoint} cannot be reached from {socket.gethostname()} ({error}); "
            "make the cluster with host=, an address that can"
        )
    return None


def describe() -> tuple[str, dict[str, float]]:
    """The name of this host, and what it has."""
    return socket.gethostname(), dict(probe_machine())
