"""No run waits for ever for what went wrong between scheduler and backend."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

import handoff_lab as hl
from handoff_lab.coordinator.engine import _FIRST, _in_turns
from handoff_lab.messages import AttemptId, Start


@pytest.fixture
def cluster() -> Iterator[hl.Cluster]:
    with hl.Cluster({"alpha": {"cpu": 1}}, backend="local") as cluster:
        yield cluster


class Broken:
    """A call that fails the first times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, times: int = 1) -> None:
        self._call = getattr(owner, name)
        self._times = times
        monkeypatch.setattr(owner, name, self)

    def __call__(self, *arguments: Any) -> Any:
        self._times -= 1
        if self._times >= 0:
            raise LookupError("broken")
        return self._call(*arguments)


def test_a_run_ends_when_the_backend_does_not_take_its_functions_and_others_go_on(
    cluster: hl.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    other = cluster.submit(hl.DAG("other").add(hl.Function("f", go_on.wait, extra_args=[60])))
    coordinator: Any = cluster._coordinator
    Broken(monkeypatch, coordinator.backend, "submit")
    run = cluster.submit(hl.DAG("run").add(hl.Function("f", int)))
    with pytest.raises(hl.RunError, match=r"could not be done: LookupError"):
        run.wait(60)
    go_on.set()
    other.wait(60)
    assert other.results["f"] is True


@pytest.mark.parametrize("times", [1, 2])
def test_all_runs_end_with_the_cluster_though_the_scheduler_fails(
    cluster: hl.Cluster, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    coordinator: Any = cluster._coordinator
    dag = hl.DAG("never").add(hl.Function("f", int, cost={"gpu": 1}))
    runs = [cluster.submit(dag, wait_for_capacity=True) for _ in range(3)]
    Broken(monkeypatch, coordinator.scheduler, "cancel", times)
    cluster.close()
    assert [run.join(raise_on_error=False).status for run in runs] == ["failed"] * times + ["cancelled"] * (3 - times)


@pytest.mark.parametrize("counts", [(1, 0), (_FIRST, 0), (3000, 20), (700, 800)])
def test_nodes_get_their_first_functions_in_turns(counts: tuple[int, int]) -> None:
    starts = [Start(AttemptId("run", i, 1), node, ()) for node, n in zip("ab", counts, strict=True) for i in range(n)]
    parts = list(_in_turns(starts))
    for node, n in zip("ab", counts, strict=True):
        assert [start.id.function for part in parts for start in part if start.node == node] == list(range(n))
    assert len({start.node for start in parts[0]}) == sum(n > 0 for n in counts)
    assert len(parts[0]) <= _FIRST


def test_a_node_with_much_to_start_does_not_wait_for_those_with_little() -> None:
    starts = [Start(AttemptId("run", i, 1), "a", ()) for i in range(1000)]
    starts += [Start(AttemptId("run", i, 1), f"b{i}", ()) for i in range(512)]
    assert len(list(_in_turns(starts))) <= 6
