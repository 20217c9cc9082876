"""Maps as they run: their results, a failing item, what is taken over, a lost node."""

from __future__ import annotations

import linecache
import os
import pickle
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import handoff_lab as hl
from handoff_lab._items import Items, Joined
from handoff_lab.coordinator.codes import CodeBook
from handoff_lab.results import MapResults, Results
from tests.others import soon

HERE = sys.modules[__name__]


@pytest.fixture(scope="module")
def local() -> Iterator[hl.Cluster]:
    with hl.Cluster({"a": {"cpu": 1}, "b": {"cpu": 1}}, backend="local") as cluster:
        yield cluster


def mapped(code: Any, over: Any = range(10), **options: Any) -> hl.DAG:
    return hl.DAG("maps").add(hl.Function("f", code, over=over, **options), hl.Function("sum", sum, ["f"]))


def cube(x: int) -> int:
    return x**3


CUBES = [x**3 for x in range(10)]


def test_the_result_is_a_sequence_that_is_fetched_when_it_is_read(local: hl.Cluster) -> None:
    run = local.execute(mapped(cube, chunksize=3))
    results = run.results["f"]
    assert (len(results), list(results), run.results["sum"]) == (10, CUBES, sum(CUBES))
    assert [results[i] for i in (0, 9, -1, -10)] == [0, 729, 729, 0]
    assert (results[2:8], results[::-3]) == (CUBES[2:8], CUBES[::-3])
    assert np.asarray(results).tolist() == CUBES
    assert (729 in results, results.index(8)) == (True, 2)
    assert repr(results) == "<10 results of 'f'>"
    assert (results == CUBES, results == run.results["f"], results == CUBES[1:], results == "f") == (
        (True, True, False, False)
    )
    assert pickle.loads(pickle.dumps(results)) == CUBES
    with pytest.raises(IndexError, match="'f' has 10 results, and none at 10"):
        results[10]
    assert run.results["f[9:10]"] == [729]
    assert "f" in run.results
    assert set(run.results) == {*run.functions, "f"}
    assert len(run.results) == 6
    assert set(run.functions) == {"f[0:3]", "f[3:6]", "f[6:9]", "f[9:10]", "sum"}


def test_a_chunk_is_fetched_once_for_all_of_its_items(local: hl.Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    run = local.execute(mapped(cube, chunksize=5))
    fetched: list[Any] = []
    read = Results.read
    monkeypatch.setattr(Results, "read", lambda results, chunk: fetched.append(chunk) or read(results, chunk))
    assert [run.results["f"][i] for i in range(10)] == list(run.results["f"]) == CUBES
    assert fetched == ["f[0:5]", "f[5:10]", "f[0:5]", "f[5:10]"]


@given(length=st.integers(0, 30), size=st.integers(1, 12), part=st.slices(30))
def test_parts_of_a_result_are_as_those_of_a_list(length: int, size: int, part: slice) -> None:
    plain = list(range(length))
    parts = [plain[i : i + size] for i in range(0, length, size)]
    fetch: Any = SimpleNamespace(chunk=lambda _, at: parts[at])
    results: Any = MapResults(fetch, "f", range(len(parts)), Joined(length, size))
    assert (results[part], list(results), list(reversed(results))) == (plain[part], plain, plain[::-1])


def test_the_text_of_a_cell_goes_with_a_map() -> None:
    text = "def cell(x):\n    return x + 1\n"
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, "<cell of a map>", "exec"), namespace)
    linecache.cache["<cell of a map>"] = (len(text), None, text.splitlines(keepends=True), "<cell of a map>")
    book = CodeBook("run", pickle=True)
    key = book.key(Items(namespace["cell"], "'f'"))
    del linecache.cache["<cell of a map>"]
    assert pickle.loads(book.codes[key].pickled())(range(3), 0) == [1, 2, 3]
    assert linecache.getline("<cell of a map>", 2) == "    return x + 1\n"


def test_it_is_cut_by_what_the_nodes_have(local: hl.Cluster) -> None:
    assert len(local.execute(mapped(cube, range(80))).functions) == 9
    assert len(local.execute(mapped(cube, range(80)), nodes=["a"]).functions) == 5
    durations = {"f": 0.5, "sum": 1.0}
    plan = hl.plan(mapped(cube, range(80), duration=1.0), local, durations=durations)
    assert (len(plan.allocations), plan.makespan) == (9, 21.0)
    mine = hl.TimeOptimized(durations=durations | {"f": {"a": 0.0, "b": 9.0}})
    assert set(local.execute(mapped(cube, range(80)), allocation_strategy=mine).allocations.values()) == {"a"}


def test_nothing_to_do(local: hl.Cluster) -> None:
    run = local.execute(mapped(cube, []))
    assert (run.results["sum"], list(run.results["f"])) == (0, [])
    assert list(local.execute(mapped(cube, []), "f").results["f"]) == []


def test_targets_and_inputs(local: hl.Cluster) -> None:
    dag = mapped(lambda x, base: x + base, args=["base"]).add(hl.Function("base", type="input"))
    run = local.execute(dag, ["f"], inputs={"base": 5})
    assert list(run.results["f"]) == list(range(5, 15))
    assert "sum" not in run.functions
    assert list(local.execute(run.dag, ["f"], inputs={"base": 6}).results["f"]) == list(range(6, 16))
    with pytest.raises(hl.InvalidFunctionError, match="it is an input that 'f' needs"):
        local.submit(dag)


def test_what_many_take_is_joined_by_a_function_of_its_own(local: hl.Cluster) -> None:
    dag = mapped(cube, range(300), chunksize=2).remove("sum")
    dag.add(hl.Function("g", lambda x, cubes: x + len(cubes), ["f"], over=range(80), chunksize=1))
    run = local.execute(dag)
    assert list(run.results["g"]) == list(range(300, 380))
    assert list(run.results["f"]) == [x**3 for x in range(300)]
    assert "f" in run.functions
    again = run.rerun("f").wait()
    assert (again.record.summary(), again.error("f")) == ("151 done, 80 cached", None)


def test_a_failed_item_is_named_and_made_again(local: hl.Cluster, tmp_path: Path) -> None:
    fails = tmp_path / "fails"
    fails.touch()
    calls: list[int] = []

    def picky(x: int) -> int:
        calls.append(x)
        if x == 7 and fails.exists():
            raise ValueError("no sevens")
        return x

    run = local.execute(mapped(picky, chunksize=2, max_retries=0), on_error="continue", raise_on_error=False)
    error = run.error("f")
    assert isinstance(error, hl.FunctionFailedError)
    assert (error.function, error.reason) == ("f[6:8]", "ValueError: no sevens")
    assert "item 7 of 'f': 7" in str(error)
    assert "_items.py" not in str(error)
    assert error.inputs == "x=7"
    assert "f" not in run.results
    assert "f" not in set(run.results)
    assert set(run.errors) == {"f", "f[6:8]"}
    assert str(run.errors["f"]) == str(error)
    assert run.results["f[0:2]"] == [0, 1]
    with pytest.raises(hl.ResultUnavailableError, match=r"f\[6:8\].*failed"):
        run.results["f"]
    fails.unlink()
    calls.clear()
    mended = local.submit(mapped(picky), resume=run).wait()  # cut as it was, not as the nodes would have it
    assert (sorted(calls), mended.results["sum"]) == ([6, 7], 45)
    calls.clear()
    assert list(mended.rerun("f", descendants=True).wait().results["f"]) == list(range(10))
    assert sorted(calls) == list(range(10))
    calls.clear()
    local.submit(mapped(picky), resume=mended, again=["f"]).wait()
    assert sorted(calls) == list(range(10))


def test_what_is_told_of_chunks_alone_says_so(local: hl.Cluster) -> None:
    run = local.execute(mapped(cube, chunksize=3))
    for told in (run.allocations, run.attempts, run.durations, run.logs):
        with pytest.raises(KeyError, match=r"'f' is a map, of which.* 4, from 'f\[0:3\]' to 'f\[9:10\]'"):
            told["f"]
        with pytest.raises(KeyError, match=r"^'nowhere'$"):
            told["nowhere"]
        assert told.get("f") is None
    assert {run.allocations[chunk] for chunk in run.dag["f"].args} <= {"a", "b"}
    copy = pickle.loads(pickle.dumps(run.attempts))
    assert (type(copy), copy) == (dict, run.attempts)
    assert run.errors == {}


def test_execute_local_keeps_the_results() -> None:
    assert list(hl.execute_local(mapped(cube)).results["f"]) == CUBES


@pytest.fixture(scope="module")
def cluster() -> Iterator[hl.Cluster]:
    with hl.Cluster({"a": {"cpu": 1}, "b": {"cpu": 1}}, by_value=[HERE]) as cluster:
        yield cluster


@pytest.mark.real
class TestKernels:
    def test_many_items(self, cluster: hl.Cluster) -> None:
        run = cluster.execute(mapped(cube, np.arange(10_000), chunksize=100))
        assert run.results["sum"] == sum(run.results["f"]) == sum(x**3 for x in range(10_000))
        assert len(run.functions) == 101

    def test_an_item_that_fails(self, cluster: hl.Cluster) -> None:
        with pytest.raises(hl.FunctionFailedError, match="item 5 of 'f': 5"):
            cluster.execute(mapped(lambda x: 1 // (x - 5), chunksize=3, max_retries=1))

    def test_cancelled_by_the_name_of_the_map(self, cluster: hl.Cluster) -> None:
        dag = mapped(lambda x: time.sleep(600), chunksize=5).add(hl.Function("other", int))
        run = cluster.submit(dag, on_error="continue")
        run.cancel("f")
        with pytest.raises(hl.RunCancelledError):
            run.wait(30)
        told = {id: record.status for id, record in run.record.functions.items()}
        assert told == {"f[0:5]": "cancelled", "f[5:10]": "cancelled", "sum": "skipped", "other": "done"}

    def test_a_lost_node_loses_chunks_alone(self, cluster: hl.Cluster, tmp_path: Path) -> None:
        reached = tmp_path / "reached"

        def waits_once(x: int) -> int:
            if x == 50 and not reached.exists():
                reached.touch()
                time.sleep(600)
            return x

        run = cluster.submit(mapped(waits_once, range(100), chunksize=10))
        chunk = run.record.functions["f[50:60]"]
        soon(lambda: reached.exists() and chunk.status == "running")
        os.kill(cluster.nodes[str(chunk.node)].pid, signal.SIGKILL)
        assert run.wait(60).results["sum"] == 4950
        assert list(run.results["f"]) == list(range(100))
        assert run.attempts["f[50:60]"] == 2
