"""What is the local backend's own: threads that stay, values that are never pickled."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

import handoff_lab as hl
from handoff_lab._errors import BackendError
from handoff_lab.backends.local import LocalBackend
from handoff_lab.messages import Failure, Source, Wrote
from handoff_lab.testing.bench import Bench, Gate


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench(LocalBackend({"a": {"cpu": 1}, "b": {"cpu": 1}}), ("a", "b"))
    yield bench
    bench.close()


def test_a_slot_is_one_thread_that_ends_with_its_node(bench: Bench) -> None:
    first, second = (bench.run(threading.current_thread, "a") for _ in range(2))
    assert first is second
    assert bench.run(threading.current_thread, "b") is not first
    bench.remove_node("a")
    first.join(60)
    assert not first.is_alive()


def test_values_stay_as_they_are(bench: Bench) -> None:
    lock = bench.submit(threading.Lock, "a")
    assert bench.run(lambda lock: lock, "b", [Source(lock, "a")]) is bench.value(lock, "a")


def test_a_slot_keeps_nothing_of_what_it_ran(bench: Bench) -> None:
    class Big:
        pass

    made = bench.submit(Big, "a")
    seen = weakref.ref(bench.value(made, "a"))
    bench.backend.free([made])
    bench.until(lambda: gc.collect() is not None and seen() is None)


def test_a_cancelled_thread_says_that_it_goes_on(bench: Bench, tmp_path: Path) -> None:
    gate = Gate(tmp_path / "gate")
    held = bench.hold(gate, "a")
    bench.backend.cancel(held, "interrupt")
    assert [(event.id, "can't be interrupted" in event.text) for event in bench.of(Wrote)] == [(held, True)]
    gate.open()
    assert bench.value(held, "a") == "through"
    gate.close()


def test_the_results_of_a_node_go_with_it(bench: Bench) -> None:
    made = bench.submit(lambda: 1, "a")
    assert bench.value(made, "a") == 1
    bench.remove_node("a")
    assert isinstance(bench.get(made, "a"), Failure)


def test_what_its_nodes_lack_is_said_in_its_users_words() -> None:
    with hl.Cluster({"a": {"cpu": 1}}, backend="local") as cluster:
        with pytest.raises(BackendError, match="nodes in this process have no kernel to run cells in"):
            cluster.run_cell("a", "1", print)
        with pytest.raises(BackendError, match="nodes in this process have no keys"):
            cluster.revoke("a")
        with pytest.raises(BackendError, match="a cluster of nodes in this process can't be joined"):
            _ = cluster.join_file
