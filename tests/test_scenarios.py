"""What Handoff's own tests demand, on the local and on the kernel backend."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import handoff_lab as hl
from tests.others import soon

HERE = sys.modules[__name__]


@pytest.fixture(scope="module", params=["local", pytest.param("kernels", marks=pytest.mark.real)])
def cluster(request: pytest.FixtureRequest) -> Iterator[hl.Cluster]:
    nodes = {"alpha": {"cpu": 2, "memory": 2000}, "beta": {"cpu": 2, "memory": 4000}}
    with hl.Cluster(nodes, backend=request.param, by_value=[HERE]) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def _nothing_claimed(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every scenario, success or failure, all that the nodes have is available again."""
    yield
    cluster = request.getfixturevalue("cluster")
    soon(lambda: not any(any(node.used.values()) for node in cluster.nodes.values()), story=lambda: cluster.nodes)


def note(path: Path) -> int:
    """Count a call, across processes; how many there were."""
    with path.open("ab") as file:
        file.write(b".")
        return file.tell()


def fail_until(path: Path, attempt: int) -> int:
    count = note(path)
    if count < attempt:
        raise ValueError(f"attempt {count}")
    return count


def branching() -> hl.DAG:
    return hl.DAG("branching").add(
        hl.Function("input_data", lambda: [10, 20, 30]),
        hl.Function("pre_a", lambda xs: [x + 1 for x in xs], args=["input_data"], cost={"cpu": 2}),
        hl.Function("pre_b", lambda xs, k: [x * k for x in xs], args=["input_data"], extra_args=[2], cost={"cpu": 2}),
        hl.Function("agg", lambda a, b: sum(a) + sum(b), args=["pre_a", "pre_b"], cost={"cpu": 1}),
    )


def test_branching_example(cluster: hl.Cluster) -> None:
    run = cluster.execute(branching())
    assert run.status == "done"
    assert run.results["agg"] == 183
    assert set(run.allocations) == {"input_data", "pre_a", "pre_b", "agg"}
    assert set(run.allocations.values()) == {"alpha", "beta"}
    assert run.attempts == dict.fromkeys(run.allocations, 1)


def test_branching_by_decorator(cluster: hl.Cluster) -> None:
    dag = hl.DAG("decorated")

    @dag.function
    def input_data():
        return [10, 20, 30]

    @dag.function(cost={"cpu": 2})
    def pre_a(input_data):
        return [x + 1 for x in input_data]

    @dag.function(cost={"cpu": 2})
    def pre_b(input_data, k=2):
        return [x * k for x in input_data]

    @dag.function(cost={"cpu": 1})
    def agg(pre_a, pre_b):
        return sum(pre_a) + sum(pre_b)

    assert cluster.execute(dag).results["agg"] == 183
    assert pre_b([1]) == [2]


def test_retries_are_counted(cluster: hl.Cluster, tmp_path: Path) -> None:
    dag = hl.DAG("retries").add(hl.Function("flaky", fail_until, extra_args=[tmp_path / "n", 3]))
    run = cluster.execute(dag, max_retries=2)
    assert run.results["flaky"] == 3
    assert run.attempts["flaky"] == 3


def test_too_few_retries_fail_with_the_story(cluster: hl.Cluster, tmp_path: Path) -> None:
    dag = hl.DAG("retries").add(hl.Function("flaky", fail_until, extra_args=[tmp_path / "n", 9]))
    with pytest.raises(hl.FunctionFailedError) as caught:
        cluster.execute(dag, max_retries=2)
    assert caught.value.function == "flaky"
    assert caught.value.attempts == 3
    assert caught.value.node in {"alpha", "beta"}
    assert isinstance(caught.value.__cause__, ValueError)
    assert str(caught.value.__cause__) == "attempt 3"
    assert 'raise ValueError(f"attempt {count}")' in caught.value.remote_traceback


def test_retries_of_a_function_override_those_of_the_run(cluster: hl.Cluster, tmp_path: Path) -> None:
    dag = hl.DAG("override").add(
        hl.Function("never", fail_until, extra_args=[tmp_path / "a", 9], max_retries=0),
        hl.Function("often", fail_until, extra_args=[tmp_path / "b", 5], max_retries=4),
    )
    run = cluster.execute(dag, max_retries=1, on_error="continue", raise_on_error=False)
    assert run.attempts == {"never": 1, "often": 5}
    assert run.status == "failed"
    assert set(run.errors) == {"never"}
    assert run.results["often"] == 5


def test_inline_function_is_evaluated_once_per_dependent(cluster: hl.Cluster, tmp_path: Path) -> None:
    dag = hl.DAG("inline").add(
        hl.Function("a", lambda path: 10 * bool(note(path)), extra_args=[tmp_path / "n"], type="inline"),
        hl.Function("b", lambda a: a + 5, args=["a"], cost={"cpu": 1}),
        hl.Function("c", lambda a: a * 3, args=["a"], cost={"cpu": 1}),
        hl.Function("d", lambda b, c: [b, c], args=["b", "c"], cost={"cpu": 1}),
    )
    run = cluster.execute(dag)
    assert dict(run.results) == {"b": 15, "c": 30, "d": [15, 30]}
    assert (tmp_path / "n").stat().st_size == 2


def test_inline_function_with_results_of_its_own_to_wait_for(cluster: hl.Cluster) -> None:
    dag = hl.DAG("inline").add(
        hl.Function("x", lambda: 4),
        hl.Function("twice", lambda x, k: x * k, args=["x"], extra_args=[2], type="inline"),
        hl.Function("more", lambda t, x: t + x, args=["twice", "x"], type="inline"),
        hl.Function("out", lambda m, x, t: (m, x, t), args=["more", "x", "twice"]),
    )
    assert cluster.execute(dag).results["out"] == (12, 4, 8)


def test_arguments_as_one_list(cluster: hl.Cluster) -> None:
    dag = hl.DAG("list").add(
        hl.Function("a", lambda: 1),
        hl.Function("b", lambda: 2),
        hl.Function(
            "all", lambda xs, k: [x * k for x in xs], args=["a", "b"], extra_args=[10], argument_inclusion="as_list"
        ),
        hl.Function("named", lambda left, *, right: left - right, args={"left": "b", "right": "a"}),
        hl.Function("kwargs", lambda a, *, k: a + k, args=["a"], kwargs={"k": 5}),
    )
    run = cluster.execute(dag)
    assert (run.results["all"], run.results["named"], run.results["kwargs"]) == ([10, 20], 1, 6)


def test_pins_are_obeyed(cluster: hl.Cluster) -> None:
    dag = hl.DAG("pins").add(
        hl.Function("here", lambda: 1, node="alpha"),
        hl.Function("there", lambda x: x + 1, args=["here"], node="beta"),
        hl.Function("back", lambda x: x + 1, args=["there"], node="alpha"),
    )
    run = cluster.execute(dag)
    assert run.allocations == {"here": "alpha", "there": "beta", "back": "alpha"}
    assert run.results["back"] == 3


def test_collocated_costs_are_merged(cluster: hl.Cluster) -> None:
    dag = hl.DAG("collocated").add(
        hl.Function("first", lambda: 1, cost={"memory": 1500}),
        hl.Function("second", lambda: 2, cost={"memory": 1500}, node=hl.collocated("first")),
        hl.Function("third", lambda: 3, cost={"memory": 1000}, node=hl.collocated("second")),
    )
    run = cluster.execute(dag)
    assert set(run.allocations.values()) == {"beta"}, "4000 MB together fit beta alone"


def test_serializers_are_told_both_nodes(cluster: hl.Cluster) -> None:
    def pack(value, source, target):
        return {"packed": value, "way": (source, target)}

    def unpack(value, source, target):
        return value["packed"], value["way"], (source, target)

    dag = hl.DAG("serializers").add(
        hl.Function("producer", lambda: [1, 2], node="alpha"),
        hl.Function(
            "consumer",
            lambda value: value,
            args=[hl.Argument("producer", serialize=pack, deserialize=unpack)],
            node="beta",
        ),
        hl.Function("plain", lambda value: value, args=["producer"], node="beta"),
    )
    run = cluster.execute(dag)
    assert run.results["consumer"] == ([1, 2], ("alpha", "beta"), ("alpha", "beta"))
    assert run.results["plain"] == [1, 2]
    assert set(run.allocations) == {"producer", "consumer", "plain"}


def test_spills_to_the_next_node_when_the_first_is_full(cluster: hl.Cluster) -> None:
    dag = hl.DAG("spill").add(
        hl.Function("a", lambda: 1, cost={"cpu": 1, "memory": 1900}),
        hl.Function("b", lambda: 2, cost={"cpu": 1, "memory": 1000}),
    )
    assert cluster.execute(dag).allocations == {"a": "alpha", "b": "beta"}


def test_costs_are_claimed_only_while_a_function_runs(cluster: hl.Cluster) -> None:
    dag = hl.DAG("row").add(
        hl.Function("a", lambda: 1, cost={"cpu": 2}, node="alpha"),
        hl.Function("b", lambda a: a + 1, args=["a"], cost={"cpu": 2}, node="alpha"),
        hl.Function("c", lambda b: b + 1, args=["b"], cost={"cpu": 2}, node="alpha"),
    )
    assert cluster.execute(dag).results["c"] == 3


def test_failure_cancels_siblings_and_starts_nothing_new(cluster: hl.Cluster, tmp_path: Path) -> None:
    def fail():
        raise ValueError("no")

    dag = hl.DAG("fail fast").add(
        hl.Function("bad", fail, max_retries=0, node="alpha"),
        hl.Function("after_bad", lambda x: note(tmp_path / "n"), args=["bad"]),
        hl.Function("also_after", lambda x: note(tmp_path / "n"), args=["after_bad"]),
    )
    with pytest.raises(hl.FunctionFailedError, match="'bad' failed on node 'alpha' after attempt 1"):
        cluster.execute(dag)
    assert not (tmp_path / "n").exists()


def test_goes_on_with_what_does_not_depend_on_a_failure(cluster: hl.Cluster) -> None:
    dag = hl.DAG("continue").add(
        hl.Function("bad", lambda: 1 / 0, max_retries=0),
        hl.Function("needs_bad", lambda x: x, args=["bad"]),
        hl.Function("good", lambda: 7),
    )
    run = cluster.execute(dag, on_error="continue", raise_on_error=False)
    assert dict(run.results) == {"good": 7}
    assert run.record.functions["needs_bad"].status == "skipped"
    assert isinstance(run.errors["bad"].__cause__, ZeroDivisionError)
    with pytest.raises(hl.FunctionFailedError):
        run.wait()
    with pytest.raises(hl.ResultUnavailableError, match="failed"):
        run.results["bad"]


def test_two_dags_at_once_are_isolated(cluster: hl.Cluster) -> None:
    def dag(k: int) -> hl.DAG:
        return hl.DAG("same name").add(
            hl.Function("x", lambda: k, cost={"cpu": 1}),
            hl.Function("y", lambda x: x * 10, args=["x"], cost={"cpu": 1}),
        )

    runs = [cluster.submit(dag(k)) for k in range(8)]
    assert [run.wait().results["y"] for run in runs] == [k * 10 for k in range(8)]


def test_what_no_node_could_hold_fails_before_anything_runs(cluster: hl.Cluster, tmp_path: Path) -> None:
    dag = hl.DAG("too large").add(
        hl.Function("small", lambda: note(tmp_path / "n"), cost={"cpu": 2}),
        hl.Function("large", lambda: 1, cost={"cpu": 10, "memory": 1500}),
    )
    with pytest.raises(hl.AllocationError) as caught:
        cluster.execute(dag)
    assert (caught.value.function, caught.value.best_node, caught.value.shortfall) == ("large", "alpha", {"cpu": 8})
    assert not (tmp_path / "n").exists()
    assert cluster.execute(hl.DAG("small").add(hl.Function("ok", lambda: 42, cost={"cpu": 2}))).results["ok"] == 42


def test_targets_run_only_what_they_need(cluster: hl.Cluster) -> None:
    run = cluster.execute(branching(), targets="pre_a")
    assert dict(run.results) == {"input_data": [10, 20, 30], "pre_a": [11, 21, 31]}
    with pytest.raises(hl.MissingFunctionError, match=r"did you mean .*'pre_a'"):
        cluster.execute(branching(), targets=["pre_x"])


def test_inputs(cluster: hl.Cluster) -> None:
    dag = hl.DAG("inputs")
    dag.function(lambda data, k=3: sum(data) * k, id="total")
    assert cluster.execute(dag, inputs={"data": [1, 2]}).results["total"] == 9
    with pytest.raises(hl.InvalidFunctionError, match="it is an input that 'total' needs"):
        cluster.execute(dag)
    with pytest.raises(hl.InvalidDAGError, match="did you mean 'data'"):
        cluster.execute(dag, inputs={"date": []})


def test_any_hashable_id(cluster: hl.Cluster) -> None:
    dag = hl.DAG("ids").add(
        hl.Function(("row", 1), lambda: 5),
        hl.Function(2, lambda x: x + 1, args=[("row", 1)]),
        hl.Function(None, lambda x: x + 1, args=[2]),
    )
    assert dict(cluster.execute(dag).results) == {("row", 1): 5, 2: 6, None: 7}


def test_rerun_takes_over_what_was_finished(cluster: hl.Cluster, tmp_path: Path) -> None:
    dag = hl.DAG("rerun").add(
        hl.Function("once", lambda: note(tmp_path / "once")),
        hl.Function("flaky", lambda x: fail_until(tmp_path / "flaky", 2), args=["once"], max_retries=0),
        hl.Function("end", lambda x: x, args=["flaky"]),
    )
    first = cluster.execute(dag, raise_on_error=False)
    assert first.status == "failed"
    second = first.rerun_failed().wait()
    assert second.results["end"] == 2
    assert second.results["once"] == 1
    assert second.record.functions["once"].status == "cached"
    assert second.rerun_failed().wait().results["end"] == 2


def test_caller_that_dies_gives_everything_back(
    cluster: hl.Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupt in the thread that waits cancels its run."""
    started = tmp_path / "started"
    release = tmp_path / "release"

    def slow() -> None:
        note(started)
        while not release.exists():
            threading.Event().wait(0.01)

    dag = hl.DAG("caller").add(
        hl.Function("slow", slow, cost={"cpu": 2}), hl.Function("next", lambda x: x, args=["slow"])
    )
    run = cluster.submit(dag)

    def interrupted(self: hl.Run, timeout: float | None = None) -> hl.Run:
        while not started.exists():
            threading.Event().wait(0.01)
        raise KeyboardInterrupt

    try:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(hl.Run, "wait", interrupted)
            run.join()
        if cluster.lacks:  # there, what runs goes on; elsewhere it could end before its node hears of the interrupt
            release.touch()
        with pytest.raises(hl.RunCancelledError):
            run.wait(60)
    finally:
        release.touch()
    assert "next" not in run.results


def test_run_is_over_for_those_who_await_it(cluster: hl.Cluster) -> None:
    import asyncio

    async def main() -> hl.Run:
        return await cluster.submit(branching())

    assert asyncio.run(main()).results["agg"] == 183


def test_wait_with_a_timeout_leaves_the_run_going(cluster: hl.Cluster, tmp_path: Path) -> None:
    def slow() -> int:
        while not (tmp_path / "go").exists():
            threading.Event().wait(0.01)
        return 5

    run = cluster.submit(hl.DAG("slow").add(hl.Function("slow", slow)))
    with pytest.raises(hl.RunTimeoutError, match="still goes on"):
        run.wait(0.05)
    (tmp_path / "go").touch()
    assert run.wait(60).results["slow"] == 5
