"""Nodes that are killed, results that go with them, and functions that end their process."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

import handoff_lab as hl
from handoff_lab.telemetry.events import NODE_DOWN
from tests.faults.conftest import LOST_S, begun, story_of, told
from tests.faults.marks import Marks
from tests.others import gone, soon

pytestmark = pytest.mark.real
HERE = sys.modules[__name__]


def kill(cluster: hl.Cluster, node: str) -> None:
    os.kill(cluster.nodes[node].pid, signal.SIGKILL)


# -- nodes ---------------------------------------------------------------------------


def test_what_ran_on_a_killed_node_runs_again_where_it_fits(marks: Marks) -> None:
    def slow() -> int:
        if marks.leave("slow") == 0:
            marks.wait("never")
        return os.getppid()

    nodes = {"alpha": {"cpu": 1, "gpu": 1}, "small": {"cpu": 1}, "beta": {"cpu": 1, "gpu": 1}}
    with hl.Cluster(nodes) as cluster:
        run = cluster.submit(hl.DAG("killed").add(hl.Function("slow", slow, cost={"gpu": 1})))
        soon(lambda: marks.count("slow") and begun(run, "slow")())
        kill(cluster, "alpha")
        run.wait(60)
        assert run.attempts == {"slow": 2}
        assert run.allocations == {"slow": "beta"}
        assert marks.count("slow") == 2
        assert isinstance(run.results["slow"], int)
        assert story_of(run, "slow") == [
            ("start", "alpha", 1),
            ("exception", "alpha", 1),
            ("retry", "alpha", 2),
            ("start", "beta", 2),
            ("stop", "beta", 2),
        ]
        assert set(cluster.nodes) == {"small", "beta"}
        soon(lambda: all(node.used == {} for node in cluster.nodes.values()))


def test_a_killed_node_is_known_within_a_second(marks: Marks) -> None:
    def busy(name: str) -> None:
        if marks.leave(name) == 0:
            ctypes.PyDLL(None).sleep(600)  # it holds the GIL

    def noticed_after(name: str) -> float:
        return seconds_until_known(hl.DAG("noticed").add(hl.Function("busy", busy, extra_args=[name])), marks, name)

    # A busy machine may take a second to do anything: the best of three.
    assert any(0 <= noticed_after(f"busy {number}") < LOST_S for number in range(3))


def seconds_until_known(dag: hl.DAG, marks: Marks, mark: str) -> float:
    """From the kill of the node on which the DAG's function left a mark until that is known."""
    with hl.Cluster({"alpha": {"cpu": 1}, "beta": {"cpu": 1}}) as cluster:
        run = cluster.submit(dag)
        soon(lambda: marks.count(mark))
        heard: list[float] = []
        run.subscribe(lambda event: heard.append(event.time) if event.name == NODE_DOWN else None)
        killed = time.time()
        kill(cluster, "alpha")
        run.wait(60)
        (down,) = told(run, NODE_DOWN, "alpha")
        soon(lambda: heard == [down.time])
        assert "its agent was killed by SIGKILL" in down.metadata["reason"]
        return down.time - killed


def preferring(**wanted: str) -> Callable[[Sequence[hl.Function], Mapping[str, Any]], dict[Any, str]]:
    """An allocator: each function on the node that is named for it as long as that is there, then on another."""
    return lambda functions, nodes: {f.id: wanted[f.id] if wanted[f.id] in nodes else min(nodes) for f in functions}


def test_only_the_lost_result_that_is_still_needed_is_made_again(marks: Marks) -> None:
    def big(name: str) -> bytes:
        marks.leave(name)
        return bytes(100_000)

    def gate() -> int:
        marks.leave("gate")
        marks.wait("open")
        return 1

    def use_spent(spent: bytes) -> int:
        marks.leave("use_spent")
        return len(spent)

    dag = hl.DAG("lost").add(
        hl.Function("spent", big, extra_args=["spent"]),
        hl.Function("use_spent", use_spent, args=["spent"]),
        hl.Function("needed", big, extra_args=["needed"]),
        hl.Function("gate", gate),
        hl.Function("last", lambda needed, used, _: len(needed) + used, args=["needed", "use_spent", "gate"]),
    )
    strategy = preferring(spent="alpha", needed="alpha", use_spent="beta", gate="beta", last="beta")
    with hl.Cluster({"alpha": {"cpu": 1}, "beta": {"cpu": 2}}) as cluster:
        run = cluster.submit(dag, "last", allocation_strategy=strategy)
        soon(lambda: run.record.counts().get("done") == 3 and marks.count("gate"), story=lambda: run)
        assert run.allocations["needed"] == run.allocations["spent"] == "alpha"
        kill(cluster, "alpha")
        soon(lambda: marks.count("needed") == 2, story=lambda: run)
        marks.leave("open")
        assert run.wait(60).results["last"] == 200_000
        assert run.recomputed == 1
        assert run.attempts == {"spent": 1, "use_spent": 1, "needed": 2, "gate": 1, "last": 1}
        assert [marks.count(name) for name in ("spent", "use_spent", "needed")] == [1, 1, 2]
        assert run.allocations["needed"] == "beta"


# -- slots ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alpha() -> Iterator[hl.Cluster]:
    """A cluster of one node, which lives through it all."""
    with hl.Cluster({"alpha": {"cpu": 2}}, by_value=[HERE]) as cluster:
        pid = cluster.nodes["alpha"].pid
        yield cluster
        assert cluster.nodes["alpha"].pid == pid


def overflow() -> int:
    """Overflow the C stack: a hash goes down without a look at Python's limit."""
    nested: tuple[Any, ...] = ()
    for _ in range(10**6):
        nested = (nested,)
    return hash(nested)


DEATHS: dict[str, tuple[Callable[[], object], str]] = {
    "segfault": (lambda: ctypes.string_at(0), "its process was killed by SIGSEGV"),
    "abort": (os.abort, "its process was killed by SIGABRT"),
    "exit": (lambda: os._exit(3), r"its process ended with exit code 3, as by os\._exit\(3\)"),
    "stack overflow": (overflow, "its process was killed by SIGSEGV"),
    "out of memory": (
        lambda: os.kill(os.getpid(), signal.SIGKILL),  # what the kernel does
        "its process was killed by SIGKILL, as when memory runs out",
    ),
}


@pytest.mark.parametrize("how", DEATHS)
def test_what_kills_three_slots_fails_and_the_others_finish(alpha: hl.Cluster, marks: Marks, how: str) -> None:
    code, told_as = DEATHS[how]
    dag = hl.DAG("poison").add(
        hl.Function("bad", lambda: (marks.leave("bad"), code()), max_retries=5),
        *(hl.Function(f"good{i}", lambda: marks.leave("good")) for i in range(20)),
    )
    run = alpha.execute(dag, on_error="continue", raise_on_error=False)
    assert (run.status, run.attempts["bad"], marks.count("bad")) == ("failed", 3, 3)
    assert marks.count("good") == 20
    assert set(run.results) == {f"good{i}" for i in range(20)}
    with pytest.raises(hl.FunctionFailedError, match=rf"'bad' failed on node 'alpha' after 3 attempts: {told_as}"):
        run.wait()
    error = run.errors["bad"]
    assert isinstance(error, hl.FunctionFailedError)
    assert (error.function, error.node, error.attempts) == ("bad", "alpha", 3)
    assert "3 slots or nodes died under it" in str(error)


def test_what_kills_three_slots_ends_its_run(alpha: hl.Cluster, marks: Marks) -> None:
    def endless() -> None:
        marks.leave("endless")
        marks.wait("never")

    def bad() -> None:
        marks.wait("endless")
        os.abort()

    dag = hl.DAG("poison").add(
        hl.Function("endless", endless), hl.Function("bad", bad), hl.Function("after", bad, ["endless"])
    )
    run = alpha.submit(dag, on_error="stop")
    with pytest.raises(hl.FunctionFailedError, match=r"'bad' failed on node 'alpha' after 3 attempts.*SIGABRT"):
        run.wait(60)
    assert run.record.counts() == {"failed": 1, "cancelled": 2}
    soon(lambda: alpha.nodes["alpha"].used == {})
    assert alpha.execute(hl.DAG("next").add(hl.Function("f", os.getpid, cost={"cpu": 2}))).status == "done"


# -- what functions start themselves ------------------------------------------------


def start_all_kinds() -> list[int]:
    """Processes of every kind that a function may leave: a program, a fork, a daemon in a session of its own."""
    program = subprocess.Popen(["sleep", "600"]).pid
    session = subprocess.Popen(["sleep", "600"], start_new_session=True).pid
    fork = os.fork()
    if fork == 0:
        while True:
            signal.pause()
    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if (daemon := os.fork()) != 0:
            os.write(write, str(daemon).encode())
            os._exit(0)
        os.close(write)
        while True:
            signal.pause()
    os.wait3(0)
    return [program, session, fork, int(os.read(read, 20))]


@pytest.mark.parametrize("how", ["slot", "node"])
def test_what_a_function_started_ends_with_its_slot_or_node(marks: Marks, how: str) -> None:
    def leave_behind() -> list[int]:
        pids = start_all_kinds()
        return [os.getpid(), *pids]

    def die(pids: list[int]) -> list[int]:
        if marks.leave("die") == 0:
            os.kill(pids[0], signal.SIGKILL)
        return pids

    with hl.Cluster({"alpha": {"cpu": 1}, "beta": {"cpu": 1}}, by_value=[HERE]) as cluster:
        pids = cluster.execute(hl.DAG("start").add(hl.Function("f", leave_behind, node="alpha"))).results["f"]
        assert len(pids) == 5
        assert not any(gone([pid])() for pid in pids)
        if how == "node":
            kill(cluster, "alpha")
        else:
            os.kill(pids[0], signal.SIGSEGV)
        soon(gone(pids))
        if how == "slot":
            assert cluster.execute(hl.DAG("on").add(hl.Function("f", os.getpid, node="alpha"))).status == "done"
