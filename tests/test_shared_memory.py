"""Large values of a cluster on one host: mapped by every reader, also the notebook, and given back."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handoff_lab as hl
from tests.others import soon

pytestmark = pytest.mark.real

NBYTES = 2_000_000


def make() -> Any:
    import numpy as np

    return np.ones(250_000)


def look(array: Any) -> tuple[int, bool, float]:
    """Inode of the file that is mapped where this array lies; whether it can be written; its sum."""
    address = array.__array_interface__["data"][0]
    with open("/proc/self/maps") as file:
        for line in file:
            begin, end = (int(word, 16) for word in line.split()[0].split("-"))
            if begin <= address < end:
                return int(line.split()[4]), bool(array.flags.writeable), float(array.sum())
    raise LookupError(address)


@pytest.fixture(scope="module")
def cluster() -> Iterator[hl.Cluster]:
    with hl.Cluster(nodes={"alpha": {"cpu": 1}, "beta": {"cpu": 1}}) as cluster:
        yield cluster


@pytest.fixture
def dag() -> hl.DAG:
    """An array made on one node, looked at in slots of both and in a kernel."""
    return hl.DAG("shared").add(
        hl.Function("made", make, node="alpha"),
        hl.Function("there", look, args=["made"], node="beta"),
        hl.Function("here", look, args=["made"], node="alpha"),
        hl.Function("kernel", look, args=["made"], node="beta", runs_in="kernel"),
    )


def descriptors(pid: int | str) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def values_held(pid: int | str) -> int:
    """Descriptors and maps of values in a process."""
    links = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed meanwhile
            links.append(str(path.readlink()))
    maps = Path(f"/proc/{pid}/maps").read_text()
    return sum("handoff-values" in link for link in links) + maps.count("handoff-values")


def test_every_reader_maps_what_was_written_once(cluster: hl.Cluster, dag: hl.DAG) -> None:
    run = cluster.execute(dag)
    array = run.results["made"]
    inode, writeable, total = look(array)
    assert (writeable, total) == (False, 250_000.0)
    assert {run.results[id] for id in ("there", "here", "kernel")} == {(inode, False, 250_000.0)}
    assert run.bytes_moved > NBYTES
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 2.0


def test_all_is_given_back_with_the_run_and_the_array(cluster: hl.Cluster, dag: hl.DAG) -> None:
    agents = [node.pid for node in cluster.nodes.values()]
    soon(lambda: not any(map(values_held, agents)))
    run = cluster.execute(dag)
    array = run.results["made"]
    assert all(map(values_held, agents))
    del run
    gc.collect()
    soon(lambda: not any(map(values_held, agents)))
    assert (array == np.ones(250_000)).all()
    assert values_held("self")
    del array
    assert not values_held("self")


def test_descriptors_are_where_they_were_after_a_hundred_runs(cluster: hl.Cluster, dag: hl.DAG) -> None:
    def run_once() -> None:
        run = cluster.execute(dag)
        assert run.results["made"][-1] == 1.0

    processes = [*(node.pid for node in cluster.nodes.values()), "self"]
    for _ in range(3):
        run_once()
    gc.collect()
    soon(lambda: not any(map(values_held, processes)))
    before = list(map(descriptors, processes))
    for _ in range(100):
        run_once()
    gc.collect()
    soon(lambda: all(now <= then for now, then in zip(map(descriptors, processes), before, strict=True)))


def test_what_was_handed_over_outlives_its_node(dag: hl.DAG) -> None:
    with hl.Cluster(nodes={"alpha": {"cpu": 1}, "beta": {"cpu": 1}}) as cluster:
        run = cluster.execute(dag)
        array = run.results["made"]
        victim = cluster.nodes["alpha"].pid
        os.kill(victim, 9)
        soon(lambda: (node := cluster.nodes.get("alpha")) is None or node.status == "down")
        assert (array == np.ones(250_000)).all()
