"""Processes that are stopped for a while and then go on: nodes, and the one that holds the cluster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

import handoff_lab as hl
from handoff_lab.node.joining import PATIENCE_S
from handoff_lab.node.lifeline import descendants
from handoff_lab.telemetry.events import FUNCTION_STOP, NODE_DOWN
from handoff_lab.transport.sockets import LEASE_S, cut
from tests.backends.conftest import Rig
from tests.faults.conftest import begun, story_of, told
from tests.faults.marks import Marks
from tests.others import PYTHON, gone, soon, stories

pytestmark = pytest.mark.real


def importing() -> dict[str, str]:
    """The environment of processes that can import what can be imported here."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def stop(*pids: int) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)


def go_on(*pids: int) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture
def start_gamma() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Nodes that are started in another terminal."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(*way: str) -> subprocess.Popen[bytes]:
        words = ["node", *way, "--name", "gamma", "--cpu", "1", "--resource", "fpga=1"]
        program = "import sys; from handoff_lab.cli import main; sys.exit(main())"
        processes.append(subprocess.Popen([sys.executable, "-c", program, *words], env=importing()))
        return processes[-1]

    yield start
    for process in processes:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()


@pytest.mark.parametrize(("whole", "invited"), [(False, False), (True, True)], ids=["its agent", "all, invited"])
def test_a_node_that_was_stopped_is_given_up_and_comes_back_clean(
    marks: Marks, start_gamma: Callable[..., subprocess.Popen[bytes]], whole: bool, invited: bool
) -> None:
    def make() -> tuple[int, bytes]:
        number = marks.leave("begun")
        if number == 0:
            marks.wait("finish")
        marks.leave("finished")
        return number, bytes(100_000)

    with hl.Cluster({"beta": {"cpu": 1}}) as cluster:
        gamma = start_gamma(*(["--invite", cluster.invite()] if invited else ["--join", str(cluster.join_file)]))
        soon(lambda: "gamma" in cluster.nodes)
        first = lambda functions, nodes: {f.id: "gamma" if "gamma" in nodes else "beta" for f in functions}  # noqa: E731
        run = cluster.submit(hl.DAG("stopped").add(hl.Function("f", make)), allocation_strategy=first)
        soon(lambda: marks.count("begun") and begun(run, "f")())
        stopped = [gamma.pid, *(descendants(gamma.pid) if whole else ())]
        stop(*stopped)
        run.wait(60)
        marks.leave("finish")  # the first attempt makes its result now, or when it goes on
        if not whole:
            soon(lambda: marks.count("finished") == 2)
        go_on(*stopped)
        soon(lambda: "gamma" in cluster.nodes)
        again = cluster.execute(hl.DAG("again").add(hl.Function("f", os.getppid, cost={"fpga": 1})))
        assert again.allocations == {"f": "gamma"}
        assert cluster.nodes["gamma"].pid == gamma.pid
        assert run.results["f"][0] == 1
        assert run.attempts == {"f": 2}
        assert [event.name for event in run.events].count(FUNCTION_STOP) == 1
        assert [what for what, _, _ in story_of(run, "f")] == ["start", "exception", "retry", "start", "stop"]
        soon(lambda: all(node.used == {} for node in cluster.nodes.values()))


def test_a_node_of_this_machine_that_is_stopped_is_replaced(marks: Marks) -> None:
    def once_endless() -> int:
        number = marks.leave("begun")
        if number == 0:
            marks.wait("never")
        return number

    with hl.Cluster({"alpha": {"cpu": 1, "gpu": 1}, "beta": {"cpu": 1, "gpu": 1}}) as cluster:
        cluster.update_node_resources("alpha", {"cpu": 1, "gpu": 2})
        run = cluster.submit(hl.DAG("stopped").add(hl.Function("f", once_endless, cost={"gpu": 1})))
        soon(lambda: marks.count("begun") and begun(run, "f")())
        before = cluster.nodes["alpha"].pid
        whole = [before, *descendants(before)]
        stop(*whole)
        stopped = time.time()
        run.wait(60)
        (down,) = told(run, NODE_DOWN, "alpha")
        assert down.time - stopped < LEASE_S + 10.0  # a busy machine is no faster
        assert run.allocations == {"f": "beta"}
        assert (run.attempts["f"], run.results["f"], marks.count("begun")) == (2, 1, 2)
        soon(lambda: "alpha" in cluster.nodes)
        assert cluster.nodes["alpha"].pid != before
        soon(lambda: cluster.nodes["alpha"].capabilities == {"cpu": 1, "gpu": 2})
        assert cluster.execute(hl.DAG("again").add(hl.Function("f", os.getpid, cost={"gpu": 2}))).status == "done"
        soon(gone(whole), story=lambda: stories(whole))


def test_a_node_that_is_stopped_ends_with_its_notebook() -> None:
    code = """
import os, signal, handoff_lab as hl
cluster = hl.Cluster({"alpha": {"cpu": 1}})
cluster.run_cell("alpha", "1", id)
print(cluster.nodes["alpha"].pid, flush=True)
signal.pause()
"""
    command = [*PYTHON, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=importing()) as notebook:
        try:
            assert notebook.stdout is not None
            agent = int(notebook.stdout.readline())
            whole = [agent, *descendants(agent)]
            stop(*whole)
        finally:
            notebook.kill()
    soon(gone(whole), story=lambda: stories(whole))


def test_a_connection_that_breaks_costs_nothing_as_long_as_both_ends_live(marks: Marks) -> None:
    def wait() -> str:
        marks.leave("begun")
        marks.wait("open")
        return "done"

    rig = Rig({"alpha": {"cpu": 2}})
    try:
        pid = rig.backend.nodes()["alpha"].pid
        held = rig.submit(lambda: bytes(100_000))
        running = rig.submit(wait)
        rig.end(held)
        rig.until(lambda: marks.count("begun"))
        guest = rig.backend._hub._guests["alpha"]
        for _ in range(3):
            before = guest.identity
            cut(guest.descriptor)
            assert rig.value(rig.submit(lambda: "sent meanwhile")) == "sent meanwhile"
            assert guest.identity != before
        marks.leave("open")
        assert rig.value(running) == "done"
        assert rig.value(held) == bytes(100_000)
        assert rig.backend.nodes()["alpha"].pid == pid
        assert not rig.lost
    finally:
        rig.close()


NOTEBOOK = """
import json, time
import handoff_lab as hl
from handoff_lab.telemetry.events import NODE_DOWN

def brief(before=None):
    time.sleep(0.05)
    return bytes(100_000)

def pids_with_gamma():
    while "gamma" not in (nodes := cluster.nodes):
        time.sleep(0.01)
    return {name: node.pid for name, node in nodes.items()}

cluster = hl.Cluster({"alpha": {"cpu": 1}, "beta": {"cpu": 1}})
print(cluster.join_file, flush=True)
pids = pids_with_gamma()
dag = hl.DAG("chain").add(hl.Function(0, brief))
dag.add(*(hl.Function(i, brief, [i - 1], node=("alpha", "beta")[i % 2]) for i in range(1, 60)))
run = cluster.submit(dag)
print("running", flush=True)
run.wait(60)
lost = {event.metadata["node"] for event in run.events if event.name == NODE_DOWN}
same = pids == pids_with_gamma()
print(json.dumps([run.status, sorted(lost - {"gamma"}), run.recomputed, same]), flush=True)
time.sleep(60)
"""

# Longer than any heartbeat of ours: what is tested is that time passes.
STOPPED_S = 6.5


def test_a_notebook_that_was_stopped_finds_its_nodes_again(start_gamma: Callable[..., subprocess.Popen[bytes]]) -> None:
    command = [*PYTHON, "-c", NOTEBOOK]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=importing()) as notebook:
        try:
            assert notebook.stdout is not None
            gamma = start_gamma("--join", notebook.stdout.readline().strip())
            assert notebook.stdout.readline() == "running\n"
            stop(notebook.pid)
            with pytest.raises(subprocess.TimeoutExpired):
                notebook.wait(STOPPED_S)
            go_on(notebook.pid)
            # A node of another machine can't tell a stopped coordinator from one that is gone: it may leave, and come.
            assert json.loads(notebook.stdout.readline()) == ["done", [], 0, True]
        finally:
            notebook.kill()
        # Nothing listens where its coordinator was; it may be in the middle of joining, and wait for an answer first.
        assert gamma.wait(2 * PATIENCE_S) == 0
