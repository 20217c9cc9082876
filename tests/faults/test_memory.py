"""A function that uses far more memory than it claims fails alone, with its story."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import handoff_lab as hl

pytestmark = pytest.mark.real


def take(megabytes: int) -> int:
    """Use memory and hold it until this is ended."""
    import threading

    held = [b"x" * 10**6 for _ in range(megabytes)]
    while True:
        threading.Event().wait(len(held))


def wait_for(path: Path) -> int:
    import os
    import threading

    while not path.exists():
        threading.Event().wait(0.01)
    return os.getpid()


def pid() -> int:
    import os

    return os.getpid()


@pytest.fixture
def cluster() -> Iterator[hl.Cluster]:
    with hl.Cluster({"alpha": {"cpu": 2, "memory": 2000}}) as cluster:
        yield cluster


def glutton(runs_in: str = "process") -> hl.Function:
    return hl.Function("glutton", take, extra_args=[300], cost={"cpu": 1, "memory": 100}, runs_in=runs_in)


def has_failed(run: hl.Run) -> Callable[[], bool]:
    return lambda: run.error("glutton") is not None


def test_it_alone_is_ended_and_told_claimed_and_used(cluster: hl.Cluster, tmp_path: Path) -> None:
    agent = cluster.nodes["alpha"].pid
    go = tmp_path / "go"
    other = hl.Function("other", wait_for, extra_args=[go], cost={"cpu": 1, "memory": 100})
    run = cluster.submit(hl.DAG("claims").add(glutton(), other), on_error="continue")
    run.news.wait_for(has_failed(run), 60)
    go.touch()
    error = run.errors["glutton"]
    with pytest.raises(hl.FunctionFailedError, match=r"claimed 100 MB of memory and used \d\d\d MB when it was ended"):
        run.wait(60)
    assert isinstance(error, hl.FunctionFailedError)
    assert isinstance(error.__cause__, MemoryError)
    assert (run.attempts, list(run.errors)) == ({"glutton": 1, "other": 1}, ["glutton"])
    (event,) = [event for event in run.events if event.name[-1] == "exception"]
    assert (event.metadata["kind"], event.metadata["type"]) == ("memory", "MemoryError")
    assert run.results["other"] > 0
    after = cluster.execute(hl.DAG("after").add(*(hl.Function(n, pid, cost={"memory": 900}) for n in range(4))))
    assert (after.status, cluster.nodes["alpha"].pid) == ("done", agent)
    assert not any(cluster.nodes["alpha"].used.values())


def test_in_the_kernel_it_is_interrupted_and_the_namespace_stays(cluster: hl.Cluster) -> None:
    here = hl.DAG("here").add(hl.Function("pid", pid, runs_in="kernel"))
    before = cluster.execute(here).results["pid"]
    run = cluster.execute(hl.DAG("claims").add(glutton("kernel")), raise_on_error=False)
    assert "claimed 100 MB of memory" in str(run.errors["glutton"])
    assert "in take" in str(run.errors["glutton"])  # the traceback tells where it was
    assert cluster.execute(here).results["pid"] == before
