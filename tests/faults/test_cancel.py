"""Cancel at every moment of a function's life: it ends, its slot is free soon, and nobody else is hit."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import handoff_lab as hl
from handoff_lab.node.pool import GRACE_S
from tests.others import soon

pytestmark = pytest.mark.real

WITHIN_S = GRACE_S + 1.0  # until the slot is free: an interrupt, then a kill
PATIENCE_S = 60.0
CANCELS = 200


def hold(here: Path) -> str:
    """Run Python until ``go`` is there."""
    import threading

    (here / "here").touch()
    while not (here / "go").exists():
        threading.Event().wait(0.005)
    return "held"


def spin(here: Path) -> None:
    (here / "here").touch()
    while True:
        pass


def block_in_c(here: Path) -> None:
    """A call that a signal ends."""
    import time

    (here / "here").touch()
    time.sleep(600)


def block_in_deaf_c(here: Path) -> int:
    """A call that never looks for signals, and never gives the GIL away."""
    import itertools

    (here / "here").touch()
    return sum(itertools.repeat(0))


def swallow(here: Path) -> None:
    import threading

    (here / "here").touch()
    while True:
        try:
            threading.Event().wait(600)
        except BaseException:
            pass


class SlowToPickle:
    """A result that takes for ever to be sent."""

    def __init__(self, here: Path) -> None:
        self.here = here

    def __reduce__(self) -> Any:
        hold(self.here)
        return str, ("sent",)


class SlowToLoad:
    """An input that takes for ever to be loaded."""

    def __init__(self, here: Path) -> None:
        self.here = here

    def __reduce__(self) -> Any:
        return hold, (self.here,)


def fail(here: Path) -> None:
    (here / "here").touch()
    raise ValueError("try again")


def identity(value: Any = None) -> Any:
    return value


def number(n: int) -> int:
    return n


@dataclass
class Stage:
    """A cluster with one slot on each of two nodes, and a place where functions say how far they are."""

    cluster: hl.Cluster
    path: Path
    runs: list[hl.Run] = field(default_factory=list)

    def begin_anew(self) -> None:
        """Have an empty place."""
        self.path /= "again"
        self.path.mkdir()
        self.runs.clear()

    def submit(self, *functions: hl.Function, **options: Any) -> hl.Run:
        self.runs.append(self.cluster.submit(hl.DAG("cancelled").add(*functions), **options))
        return self.runs[-1]

    def victim(self, code: Callable[..., Any], *args: Any, **options: Any) -> hl.Run:
        return self.submit(hl.Function("victim", code, extra_args=list(args or [self.path]), **on("alpha"), **options))

    def wait_until_here(self) -> None:
        soon(lambda: (self.path / "here").exists())

    def go(self) -> None:
        (self.path / "go").touch()


def returning(n: int) -> hl.Function:
    return hl.Function(n, number, extra_args=[n], **on("alpha"))


def on(node: str) -> dict[str, Any]:
    return {"node": node, "cost": {"cpu": 1}}


# -- moments ---------------------------------------------------------------------


def queued(stage: Stage) -> hl.Run:
    stage.submit(hl.Function("before", hold, extra_args=[stage.path], **on("alpha")))
    stage.wait_until_here()
    return stage.victim(number, 7)


def fetching(stage: Stage) -> hl.Run:
    """It has its node, which asked another for its input, which is not made yet."""
    run = stage.submit(
        hl.Function("source", hold, extra_args=[stage.path], **on("beta")),
        hl.Function("victim", identity, args=["source"], **on("alpha")),
    )
    stage.wait_until_here()
    return run


def loading_inputs(stage: Stage) -> hl.Run:
    run = stage.submit(
        hl.Function("source", SlowToLoad, extra_args=[stage.path], **on("beta")),
        hl.Function("victim", identity, args=["source"], **on("alpha")),
    )
    stage.wait_until_here()
    return run


def _running(code: Callable[..., Any]) -> Callable[[Stage], hl.Run]:
    def reach(stage: Stage) -> hl.Run:
        run = stage.victim(code)
        stage.wait_until_here()
        return run

    return reach


def in_the_kernel(stage: Stage) -> hl.Run:
    run = stage.victim(spin, runs_in="kernel")
    stage.wait_until_here()
    return run


def waiting_to_be_tried_again(stage: Stage) -> hl.Run:
    run = stage.victim(fail, max_retries=3, retry_delay=600)
    run.news.wait_for(lambda: any(event.name[-1] == "retry" for event in run.events), PATIENCE_S)
    return run


def done(stage: Stage) -> hl.Run:
    return stage.victim(number, 7).wait(PATIENCE_S)


MOMENTS: dict[str, Callable[[Stage], hl.Run]] = {
    "queued": queued,
    "fetching": fetching,
    "loading inputs": loading_inputs,
    "running Python": _running(spin),
    "blocked in C": _running(block_in_c),
    "blocked in deaf C": _running(block_in_deaf_c),
    "swallowing interrupts": _running(swallow),
    "finishing": _running(SlowToPickle),
    "in the kernel": in_the_kernel,
    "waiting to be tried again": waiting_to_be_tried_again,
    "done": done,
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[hl.Cluster]:
    with hl.Cluster({"alpha": {"cpu": 1}, "beta": {"cpu": 1}}) as cluster:
        yield cluster


@pytest.fixture
def stage(cluster: hl.Cluster, tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(cluster, tmp_path)
    yield stage
    stage.go()
    for run in stage.runs:
        run.cancel()
        run.join(raise_on_error=False)


@pytest.mark.parametrize("what", ["run", "function"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_it_ends_and_its_slot_is_free(stage: Stage, moment: str, what: str) -> None:
    # A busy machine may take a second to start anything: the best of a few.
    assert any(seconds_until_free(stage, moment, what) < WITHIN_S for _ in range(6))


def seconds_until_free(stage: Stage, moment: str, what: str) -> float:
    """How long it takes from a cancel at that moment until the next function runs in the slot."""
    stage.begin_anew()
    run = MOMENTS[moment](stage)
    begin = time.time()
    run.cancel(None if what == "run" else "victim")
    if moment == "queued":  # what is before it goes on
        soon(lambda: run.status != "running")
        assert stage.runs[0].status == "running"
    if moment == "fetching":  # else its input might come before its node hears of the cancel
        soon(lambda: run.record.functions["victim"].status == "cancelled")
    if moment in ("queued", "fetching"):
        stage.go()
    run.join(raise_on_error=False)
    after = stage.cluster.execute(hl.DAG("after").add(*(returning(n) for n in range(9))))
    assert run.status == ("done" if moment == "done" else "cancelled")
    assert run.record.functions["victim"].status == run.status
    if moment == "fetching" and what == "function":
        assert run.results["source"] == "held"
    assert dict(after.results) == {n: n for n in range(9)}
    assert set(after.attempts.values()) == {1}
    soon(lambda: not any(amount for node in stage.cluster.nodes.values() for amount in node.used.values()))
    return min(f.started for f in after.record.functions.values() if f.started) - begin


@pytest.mark.parametrize("what", ["run", "function"])
@pytest.mark.parametrize("first", ["cancel", "death"])
def test_while_its_node_dies(tmp_path: Path, first: str, what: str) -> None:
    with hl.Cluster({"alpha": {"cpu": 1}, "beta": {"cpu": 1}}) as cluster:
        stage = Stage(cluster, tmp_path)
        run = stage.submit(hl.Function("victim", hold, extra_args=[tmp_path], cost={"cpu": 1}))
        stage.wait_until_here()
        node = run.allocations["victim"]
        deeds = [
            lambda: run.cancel(None if what == "run" else "victim"),
            lambda: os.kill(cluster.nodes[node].pid, signal.SIGKILL),
        ]
        for deed in deeds if first == "cancel" else deeds[::-1]:
            deed()
        run.join(raise_on_error=False)
        assert run.status == "cancelled"
        soon(lambda: node not in cluster.nodes)
        (other,) = cluster.nodes
        after = cluster.execute(hl.DAG("after").add(hl.Function("n", number, extra_args=[1], **on(other))))
        assert after.attempts == {"n": 1}
        soon(lambda: not any(cluster.nodes[other].used.values()))


# -- at random ---------------------------------------------------------------------


def work(*values: float) -> float:
    """Be busy for as long as the last of the values says."""
    import time

    end = time.perf_counter() + values[-1]
    while time.perf_counter() < end:
        pass
    return values[-1]


def some_graph(dice: random.Random) -> hl.DAG:
    dag = hl.DAG("random")
    for n in range(8):
        inputs = dice.sample(range(n), k=min(n, dice.randrange(3)))
        seconds = dice.choice([0.0, 0.001, 0.01])
        node = dice.choice(["alpha", "beta", None])
        dag.add(hl.Function(n, work, args=inputs, extra_args=[seconds], node=node, cost={"cpu": 1}))
    return dag


def slot_pids(cluster: hl.Cluster) -> set[int]:
    dag = hl.DAG("pids").add(*(hl.Function(name, os.getpid, node=name) for name in cluster.nodes))
    return set(cluster.execute(dag).results.values())


def test_two_hundred_at_random_moments(cluster: hl.Cluster) -> None:
    dice = random.Random(10)
    pids = slot_pids(cluster)
    statuses = []
    half_s = 0.01  # about half of a run, found as it goes: a busy machine takes longer
    for _ in range(CANCELS):
        bystander, run = cluster.submit(some_graph(dice)), cluster.submit(some_graph(dice))
        threading.Event().wait(dice.random() * 2 * half_s)
        victim = dice.choice([None, *range(8)])
        run.cancel(victim)
        run.join(raise_on_error=False)
        statuses.append(run.status)
        assert run.status in ("cancelled", "done")
        half_s *= 1.1 if run.status == "cancelled" else 0.9
        assert bystander.wait(PATIENCE_S).status == "done"
        assert set(bystander.attempts.values()) == {1}
    assert statuses.count("cancelled") > 20
    assert slot_pids(cluster) == pids
    soon(lambda: not any(amount for node in cluster.nodes.values() for amount in node.used.values()))
