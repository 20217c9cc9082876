"""A detached cluster outlives whoever started it, and its coordinator; nothing outlives its lease."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handoff_lab as hl
from handoff_lab.cli import main
from handoff_lab.store.directory import SharedDirectory
from handoff_lab.telemetry.events import Event
from tests.others import PYTHON, soon, stories

pytestmark = pytest.mark.real

SOON_S = 60.0  # many processes start and end here

# What a notebook's kernel would do; it waits to be killed.
NOTEBOOK = """
import os, signal, sys
import handoff_lab as hl
from pathlib import Path

folder = Path(sys.argv[1])

def note(name):
    with open(folder / "calls", "a") as file:
        file.write(f"{name}\\n")

def load(name):
    note(name)
    return [1, 2]

def train(xs, name):
    note(name)
    print("training", flush=True)
    (folder / f"{name} began").touch()
    while not (folder / "go on").exists():
        import time; time.sleep(0.01)
    return sum(xs)

def report(total, name):
    note(name)
    return f"the answer is {total}"

cluster = hl.Cluster(
    {"alpha": {"cpu": 2}, "beta": {"cpu": 1}}, name="night", detached=True, lease=float(sys.argv[2])
)
first = cluster.execute(hl.DAG("first").add(hl.Function("one", load, extra_args=["one"])))
run = cluster.submit(hl.DAG("training").add(
    hl.Function("xs", load, extra_args=["xs"]),
    hl.Function("train", train, args=["xs"], extra_args=["train"], cost={"cpu": 1}),
    hl.Function("report", report, args=["train"], extra_args=["report"]),
))
print("submitted", flush=True)
signal.pause()
"""


class World:
    """Folders of their own for everything, and all processes that know of them."""

    def __init__(self, folder: Path, runtime: Path) -> None:
        self.folder = folder
        self.runtime = runtime
        self.places = folder / "state" / "handoff_lab" / "detached"
        self._mark = f"HANDOFF_LAB_TEST={secrets.token_hex(8)}"
        self._processes: list[subprocess.Popen[str]] = []

    @property
    def environment(self) -> dict[str, str]:
        name, _, value = self._mark.partition("=")
        return {"XDG_STATE_HOME": str(self.folder / "state"), "XDG_RUNTIME_DIR": str(self.runtime), name: value}

    def notebook(self, lease_s: float = 60.0, code: str = NOTEBOOK) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*PYTHON, "-c", code, str(self.folder), str(lease_s)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sys.path))},
        )
        self.adopt(process)
        return process

    def adopt(self, process: subprocess.Popen[str]) -> None:
        """End it at the end."""
        self._processes.append(process)

    def coordinator(self) -> int:
        pid: int = json.loads((self.places / "night" / "address").read_text())["pid"]
        return pid

    def supervisor_and_coordinator(self) -> list[int]:
        """In this order; before both are there, those that are."""
        return sorted(pid for pid in self.living() if b"handoff_lab.detached" in command_of(pid))

    def living(self) -> set[int]:
        """All processes that were started with these folders, but this one."""
        found = set()
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if self._mark.encode() in (path / "environ").read_bytes().split(b"\0"):  # a zombie has none
                    found.add(int(path.name))
        return found - {os.getpid()}

    def wait(self, name: str) -> None:
        soon((self.folder / name).exists)

    def let_go_on(self) -> None:
        (self.folder / "go on").touch()

    def calls(self) -> Counter[str]:
        return Counter((self.folder / "calls").read_text().split())

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()
        for pid in self.living():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="hl-", ignore_cleanup_errors=True) as runtime:
        world = World(tmp_path, Path(runtime))
        for name, value in world.environment.items():
            monkeypatch.setenv(name, value)
        yield world
        world.close()


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""  # it ended meanwhile


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def assert_nothing_is_left(world: World) -> None:
    soon(lambda: not world.living(), story=lambda: stories(world.living()))
    soon(lambda: not list(world.runtime.iterdir()), story=lambda: list(world.runtime.rglob("*")))
    assert not world.places.exists() or not list(world.places.iterdir())


def assert_nothing_is_left_for_long(world: World) -> None:
    """After a kill at the moment when a directory was made, and had nobody yet to remove it, the next one does."""
    soon(lambda: not world.living(), story=lambda: stories(world.living()))

    def swept() -> bool:  # more than once: one who was killed may be seen no more, and hold its locks for a moment
        SharedDirectory.create().leave()
        return not list(world.runtime.iterdir())

    soon(swept, story=lambda: list(world.runtime.rglob("*")))


def test_a_killed_notebook_loses_nothing_and_nothing_finished_runs_again(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook = world.notebook()
    world.wait("train began")
    notebook.kill()
    notebook.wait()
    with hl.attach("night") as cluster:
        assert set(cluster.nodes) == {"alpha", "beta"}
        assert main(["nodes"]) == 0
        assert "cluster 'night' is detached: hl.attach('night') gives it back" in capsys.readouterr().out
        first, run = cluster.runs
        assert (first.status, first.results["one"]) == ("done", [1, 2])
        assert run.status == "running"
        assert run.results["xs"] == [1, 2]
        soon(lambda: run.record.counts() == {"done": 1, "running": 1, "waiting": 1})
        assert run.events[0].name == ("handoff", "run", "start")
        world.let_go_on()
        run.wait(SOON_S)
        assert run.results["report"] == "the answer is 3"
        assert run.logs == {"train": "training\n"}
        assert run.attempts == {"xs": 1, "train": 1, "report": 1}
        assert world.calls() == {"one": 1, "xs": 1, "train": 1, "report": 1}
        again = cluster.execute(run.dag)  # the functions are there, too
        assert again.results["report"] == "the answer is 3"
    assert_nothing_is_left(world)


@pytest.mark.parametrize("victims", ["coordinator", "coordinator and supervisor"])
def test_a_killed_coordinator_is_replaced_and_goes_on_with_what_nodes_hold(world: World, victims: str) -> None:
    notebook = world.notebook()
    world.wait("train began")
    notebook.kill()
    notebook.wait()
    coordinator = world.coordinator()
    if victims != "coordinator":
        os.kill(parent(coordinator), signal.SIGKILL)
    os.kill(coordinator, signal.SIGKILL)
    with hl.attach() as cluster:
        soon(lambda: set(cluster.nodes) == {"alpha", "beta"})
        assert world.coordinator() != coordinator
        first, run = cluster.runs
        assert first.results["one"] == [1, 2]
        world.let_go_on()
        run.wait(SOON_S)
        assert run.results["report"] == "the answer is 3"
        assert run.attempts == {"xs": 1, "train": 1, "report": 1}  # what ran went on
        assert run.recomputed == 0
        assert world.calls() == {"one": 1, "xs": 1, "train": 1, "report": 1}
    assert_nothing_is_left(world)


def test_whoever_is_attached_finds_the_next_coordinator(world: World) -> None:
    with hl.Cluster({"alpha": {"cpu": 1}}, name="night", detached=True) as cluster:
        mine = cluster.execute(hl.DAG("a").add(hl.Function("a", lambda: 1)))
        heard: list[Event] = []
        folder = world.folder
        run = cluster.submit(hl.DAG("b").add(hl.Function("wait", wait_for, extra_args=[str(folder / "go on")])))
        run.subscribe(heard.append)
        soon(lambda: run.record.counts() == {"running": 1})
        before = list(run.events)
        os.kill(world.coordinator(), signal.SIGKILL)
        world.let_go_on()
        run.wait(SOON_S)
        assert run.results["wait"] == "done"
        assert list(run.events)[: len(before)] == before
        soon(lambda: heard[-1].name == ("handoff", "run", "stop"))
        assert mine.results["a"] == 1
        assert cluster.runs == [mine, run]
    assert_nothing_is_left(world)


def test_results_that_died_with_a_node_are_made_again_by_the_next_coordinator(world: World) -> None:
    with hl.Cluster({"alpha": {"cpu": 1}, "beta": {"cpu": 1}}, name="night", detached=True) as cluster:
        dag = hl.DAG("lost").add(
            hl.Function("made", lambda: "x" * 100_000),
            hl.Function("wait", wait_for, extra_args=[str(world.folder / "go on")], node="beta"),
            hl.Function("size", lambda made, wait: len(made), args=["made", "wait"]),
        )
        run = cluster.submit(dag, allocation_strategy=alpha_first)
        soon(lambda: run.record.counts() == {"done": 1, "running": 1, "waiting": 1})
        alpha = cluster.nodes["alpha"].pid
        supervisor = parent(world.coordinator())
        os.kill(supervisor, signal.SIGSTOP)  # so that the node is gone before the next one comes
        os.kill(world.coordinator(), signal.SIGKILL)
        os.kill(alpha, signal.SIGKILL)
        os.kill(supervisor, signal.SIGCONT)
        world.let_go_on()
        run.wait(2 * SOON_S)
        assert run.results["size"] == 100_000
        assert run.allocations["size"] == "beta"
        assert run.recomputed == 1
    assert_nothing_is_left(world)


@pytest.mark.parametrize("also", ["nothing else", "coordinator and supervisor"])
def test_everything_ends_when_nobody_is_attached_for_the_lease(world: World, also: str) -> None:
    notebook = world.notebook(lease_s=2.0)
    world.wait("train began")
    before = world.living()
    coordinator = world.coordinator()
    notebook.kill()
    notebook.wait()
    if also != "nothing else":
        os.kill(parent(coordinator), signal.SIGKILL)
        os.kill(coordinator, signal.SIGKILL)
    assert len(before) > 5
    soon(lambda: not world.living(), story=lambda: stories(world.living()))
    soon(lambda: not list(world.runtime.iterdir()), story=lambda: list(world.runtime.rglob("*")))
    if also != "nothing else":  # what the dead left goes when its time is up
        old = time.time() - 3600
        for path in (world.places / "night", world.places / "night" / "lock"):
            os.utime(path, (old, old))
        with pytest.raises(hl.BackendError, match="there is no detached cluster"):
            hl.attach()
    assert_nothing_is_left(world)


def test_a_client_that_comes_in_time_resets_the_lease(world: World) -> None:
    notebook = world.notebook(lease_s=6.0)
    world.wait("train began")
    notebook.kill()
    notebook.wait()
    end = time.monotonic() + 7.0
    while time.monotonic() < end:  # longer than the lease in all
        cluster = hl.attach()
        assert len(cluster.runs) == 2
        cluster.detach()
        time.sleep(0.3)
    with hl.attach() as cluster:
        world.let_go_on()
        assert cluster.runs[1].wait(SOON_S).results["report"] == "the answer is 3"
    assert_nothing_is_left(world)


def test_who_waits_for_a_run_of_a_cluster_that_is_detached_is_told(world: World) -> None:
    cluster = hl.Cluster({"alpha": {"cpu": 1}}, name="night", detached=True)
    run = cluster.submit(hl.DAG("b").add(hl.Function("wait", wait_for, extra_args=[str(world.folder / "never")])))

    async def wait() -> hl.Run:
        return await run

    with ThreadPoolExecutor() as pool:
        waiting = [pool.submit(run.wait), pool.submit(lambda: asyncio.run(wait()))]
        soon(lambda: run.record.functions["wait"].status == "running")
        cluster.detach()
        for one in waiting:
            with pytest.raises(hl.RunError, match="goes on, but its cluster was detached here"):
                one.result(SOON_S)
    with pytest.raises(hl.RunError, match=r"hl.attach\(\) finds both again"):
        run.wait()
    with hl.attach() as again:
        assert again.runs[0].status == "running"
    assert_nothing_is_left(world)


# The files that are made one after the other while a cluster starts; the lease, in which its client has to come to the
# last two.
STARTING = {"settings": 0.5, "lock": 0.5, "site": 0.5, "address": 5.0, "nodes": 5.0}


@pytest.mark.parametrize("file", STARTING)
def test_a_notebook_killed_while_it_starts_leaves_nothing(world: World, file: str) -> None:
    notebook = world.notebook(lease_s=STARTING[file])
    soon((world.places / "night" / file).exists)
    notebook.kill()
    notebook.wait()
    assert_nothing_is_left_for_long(world)


@pytest.mark.parametrize("file", list(STARTING)[1:])
def test_a_coordinator_killed_while_it_starts_leaves_nothing(world: World, file: str) -> None:
    notebook = world.notebook(lease_s=STARTING[file])
    soon((world.places / "night" / file).exists)
    for pid in world.supervisor_and_coordinator():
        with suppress(ProcessLookupError):  # one may end with the other
            os.kill(pid, signal.SIGKILL)
    notebook.kill()
    notebook.wait()
    assert_nothing_is_left_for_long(world)


@pytest.mark.parametrize("victim", ["coordinator", "supervisor"])
def test_a_terminated_coordinator_ends_its_cluster(world: World, victim: str) -> None:
    cluster = hl.Cluster({"alpha": {"cpu": 1}}, name="night", detached=True)
    run = cluster.submit(hl.DAG("b").add(hl.Function("wait", wait_for, extra_args=[str(world.folder / "never")])))
    coordinator = world.coordinator()
    os.kill(coordinator if victim == "coordinator" else parent(coordinator), signal.SIGTERM)
    with pytest.raises(hl.RunCancelledError):
        run.wait(SOON_S)
    soon(lambda: cluster.closed)
    assert_nothing_is_left(world)


def test_two_clients_hear_and_do_the_same(world: World) -> None:
    with hl.Cluster({"alpha": {"cpu": 1}}, name="night", detached=True) as one:
        two = hl.attach(world.places / "night")
        run = one.submit(hl.DAG("b").add(hl.Function("wait", wait_for, extra_args=[str(world.folder / "never")])))
        (same,) = two.runs
        soon(lambda: same.record.counts() == {"running": 1})
        added = two.add_node({"cpu": 1, "gpu": 1}, name="beta")
        soon(lambda: "beta" in one.nodes)
        assert one.nodes["beta"].pid == added.pid
        two.update_node_resources("beta", {"cpu": 1, "gpu": 2})
        soon(lambda: one.resources_available("beta", {"gpu": 2}))
        same.cancel()
        for each in (run, same):
            with pytest.raises(hl.RunCancelledError):
                each.wait(SOON_S)
        two.remove_node("beta")
        soon(lambda: set(one.nodes) == {"alpha"})
        two.detach()
        assert two.closed
        assert not one.closed
    assert_nothing_is_left(world)


def test_one_who_closes_the_cluster_closes_it_for_all(world: World) -> None:
    one = hl.Cluster({"alpha": {"cpu": 1}}, name="night", detached=True)
    run = one.submit(hl.DAG("b").add(hl.Function("wait", wait_for, extra_args=[str(world.folder / "never")])))
    hl.attach().close()
    with pytest.raises(hl.RunCancelledError):
        run.wait(SOON_S)
    soon(lambda: one.closed)
    assert_nothing_is_left(world)


def test_two_may_close_it_at_once(world: World) -> None:
    clusters = [hl.Cluster({}, name="night", detached=True), hl.attach()]
    with ThreadPoolExecutor() as threads:
        list(threads.map(hl.Cluster.close, clusters))  # neither raises
    assert all(cluster.closed for cluster in clusters)
    assert_nothing_is_left(world)


def test_a_detached_cluster_does_what_any_cluster_does(world: World) -> None:
    def failing(x: int) -> float:
        return 1 / x

    with hl.Cluster({"alpha": {"cpu": 1, "memory": 1000}}, name="night", detached=True) as cluster:
        dag = hl.DAG("all").add(
            hl.Function("n", type="input"),
            hl.Function("big", np.ones, args=["n"]),
            hl.Function("total", lambda big: float(big.sum()), args=["big"]),
            hl.Function("fails", failing, extra_args=[0]),
            hl.Function(("never", 1), lambda fails: fails, args=["fails"]),
        )
        run = cluster.submit(dag, inputs={"n": 6_250_000}, on_error="continue", max_retries=0)
        with pytest.raises(hl.FunctionFailedError) as caught:
            run.wait(SOON_S)
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        assert run.record.counts() == {"done": 2, "failed": 1, "skipped": 1}
        assert run.results["big"].nbytes == 50_000_000
        rest = run.rerun_failed()
        with pytest.raises(hl.FunctionFailedError):
            rest.wait(SOON_S)
        assert rest.results["total"] == 6_250_000
        assert (rest.attempts["big"], rest.attempts["fails"]) == (0, 1)
        cluster.forget(rest)
        assert cluster.runs == [run]
        messages: list[dict[str, Any]] = []
        assert cluster.run_cell("alpha", "print('here')", messages.append)["status"] == "ok"
        assert "".join(message["content"].get("text", "") for message in messages) == "here\n"
        with pytest.raises(hl.AllocationError):
            cluster.submit(hl.DAG("g").add(hl.Function("gpu", lambda: 1, cost={"gpu": 1})))
        with pytest.raises(hl.BackendError, match="there is a detached cluster 'night' already"):
            hl.Cluster({}, name="night", detached=True)
        with pytest.raises(hl.BackendError, match="no run"):
            _ = rest.results["big"]
        with pytest.raises(hl.InvalidFunctionError, match="in a detached cluster ids are strings"):
            cluster.submit(hl.DAG("ids").add(hl.Function(frozenset({"a"}).__contains__, lambda: 1)))
    assert_nothing_is_left(world)


def test_what_a_detached_cluster_cannot_do_is_refused(world: World) -> None:
    with pytest.raises(ValueError, match="takes no result_store"):
        hl.Cluster({}, detached=True, result_store=_Store())
    with pytest.raises(ValueError, match="lease is 0"):
        hl.Cluster({}, detached=True, lease=0)
    with pytest.raises(ValueError, match="detached=True is for backend='kernels'"):
        hl.Cluster({}, detached=True, backend="local")
    with hl.Cluster({}, backend="local") as cluster, pytest.raises(hl.BackendError, match="start it with detached"):
        cluster.detach()
    with pytest.raises(hl.BackendError, match="there is no detached cluster 'nothing'; there are: none"):
        hl.attach("nothing")
    assert_nothing_is_left(world)


def alpha_first(functions: Sequence[hl.Function], nodes: Mapping[str, hl.Resources]) -> dict[Any, str]:
    return {function.id: str(function.node or min(nodes)) for function in functions}


def wait_for(path: str) -> str:
    from pathlib import Path

    while not Path(path).exists():
        time.sleep(0.01)
    return "done"


class _Store(dict[Any, Any]):
    def put(self, key: Any, value: Any) -> None: ...
    def delete(self, key: Any) -> None: ...


def invited(world: World, invitation: str, name: str) -> subprocess.Popen[str]:
    """A node's agent that joins by invitation."""
    words = [sys.executable, "-m", "handoff_lab.node", "--invite", "-", "--name", name, "--cpu", "1"]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, text=True)
    world.adopt(process)
    assert process.stdin is not None
    process.stdin.write(f"{invitation}\n")
    process.stdin.close()
    return process


def test_invited_nodes_and_invitations_outlive_the_coordinator(world: World) -> None:
    with hl.Cluster({}, name="night", detached=True) as cluster:
        guest, late = cluster.invite(ttl=600), cluster.invite(ttl=600)
        process = invited(world, guest, "guest")
        soon(lambda: set(cluster.nodes) == {"guest"})
        dag = hl.DAG("guests").add(
            hl.Function("made", lambda: "x" * 100_000),
            hl.Function("wait", wait_for, extra_args=[str(world.folder / "go on")]),
            hl.Function("size", lambda made, wait: len(made), args=["made", "wait"]),
        )
        run = cluster.submit(dag)
        soon(lambda: run.record.counts() == {"done": 1, "running": 1, "waiting": 1})
        os.kill(world.coordinator(), signal.SIGKILL)
        world.let_go_on()
        run.wait(SOON_S)
        assert (run.results["size"], run.recomputed) == (100_000, 0)
        assert cluster.nodes["guest"].pid == process.pid
        cluster.revoke("guest")
        assert process.wait(SOON_S) == 0
        invited(world, late, "late")
        soon(lambda: set(cluster.nodes) == {"late"})
        again = invited(world, guest, "again")  # it was used before the kill
        assert again.wait(SOON_S) != 0
    assert_nothing_is_left(world)


def test_what_was_tried_and_what_was_cancelled_before_the_kill_counts_after_it(world: World) -> None:
    def fail(folder: Path) -> None:
        with open(folder / "calls", "a") as calls:
            calls.write("fail\n")
        if (folder / "calls").read_text().count("fail") == 3:
            (folder / "third").touch()
            wait_for(str(folder / "go on"))
        raise ValueError("again")

    with hl.Cluster({"alpha": {"cpu": 2}}, name="night", detached=True) as cluster:
        dag = hl.DAG("tries").add(
            hl.Function("fail", fail, extra_args=[world.folder], cost={"cpu": 1}),
            hl.Function("use", lambda fail: fail, args=["fail"]),
        )
        run = cluster.submit(dag, max_retries=5, on_error="continue")
        never = hl.Function("wait", wait_for, extra_args=[str(world.folder / "never")])
        dropped = cluster.submit(hl.DAG("drop").add(never))
        world.wait("third")
        soon(lambda: dropped.record.counts() == {"running": 1})
        agent = cluster.nodes["alpha"].pid
        os.kill(agent, signal.SIGSTOP)  # so that it does not hear of the cancellation before the kill
        dropped.cancel()
        os.kill(world.coordinator(), signal.SIGKILL)
        os.kill(agent, signal.SIGCONT)
        world.let_go_on()
        with pytest.raises(hl.RunCancelledError):
            dropped.wait(SOON_S)
        with pytest.raises(hl.FunctionFailedError) as caught:
            run.wait(SOON_S)
        assert caught.value.attempts == 6
        assert world.calls() == {"fail": 6}
        assert run.record.counts() == {"failed": 1, "skipped": 1}
    assert_nothing_is_left(world)


def test_a_lease_goes_on_when_the_coordinator_is_started_again(world: World) -> None:
    notebook = world.notebook()
    world.wait("train began")
    place = world.places / "night"
    assert not (place / "alone").exists() or not (place / "alone").read_text()
    notebook.kill()
    notebook.wait()
    soon(lambda: (place / "alone").exists() and (place / "alone").read_text())
    alone = (place / "alone").read_text()
    os.kill(world.coordinator(), signal.SIGKILL)
    soon(lambda: (place / "generation").read_text() == "2")
    soon((place / "address").exists)
    assert (place / "alone").read_text() == alone
    with hl.attach():
        soon(lambda: not (place / "alone").read_text())
    assert_nothing_is_left(world)
