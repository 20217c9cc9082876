"""Nodes on Dask's workers: they come, take the whole place, give it back, and end with it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from distributed import Client, LocalCluster

import handoff_lab as hl
from tests.guests.conftest import place_of
from tests.others import gone, soon

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    options: dict[str, Any] = {"threads_per_worker": 2, "memory_limit": "500MB", "resources": {"GPU": 1, "fpga": 3}}
    with LocalCluster(n_workers=2, dashboard_address="127.0.0.1:0", **options) as workers, Client(workers) as client:
        yield client


def held(dask_scheduler: Any) -> list[str]:
    """The tasks that hold threads for nodes."""
    return [key for key in dask_scheduler.tasks if key.startswith("handoff-")]


def test_workers_become_nodes(client: Any, cluster: hl.Cluster) -> None:
    nodes = cluster.add_nodes_from(client)
    assert [node.name for node in nodes] == ["dask-0", "dask-1"]
    assert nodes[0].capabilities == {"cpu": 2, "memory": 500, "gpu": 1, "fpga": 3}
    assert cluster.add_nodes_from(client.cluster) == []
    dag = hl.DAG().add(*[hl.Function(name, os.getpid, node=name) for name in cluster.nodes])
    assert cluster.execute(dag).allocations == {"dask-0": "dask-0", "dask-1": "dask-1"}


def test_the_place_is_taken_until_it_is_given_back(client: Any, cluster: hl.Cluster) -> None:
    (node,) = cluster.add_nodes_from(client, {"cpu": 1}, nodes=["dask-1"])
    assert node.capabilities == {"cpu": 1}
    soon(lambda: len(client.processing()[place_of(node)]) == 2)  # all of its threads
    waits = client.submit(os.getpid, workers=[place_of(node)], pure=False)
    assert client.submit(os.getpid, pure=False).result(timeout=60)
    assert not waits.done()
    cluster.remove_node("dask-1")
    assert waits.result(timeout=60)


def test_places_are_given_back_on_close(client: Any) -> None:
    with hl.Cluster({}) as cluster:
        pids = [node.pid for node in cluster.add_nodes_from(client)]
    assert len(client.gather([client.submit(os.getpid, workers=[a], pure=False) for a in client.nthreads()])) == 2
    soon(gone(pids))


def test_a_worker_that_is_killed_takes_its_node_along(client: Any, cluster: hl.Cluster) -> None:
    node = cluster.add_nodes_from(client)[0]
    os.kill(client.run(os.getpid)[place_of(node)], 9)
    soon(lambda: node.name not in cluster.nodes)
    soon(gone([node.pid]))
    soon(lambda: len(client.run_on_scheduler(held)) == 2)  # Dask keeps nothing of the dead worker
    soon(lambda: len(client.nthreads()) == 2)  # its nanny has started another
    (again,) = cluster.add_nodes_from(client)
    assert again.name == node.name
    assert place_of(again) != place_of(node)
    soon(lambda: len(client.run_on_scheduler(held)) == 4)


def test_a_worker_that_retires_ends_its_node(client: Any, cluster: hl.Cluster) -> None:
    node = cluster.add_nodes_from(client, nodes=["dask-1"])[0]
    client.retire_workers([place_of(node)])
    soon(lambda: not cluster.nodes)
    soon(gone([node.pid]))


def test_a_client_that_is_asynchronous(cluster: hl.Cluster) -> None:
    class Asynchronous:
        asynchronous = True

        def get_client(self) -> Any:
            return self

    with pytest.raises(hl.BackendError, match="made with asynchronous=False"):
        cluster.add_nodes_from(Asynchronous())
