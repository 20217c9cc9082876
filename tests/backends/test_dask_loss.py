"""Dask workers are killed: the run ends with the right result, where plain Dask waits for ever."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import handoff_lab as hl
from handoff_lab.testing.bench import Gate
from handoff_lab.testing.dask_cluster import DaskCluster
from tests.others import soon

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def dask() -> Iterator[DaskCluster]:
    with DaskCluster({}) as cluster:
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        yield cluster


@pytest.fixture(scope="module")
def cluster(dask: DaskCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[hl.Cluster]:
    logs = tmp_path_factory.mktemp("logs")
    with hl.Cluster(backend="dask", address=dask.address, log_directory=logs) as cluster:
        yield cluster


@pytest.fixture
def both(cluster: hl.Cluster, dask: DaskCluster) -> hl.Cluster:
    """Two workers, processes of their own."""
    for name in {"0", "1"} - set(dask.names()):
        dask.start(name, 1)
    soon(lambda: cluster.nodes.keys() == {"0", "1"}, 60.0)
    return cluster


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    gate = Gate(tmp_path / "gate")
    yield gate
    gate.close()


def kill(cluster: hl.Cluster, node: str) -> None:
    """And wait until that is known."""
    os.kill(cluster.nodes[node].pid, signal.SIGKILL)
    soon(lambda: node not in cluster.nodes, 60.0)


def pinned(gate: Gate) -> hl.DAG:
    wait = gate.function
    return hl.DAG("pinned").add(
        hl.Function("source", lambda: bytes(100_000), node="0"),
        hl.Function("held", lambda x: (wait(), len(x))[1], args=["source"], node="1"),
        hl.Function("beside", lambda x: bytes(len(x)), args=["source"], node="1"),
        hl.Function("end", lambda x, y: x + len(y), args=["held", "beside"], node="0"),
    )


def test_a_pinned_run_survives_the_death_of_both_its_workers(both: hl.Cluster, dask: DaskCluster, gate: Gate) -> None:
    run = both.submit(pinned(gate), wait_for_node=60)
    soon(lambda: run.record.functions["held"].status == "running", 60.0)
    kill(both, "1")
    kill(both, "0")  # the only holder of what was made first
    for name in ("0", "1"):
        dask.start(name, 1)
    gate.open()
    run.wait(60)
    assert run.results["end"] == 200_000
    assert (run.attempts["source"], run.attempts["held"]) == (2, 2)
    assert run.recomputed == 1


def test_plain_dask_waits_for_ever_there(both: hl.Cluster, dask: DaskCluster, gate: Gate) -> None:
    address = both.nodes["1"].labels["address"]
    with dask.client() as client:
        future = client.submit(gate.function, workers=[address], key="pinned", pure=False)
        soon(lambda: dask.state("pinned") == "processing", 60.0)
        kill(both, "1")
        soon(lambda: dask.state("pinned") == "no-worker", 60.0)
        dask.start("1", 1)
        soon(lambda: "1" in both.nodes, 60.0)  # it is there again, under its name
        assert both.execute(hl.DAG("ours").add(hl.Function("f", lambda: 1, node="1"))).results["f"] == 1
        assert (dask.state("pinned"), future.status) == ("no-worker", "pending")
        gate.open()


def test_a_pin_to_a_lost_worker_fails_at_once(both: hl.Cluster, gate: Gate) -> None:
    run = both.submit(hl.DAG("pin").add(hl.Function("held", gate.function, node="1")))
    soon(lambda: run.record.functions["held"].status == "running", 60.0)
    kill(both, "1")
    with pytest.raises(hl.NodeLostError, match=r"node '1' is gone \(its Dask worker died\), to which it is pinned"):
        run.wait(60)
    gate.open()


def test_what_is_not_pinned_goes_elsewhere(both: hl.Cluster, gate: Gate) -> None:
    run = both.submit(hl.DAG("free").add(hl.Function("held", gate.function)))
    soon(lambda: run.record.functions["held"].status == "running", 60.0)
    before = run.allocations["held"]
    kill(both, before)
    gate.open()
    run.wait(60)
    assert (run.attempts["held"], run.allocations["held"] != before) == (2, True)


def test_a_function_that_kills_its_workers_is_found_out(both: hl.Cluster, dask: DaskCluster) -> None:
    """It goes in company, and is alone when it is tried again."""

    def f(i: int) -> int:
        if i == 20:
            os._exit(1)
        return i

    dag = hl.DAG("poison").add(*[hl.Function(i, f, extra_args=(i,)) for i in range(40)])
    both.execute(hl.DAG("known").add(hl.Function("f", f, extra_args=(0,))))
    hl.telemetry.attach("again", ("handoff", "node", "down"), lambda *event: dask.start(event[2]["node"], 1))
    try:
        run = both.execute(dag, on_error="continue", raise_on_error=False, max_retries=10, wait_for_capacity=60)
    finally:
        hl.telemetry.detach("again")
    assert [id for id in range(40) if id in run.errors] == [20]
    error = run.errors[20]
    assert isinstance(error, hl.NodeLostError)
    assert error.deaths == 3
    assert sum(run.results[i] for i in range(40) if i != 20) == sum(range(40)) - 20


def test_logging_is_part_of_the_log(both: hl.Cluster) -> None:
    def speak() -> None:
        logging.getLogger("mine").warning("careful")

    run = both.execute(hl.DAG("log").add(hl.Function("f", speak)))
    assert run.logs["f"] == "careful\n"
