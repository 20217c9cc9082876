"""Real nodes in numbers, measured once, in a process of its own: ``agents.py COUNT FUNCTIONS OUTPUT``.

Each is the agent that ``handoff-lab node --join`` starts, with its own connections, keys, slots and values, but without
a kernel, which would take most of the time and the memory; all are forked from one process, so that what they import
is there once. They come in waves: on a few cores, more at once keep each other, and the cluster, from answering in
time. ``agents.py fork JOIN_FILE`` is the process that forks as many as each line of its input says.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

import psutil
from processes import adopt_orphans
from workloads import identity

from handoff_lab import DAG, Cluster, Function
from handoff_lab.telemetry import attach, detach

_PR_SET_PDEATHSIG = 1
_PATIENCE_S = 400.0
_WAVE = 25  # agents
_WATCHED = 5  # nodes that are killed, one after the other: the median counts


def measure(count: int, functions: int) -> dict[str, float]:
    adopt_orphans()
    with Cluster({}) as cluster, NodeEvents() as nodes:
        swarm = Swarm(cluster.join_file)
        try:
            joined = _seconds(lambda: swarm.grow(count, nodes))
            cluster.execute(_fan_out(4 * count), allocation_strategy="load_balanced")  # slots start with their first
            first = time.monotonic()
            run = cluster.execute(_fan_out(functions), allocation_strategy="load_balanced")
            done = time.monotonic() - first
            _check(run.results.values(), functions)
            held = {
                "coordinator_mb": psutil.Process().memory_info().rss / 1e6,
                "coordinator_files": psutil.Process().num_fds(),
                "agent_mb": swarm.mb_of_one(),
            }
            noticed = sorted(nodes.wait_for_loss_of(name, swarm) for name in list(swarm.pids)[:_WATCHED])
        except BaseException:
            swarm.kill()
            raise
    gone = _seconds(swarm.wait_for_end)
    return {
        "joined_s": joined,
        "rate": functions / done,
        "noticed_ms": 1e3 * noticed[len(noticed) // 2],
        **held,
        "gone_s": gone,
    }


class Swarm:
    """Agents, as descendants of one process, by name."""

    def __init__(self, join_file: Path) -> None:
        command = [sys.executable, __file__, "fork", str(join_file)]
        self._parent = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pids: dict[str, int] = {}

    def grow(self, count: int, nodes: NodeEvents) -> None:
        """Until so many have joined."""
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        while len(self.pids) < count:
            print(min(_WAVE, count - len(self.pids)), file=self._parent.stdin, flush=True)
            self.pids |= json.loads(self._parent.stdout.readline())
            nodes.wait_for(len(self.pids))

    def mb_of_one(self) -> float:
        """Of an agent, its zygote and its slot: pages that processes share count in parts."""
        pids = list(self.pids.values())[-3:]
        families = [[psutil.Process(pid), *psutil.Process(pid).children(recursive=True)] for pid in pids]
        return sum(_pss(process) for family in families for process in family) / len(families) / 1e6

    def wait_for_end(self) -> None:
        """Until no agent is there, and nothing that one started."""
        self._parent.communicate(timeout=_PATIENCE_S)
        _, left = psutil.wait_procs(psutil.Process().children(recursive=True), _PATIENCE_S)
        if left:
            raise ValueError(f"left: {left}")

    def kill(self) -> None:
        self._parent.kill()  # its children end with it
        self._parent.wait()


class NodeEvents:
    """Hears of nodes that come and go."""

    def __init__(self) -> None:
        self._up: set[str] = set()
        self._down: dict[str, float] = {}
        self._changed = threading.Condition()

    def __enter__(self) -> Self:
        attach("agents", ("handoff", "node"), self._hear)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        detach("agents")

    def wait_for(self, count: int) -> None:
        self._wait(lambda: len(self._up) == count, f"{count} nodes")

    def wait_for_loss_of(self, name: str, swarm: Swarm) -> float:
        """Kill an agent; seconds until that is known."""
        began = time.monotonic()
        os.kill(swarm.pids[name], signal.SIGKILL)
        self._wait(lambda: name in self._down, f"the loss of {name!r}")
        return self._down[name] - began

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        with self._changed:
            if not self._changed.wait_for(condition, _PATIENCE_S):
                raise TimeoutError(f"waited for {what}; {len(self._up)} joined, {len(self._down)} lost")

    def _hear(self, event: tuple[str, ...], measurements: object, metadata: dict[str, Any], config: object) -> None:
        with self._changed:
            if event[2] == "up":
                if metadata["node"] in self._up:
                    raise ValueError(f"{metadata['node']!r} joined twice")
                self._up.add(metadata["node"])
            elif event[2] == "down":
                self._down[metadata["node"]] = time.monotonic()
            self._changed.notify_all()


def fork(join_file: Path) -> None:
    """Be the parent of agents; end when there is no more input and all have ended."""
    import handoff_lab.node.__main__  # noqa: F401 - here, for all

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    pids: dict[str, int] = {}
    for line in sys.stdin:
        wave = {}
        for _ in range(int(line)):
            name = f"agent-{len(pids) + len(wave)}"
            wave[name] = os.fork()
            if not wave[name]:
                _be_agent(join_file, name)
        print(json.dumps(wave), flush=True)
        pids |= wave
    for pid in pids.values():
        os.waitpid(pid, 0)


def _be_agent(join_file: Path, name: str) -> NoReturn:
    from handoff_lab.node.__main__ import serve
    from handoff_lab.node.options import NodeOptions
    from handoff_lab.resources import Resources

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.nice(10)  # elsewhere they would have processors of their own, and not take the coordinator's
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
    _leave_out_kernels()
    with suppress(KeyboardInterrupt):
        serve(NodeOptions(join_file, name, capabilities=Resources({"cpu": 1})))
    os._exit(0)


def _leave_out_kernels() -> None:
    from handoff_lab.node.kernel import KernelProcess

    KernelProcess.start = lambda *arguments: None  # type: ignore[method-assign]


def _check(results: Collection[int], functions: int) -> None:
    if sum(results) != functions * (functions - 1) // 2:
        raise ValueError("the sum of the results is wrong")


def _fan_out(n: int) -> DAG:
    return DAG("fan-out").add(*[Function(i, identity, extra_args=(i,)) for i in range(n)])


def _seconds(call: Callable[[], object]) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began


def _pss(process: psutil.Process) -> int:
    nbytes: int = process.memory_full_info().pss
    return nbytes


if __name__ == "__main__":
    if sys.argv[1] == "fork":
        fork(Path(sys.argv[2]))
    else:
        count, functions, output = sys.argv[1:]
        Path(output).write_text(json.dumps(measure(int(count), int(functions))), encoding="utf-8")
