"""Timeouts, retries and their delays, and what becomes of runs about which the scheduler fails."""

from __future__ import annotations

import gc
import time
from typing import Any

import pytest

import handoff_lab as hl
from handoff_lab.telemetry.events import FUNCTION_RETRY
from tests.faults.marks import Marks
from tests.others import soon

NODES = {"alpha": {"cpu": 1}, "beta": {"cpu": 1}}


def failing(marks: Marks, **options: Any) -> hl.DAG:
    def fail() -> None:
        marks.leave("tried")
        raise ConnectionError("not today")

    return hl.DAG("failing").add(hl.Function("f", fail, **options))


@pytest.mark.real
def test_a_function_ends_when_its_time_is_up_and_so_does_a_run(marks: Marks) -> None:
    dag = hl.DAG("slow").add(hl.Function("f", time.sleep, extra_args=[600], timeout=0.2, max_retries=1))
    endless = hl.DAG("endless").add(hl.Function("f", time.sleep, extra_args=[600]))
    with hl.Cluster(NODES) as cluster:
        begun = time.monotonic()
        with pytest.raises(hl.FunctionTimeoutError, match="2 attempts"):
            cluster.execute(dag)
        assert 0.4 <= time.monotonic() - begun < 30
        begun = time.monotonic()
        with pytest.raises(hl.RunTimeoutError, match=r"not done after 0.3 s"):
            cluster.execute(endless, timeout=0.3)
        assert 0.3 <= time.monotonic() - begun < 30
        soon(lambda: all(node.used == {} for node in cluster.nodes.values()))
        cluster.execute(hl.DAG("after").add(hl.Function("f", int)))


@pytest.mark.real
def test_five_retries_on_two_nodes_are_six_attempts(marks: Marks) -> None:
    with hl.Cluster(NODES) as cluster:
        run = cluster.submit(failing(marks, retry_delay=0.02), max_retries=5)
        with pytest.raises(hl.FunctionFailedError) as caught:
            run.wait(60)
        assert isinstance(caught.value.__cause__, ConnectionError)
        assert (caught.value.attempts, run.attempts, marks.count("tried")) == (6, {"f": 6}, 6)
        delays = [event.measurements["delay"] for event in run.events if event.name == FUNCTION_RETRY]
        assert len(delays) == 5
        for number, delay in enumerate(delays):
            assert 0.02 * 2**number <= delay <= 0.02 * 2**number * 1.25
        ended, started = [a.ended for a in run.record.attempts], [a.started for a in run.record.attempts]
        for delay, end, start in zip(delays, ended, started[1:], strict=False):
            assert (start or 0.0) - (end or 0.0) >= delay - 0.01  # the node's clock and the coordinator's


@pytest.mark.real
@pytest.mark.parametrize(
    ("retry_on", "attempts"), [(OSError, 3), ((ValueError, ConnectionError), 3), (ValueError, 1), (Exception, 3)]
)
def test_only_what_is_worth_it_is_tried_again(
    two_nodes: hl.Cluster, marks: Marks, retry_on: Any, attempts: int
) -> None:
    run = two_nodes.execute(failing(marks, retry_on=retry_on, max_retries=2), raise_on_error=False)
    assert (run.status, run.attempts, marks.count("tried")) == ("failed", {"f": attempts}, attempts)


@pytest.fixture(scope="module")
def two_nodes() -> Any:
    with hl.Cluster(NODES) as cluster:
        yield cluster


def test_runs_end_when_the_scheduler_fails_over_the_loss_of_a_node(
    marks: Marks, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held(name: str) -> None:
        marks.leave(name)
        marks.wait("go on")

    dag = hl.DAG("held").add(*(hl.Function(n, held, extra_args=[n], node=n, cost={"cpu": 1}) for n in NODES))
    with hl.Cluster(NODES, backend="local") as cluster:
        run = cluster.submit(dag)
        soon(lambda: marks.count("alpha") and marks.count("beta"))
        coordinator: Any = cluster._coordinator
        recovery = coordinator.scheduler._recovery
        lose_node = recovery.lose_node

        def fail(*args: Any) -> None:
            recovery.lose_node = lose_node
            raise LookupError("a bug")

        recovery.lose_node = fail
        cluster.remove_node("beta", drain=False)
        with pytest.raises(hl.RunError, match="the scheduler failed: LookupError"):
            run.wait(60)
        assert set(cluster.nodes) == {"alpha"}
        assert cluster.nodes["alpha"].used == {}
        marks.leave("go on")
        id = run.id
        del run
        gc.collect()
        soon(lambda: id not in {state.id for state in coordinator.runs})
        cluster.execute(hl.DAG("after").add(hl.Function("f", int, cost={"cpu": 1})))


def test_a_cache_is_not_promised() -> None:
    with pytest.raises(hl.InvalidFunctionError, match=r"does not work yet.*resume="):
        hl.Function("f", int, cache=True)
