"""What a soak is made of: it would notice what is wrong."""

from __future__ import annotations

import os
import random
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import handoff_lab as hl
from handoff_lab.graph import Collocated
from handoff_lab.testing import leftovers
from handoff_lab.testing.leftovers import Surroundings, left_over
from handoff_lab.testing.random_dags import collected, random_dag, serial_results


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "PATIENCE_S", 0.0)


@contextmanager
def process(folder: Path) -> Iterator[None]:
    child = subprocess.Popen(["sleep", "60"])
    yield
    child.kill()
    child.wait()


@contextmanager
def descriptor(folder: Path) -> Iterator[None]:
    opened = os.open(os.devnull, os.O_RDONLY)
    yield
    os.close(opened)


@contextmanager
def thread(folder: Path) -> Iterator[None]:
    over = threading.Event()
    worker = threading.Thread(target=over.wait)
    worker.start()
    yield
    over.set()
    worker.join()


@contextmanager
def file(folder: Path) -> Iterator[None]:
    (folder / "spilled").touch()
    yield


@pytest.mark.parametrize("leak", [process, descriptor, thread, file])
def test_what_is_left_over_is_told(tmp_path: Path, leak) -> None:
    before = Surroundings.look([tmp_path])
    assert left_over(before, [tmp_path]) == []
    with leak(tmp_path):
        (what,) = left_over(before, [tmp_path])
    assert what.startswith(leak.__name__)


def test_a_random_dag_has_everything_and_is_the_same_again() -> None:
    dag = random_dag(random.Random(1), 400, pins=["alpha"])
    kinds = Counter(function.type for function in dag.functions.values())
    assert min(kinds["regular"], kinds["inline"]) > 20
    assert sum(function.node == "alpha" for function in dag.functions.values()) > 20
    assert sum(isinstance(function.node, Collocated) for function in dag.functions.values()) > 20
    arguments = [argument for function in dag.functions.values() for argument in function.arguments]
    assert sum(argument.serialize is not None for argument in arguments) > 20
    assert sum(argument.argument_inclusion == "as_list" for argument in arguments) > 20
    again = random_dag(random.Random(1), 400, pins=["alpha"])
    assert serial_results(dag) == serial_results(again) != serial_results(random_dag(random.Random(2), 400))


@pytest.mark.parametrize("seed", range(3))
def test_a_random_dag_gives_what_is_said(seed: int) -> None:
    dag = collected(random_dag(random.Random(seed), 150), together=20)
    with hl.Cluster({"a": {"cpu": 2}, "b": {"cpu": 2}}, backend="local") as cluster:
        assert cluster.execute(dag).results["total"] == serial_results(dag)["total"]
