"""Nodes on ipyparallel's engines: they come, take the whole place, give it back, and end with it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ipyparallel
import pytest

import handoff_lab as hl
from handoff_lab.resources import probe_machine
from tests.faults.marks import Marks
from tests.others import gone, is_there, soon

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with ipyparallel.Cluster(
        n=2, log_level=40, controller_args=["--IPController.broadcast_scheduler_depth=0"]
    ) as client:
        yield client
        client.close()


@pytest.fixture(scope="module")
def pids(client: Any) -> list[int]:
    return client[:].apply_sync(os.getpid)


@pytest.fixture
def marks(tmp_path: Path) -> Marks:
    return Marks(tmp_path)


def test_engines_become_nodes(client: Any, cluster: hl.Cluster) -> None:
    nodes = cluster.add_nodes_from(client)
    assert [node.name for node in nodes] == ["engine-0", "engine-1"]
    machine = probe_machine()
    assert nodes[0].capabilities == {"cpu": max(1, machine["cpu"] // 2), "memory": machine["memory"] // 2}
    assert cluster.add_nodes_from(client) == []
    dag = hl.DAG().add(*[hl.Function(name, os.getpid, node=name) for name in cluster.nodes])
    assert cluster.execute(dag).status == "done"


def test_the_place_is_taken_until_it_is_given_back(client: Any, pids: list[int], cluster: hl.Cluster) -> None:
    cluster.add_nodes_from(client[:1], {"cpu": 1})
    assert list(cluster.nodes) == ["engine-0"]
    waits = client[0].apply_async(os.getpid)
    assert client.load_balanced_view().apply(os.getpid).get(timeout=60) == pids[1]  # the one that is free
    assert not waits.ready()
    cluster.remove_node("engine-0")
    assert waits.get(timeout=60) == pids[0]


def test_places_are_given_back_on_close(client: Any, pids: list[int]) -> None:
    with hl.Cluster({}) as cluster:
        agents = [node.pid for node in cluster.add_nodes_from(client)]
    assert client[:].apply_async(os.getpid).get(timeout=60) == pids
    soon(gone(agents))


def test_an_engine_that_has_no_handoff_lab(client: Any, cluster: hl.Cluster) -> None:
    client[1].execute("import sys; sys.modules['handoff_lab.guests.host'] = None", block=True)
    try:
        with pytest.raises(hl.BackendError, match=r"'engine-1' cannot take a node: .*handoff_lab"):
            cluster.add_nodes_from(client)
    finally:
        client[1].execute("del sys.modules['handoff_lab.guests.host']", block=True)
    assert not cluster.nodes


def test_an_engine_that_is_busy(client: Any, cluster: hl.Cluster, marks: Marks) -> None:
    busy = client[1].apply_async(marks.wait, "over")
    with pytest.raises(hl.BackendError, match=r"not all engines answer within 0.2 s; are some busy\?"):
        cluster.add_nodes_from(client, timeout=0.2)
    with pytest.raises(hl.BackendError, match=r"'engine-1': it did not join within 0.2 s; is the place busy\?"):
        cluster.add_nodes_from(client[1], {"cpu": 1}, timeout=0.2)
    marks.leave("over")
    busy.get(timeout=60)
    assert client[1].apply_async(os.getpid).get(timeout=60)
    assert not cluster.nodes


def test_an_engine_that_is_killed_takes_its_node_along(client: Any, pids: list[int], cluster: hl.Cluster) -> None:
    node = cluster.add_nodes_from(client, {"cpu": 1})[1]
    os.kill(pids[1], 9)
    soon(lambda: node.name not in cluster.nodes)
    soon(gone([node.pid]))
    soon(lambda: client.ids == [0])
    assert cluster.add_nodes_from(client[:1], {"cpu": 1}) == []


def test_engines_that_are_told_to_end_do_so_with_their_nodes(client: Any, pids: list[int], cluster: hl.Cluster) -> None:
    nodes = cluster.add_nodes_from(client[0], {"cpu": 1})
    assert is_there(pids[0])
    client.shutdown(targets=[0], block=False)
    soon(lambda: not cluster.nodes)
    soon(gone([nodes[0].pid, pids[0]]))
