"""The module-level verbs of Handoff's guides, over the default cluster of real kernels and this process."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import handoff_lab as hl


@pytest.fixture
def default() -> Iterator[None]:
    yield
    hl.stop()


def branching() -> hl.DAG:
    return hl.DAG("branching").add(
        hl.Function("input_data", lambda: [10, 20, 30]),
        hl.Function("pre_a", lambda xs: [x + 1 for x in xs], args=["input_data"], cost={"cpu": 2}),
        hl.Function("pre_b", lambda xs, k: [x * k for x in xs], args=["input_data"], extra_args=[2], cost={"cpu": 2}),
        hl.Function("agg", lambda a, b: sum(a) + sum(b), args=["pre_a", "pre_b"], cost={"cpu": 1}),
    )


@pytest.mark.real
def test_the_verbs_of_the_guides(default: None) -> None:
    hl.register_node("alpha", {"cpu": 2})
    hl.register_node("beta", {"cpu": 2})
    assert hl.discover_nodes() == {"alpha": {"cpu": 2}, "beta": {"cpu": 2}}
    run = hl.execute_distributed(branching(), allocation_strategy="load_balanced")
    assert run.results["agg"] == 183
    assert set(run.allocations.values()) == {"alpha", "beta"}
    assert hl.get_result("branching", "agg") == 183
    assert hl.resources_available("alpha", {"cpu": 2})
    hl.update_node_resources("alpha", {"cpu": 1})
    assert not hl.resources_available("alpha", {"cpu": 2})


@pytest.mark.real
def test_this_process_and_a_kernel_pass_results_to_each_other(default: None) -> None:
    """The node ``local`` runs in this process, so what it makes need not be picklable while it stays here."""
    hl.register_local_node({"cpu": 2})
    hl.register_node("away", {"cpu": 2})
    dag = hl.DAG("both").add(
        hl.Function("here", lambda: list(range(50_000)), node="local"),
        hl.Function("there", lambda xs: [x + 1 for x in xs], args=["here"], node="away"),
        hl.Function("back", lambda xs: sum(xs), args=["there"], node="local"),
        hl.Function("lock", threading.Lock, node="local"),
        hl.Function("held", lambda lock: lock.locked(), args=["lock"], node="local"),
    )
    run = hl.execute(dag)
    assert run.results["back"] == sum(range(1, 50_001))
    assert run.results["held"] is False
    unpicklable = hl.DAG("no").add(
        hl.Function("lock", threading.Lock, node="local"),
        hl.Function("use", lambda lock: 1, args=["lock"], node="away"),
    )
    with pytest.raises(hl.FunctionFailedError, match="cannot be pickled"):
        hl.execute(unpicklable)
    assert hl.execute(branching()).allocations["input_data"] == "local", "this process comes first"


@pytest.mark.real
def test_policies_of_the_default_cluster(default: None) -> None:
    class Last:
        def allocate(self, functions: Any, capabilities: Mapping[str, Any]) -> dict[Any, str]:
            return {function.id: max(capabilities) for function in functions}

    kept: dict[Any, Any] = {}

    class Store:
        def put(self, key: Any, value: Any) -> None:
            kept[key] = value

        def get(self, key: Any) -> Any:
            return kept[key]

        def delete(self, key: Any) -> None:
            kept.pop(key)

        def __contains__(self, key: Any) -> bool:
            return key in kept

    tracker = hl.SimpleResourceTracker()
    hl.start(allocator=Last(), resource_tracker=tracker, result_store=Store())
    with pytest.raises(hl.BackendError, match="started already"):
        hl.start()
    hl.register_node("a", {"cpu": 2})
    hl.register_node("b", {"cpu": 2})
    run = hl.execute(branching())
    assert set(run.allocations.values()) == {"b"}
    assert kept[run.id, "agg"] == 183
    assert tracker.capabilities("b") == {"cpu": 2}


@pytest.mark.real
def test_values_stored_for_a_dag_are_its_inputs(default: None) -> None:
    hl.register_local_node({"cpu": 1})
    dag = hl.DAG("stored")
    dag.function(lambda data, factor: sum(data) * factor, id="total")
    hl.store_value("stored", "data", [1, 2, 3])
    assert hl.execute(dag, inputs={"factor": 2}).results["total"] == 12
    assert hl.get_result("stored", "data") == [1, 2, 3]
    with pytest.raises(hl.ResultUnavailableError, match="no DAG named 'other'"):
        hl.get_result("other", "x", timeout=0.01)
    with pytest.raises(hl.ResultUnavailableError, match="was not there after"):
        hl.get_result("stored", "unknown", timeout=0.01)


def test_execute_local_ignores_nodes_and_costs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    dag = hl.DAG("here").add(
        hl.Function("a", lambda: threading.Lock(), node="nowhere", cost={"gpu": 9}),
        hl.Function("b", lambda lock: lock.acquire(), args=["a"], node=hl.collocated("a"), runs_in="kernel"),
        hl.Function("c", lambda b: sys.getrecursionlimit() * b, args=["b"], timeout=1e-9),
    )
    run = hl.execute_local(dag)
    assert run.results["a"].locked()
    assert run.results["c"] == sys.getrecursionlimit()
    with pytest.raises(hl.FunctionFailedError) as caught:
        hl.execute_local(hl.DAG("bad").add(hl.Function("f", lambda: 1 / 0, max_retries=0)))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    failed = hl.execute_local(hl.DAG("bad").add(hl.Function("f", lambda: 1 / 0)), raise_on_error=False, max_retries=2)
    assert failed.attempts == {"f": 3}
