"""What a user does with a cluster, on the quick local backend; test_scenarios.py has kernels too."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import threading
import weakref
from collections.abc import Hashable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import handoff_lab as hl
from handoff_lab.telemetry.events import NODE_UP
from tests.others import said_in_a_fork, soon


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[hl.Cluster]:
    nodes = {"alpha": {"cpu": 2, "memory": 2000}, "beta": {"cpu": 2, "gpu": 1}}
    with hl.Cluster(nodes, backend="local", log_directory=tmp_path / "logs") as cluster:
        yield cluster


class Gate:
    """Functions that stop here say so, and go on when they are told."""

    def __init__(self) -> None:
        self.entered: set[Hashable] = set()
        self._changed = threading.Condition()
        self._open = threading.Event()

    def enter(self, name: Hashable) -> Hashable:
        with self._changed:
            self.entered.add(name)
            self._changed.notify_all()
        assert self._open.wait(60)
        return name

    def wait_for(self, *names: Hashable) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: set(names) <= self.entered, 60)

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


def waiting(gate: Gate, *names: str, **options: Any) -> hl.DAG:
    return hl.DAG("waiting").add(*(hl.Function(name, gate.enter, extra_args=[name], **options) for name in names))


def test_nodes_say_what_they_have_and_what_is_claimed(cluster: hl.Cluster, gate: Gate) -> None:
    run = cluster.submit(waiting(gate, "a", cost={"cpu": 1.5, "memory": "1GB"}))
    gate.wait_for("a")
    node = cluster.nodes["alpha"]
    assert node.capabilities == {"cpu": 2, "memory": 2000}
    assert node.used == {"cpu": 1.5, "memory": 1000}
    assert node.available == {"cpu": 0.5, "memory": 1000}
    assert repr(node).endswith(": up; free: cpu 0.5 of 2, memory 1000 MB of 2000 MB>")
    assert not cluster.resources_available("alpha", {"cpu": 1})
    assert cluster.resources_available("alpha", {"cpu": 0.5})
    assert not cluster.resources_available("beta", {"gpu": 2})
    gate.open()
    run.wait(60)
    assert cluster.nodes["alpha"].used == {}
    assert cluster.discover() == {"alpha": {"cpu": 2, "memory": 2000}, "beta": {"cpu": 2, "gpu": 1}}


def test_an_unknown_node_is_named_with_a_hint(cluster: hl.Cluster) -> None:
    with pytest.raises(hl.BackendError, match="no node 'alhpa'; did you mean 'alpha'"):
        cluster.resources_available("alhpa", {"cpu": 1})


def test_raised_capabilities_start_what_was_waiting(cluster: hl.Cluster, gate: Gate) -> None:
    dag = waiting(gate, "a", "b", cost={"cpu": 2}, node="alpha")
    run = cluster.submit(dag)
    gate.wait_for("a")
    assert gate.entered == {"a"}
    cluster.update_node_resources("alpha", {"cpu": 4, "memory": 2000})
    gate.wait_for("a", "b")
    gate.open()
    assert run.wait(60).status == "done"


def test_lowered_capabilities_end_nothing_and_start_nothing(cluster: hl.Cluster, gate: Gate) -> None:
    dag = waiting(gate, "a", cost={"cpu": 2}, node="alpha")
    dag.add(hl.Function("b", lambda x: x, args=["a"], cost={"cpu": 1}, node="alpha"))
    run = cluster.submit(dag)
    gate.wait_for("a")
    cluster.update_node_resources("alpha", {"cpu": 0.5})
    gate.open()
    assert run.results.wait("a", 60)
    assert "b" not in run.results
    assert run.status == "running"
    cluster.update_node_resources("alpha", {"cpu": 1})
    assert run.wait(60).results["b"] == "a"


def test_a_tracker_of_the_user_grants_the_claims(tmp_path: Path, gate: Gate) -> None:
    class OneAtATime(hl.SimpleResourceTracker):
        """Never more than one claim in the whole cluster."""

        held = 0
        most = 0

        def request(self, node: str, cost: Mapping[str, float]) -> bool:
            if self.held or not super().request(node, cost):
                return False
            self.held += 1
            self.most = max(self.most, self.held)
            return True

        def release(self, node: str, cost: Mapping[str, float]) -> None:
            super().release(node, cost)
            self.held -= 1

    tracker = OneAtATime()
    nodes = {"a": {"cpu": 2}, "b": {"cpu": 2}}
    dag = hl.DAG("many").add(*(hl.Function(i, lambda: 1, cost={"cpu": 1}) for i in range(12)))
    with hl.Cluster(nodes, backend="local", resource_tracker=tracker, log_directory=tmp_path) as cluster:
        run = cluster.execute(dag, allocation_strategy="load_balanced")
    assert len(set(run.allocations.values())) == 2
    assert (tracker.most, tracker.held) == (1, 0)


def test_a_result_store_of_the_user_has_every_result(tmp_path: Path) -> None:
    class Store(dict[Any, Any]):
        def put(self, key: Any, value: Any) -> None:
            self[key] = value

        def delete(self, key: Any) -> None:
            del self[key]

        def get(self, key: Any) -> Any:
            return f"kept {self[key]}"

    store = Store()
    dag = hl.DAG("stored").add(hl.Function("a", lambda: 1), hl.Function("b", lambda a: a + 1, args=["a"]))
    with hl.Cluster({"n": {"cpu": 1}}, backend="local", result_store=store, log_directory=tmp_path) as cluster:
        run = cluster.execute(dag)
        assert store == {(run.id, "a"): 1, (run.id, "b"): 2}
        assert run.results["b"] == "kept 2"
        del run
        gc.collect()
        coordinator = cluster._coordinator
        coordinator.wait_until(lambda: not coordinator._runs)
    assert store == {}


def test_max_concurrency(cluster: hl.Cluster) -> None:
    lock = threading.Lock()
    now = most = 0

    def work() -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        threading.Event().wait(0.005)
        with lock:
            now -= 1

    dag = hl.DAG("wide").add(*(hl.Function(i, work) for i in range(12)))
    cluster.execute(dag, max_concurrency=1, allocation_strategy="load_balanced")
    assert most == 1


def test_only_the_nodes_that_a_run_may_use(cluster: hl.Cluster) -> None:
    dag = hl.DAG("some").add(hl.Function("a", lambda: 1))
    assert cluster.execute(dag, nodes=["beta"]).allocations == {"a": "beta"}
    with pytest.raises(hl.HandoffError, match="gamma"):
        cluster.execute(dag, nodes=["gamma"])
    with pytest.raises(hl.AllocationError):
        cluster.execute(hl.DAG("g").add(hl.Function("a", lambda: 1, cost={"gpu": 1})), nodes=["alpha"])


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ({"on_error": "ignore"}, "'stop' or 'continue'"),
        ({"max_retries": -1}, "max_retries is -1"),
        ({"max_concurrency": 0}, "max_concurrency is 0"),
        ({"timeout": float("inf")}, "timeout is inf"),
        ({"max_retries": None}, "max_retries is None"),
        ({"timeout": "1"}, "timeout is '1'"),
        ({"allocation_strategy": "load_balance"}, "did you mean 'load_balanced'"),
    ],
)
def test_wrong_options_are_refused_before_anything_runs(cluster: hl.Cluster, option: Any, told: str) -> None:
    ran: list[int] = []
    with pytest.raises(ValueError, match=told):
        cluster.submit(hl.DAG("d").add(hl.Function("a", lambda: ran.append(1))), **option)
    assert not ran


def test_a_run_that_takes_too_long_is_ended(cluster: hl.Cluster, gate: Gate) -> None:
    dag = waiting(gate, "a").add(hl.Function("b", lambda a: a, args=["a"]))
    run = cluster.submit(dag, timeout=0.05)
    soon(lambda: run.record.functions["b"].status == "cancelled")
    gate.open()
    with pytest.raises(hl.RunTimeoutError, match="was cancelled"):
        run.wait(60)
    assert run.status == "failed"


def test_cancel(cluster: hl.Cluster, gate: Gate) -> None:
    dag = waiting(gate, "a").add(hl.Function("b", lambda a: a, args=["a"]))
    run = cluster.submit(dag)
    gate.wait_for("a")
    run.cancel()
    gate.open()
    with pytest.raises(hl.RunCancelledError):
        run.wait(60)
    assert run.status == "cancelled"
    run.cancel()


def test_cancel_of_one_function_leaves_the_others(cluster: hl.Cluster, gate: Gate) -> None:
    dag = waiting(gate, "a").add(
        hl.Function("after", lambda a: a, args=["a"], node="beta"),
        hl.Function("skipped", lambda x: x, args=["after"]),
    )
    run = cluster.submit(dag)
    gate.wait_for("a")
    run.cancel("after")
    gate.open()
    with pytest.raises(hl.RunCancelledError):
        run.wait(60)
    statuses = {id: f.status.value for id, f in run.record.functions.items()}
    assert statuses == {"a": "done", "after": "cancelled", "skipped": "skipped"}


def test_what_threads_cannot_do_is_said_and_refused(cluster: hl.Cluster, gate: Gate) -> None:
    run = cluster.submit(waiting(gate, "a"))
    gate.wait_for("a")
    soon(lambda: run.record.functions["a"].status == "running")
    with pytest.raises(hl.BackendError, match="'a' runs, and threads can't be interrupted: it goes on"):
        run.cancel("a")
    assert all("threads can't be interrupted" in repr(it) for it in (cluster, run))
    gate.open()
    assert run.wait(60).status == "done"
    with pytest.raises(hl.BackendError, match="'f' has timeout=2, but threads can't be ended"):
        cluster.submit(hl.DAG().add(hl.Function("f", int, timeout=2)))
    with pytest.raises(hl.BackendError, match="'f' has runs_in='kernel', but nodes in this process have no kernel"):
        cluster.submit(hl.DAG().add(hl.Function("f", int, runs_in="kernel")))


def test_nodes_come_and_go(cluster: hl.Cluster) -> None:
    node = cluster.add_node({"cpu": 1, "fpga": 2}, name="gamma")
    assert node.capabilities == {"cpu": 1, "fpga": 2}
    dag = hl.DAG("f").add(hl.Function("a", lambda: 1, cost={"fpga": 1}))
    assert cluster.execute(dag).allocations == {"a": "gamma"}
    with pytest.raises(hl.BackendError, match="already"):
        cluster.add_node({"cpu": 1}, name="gamma")
    cluster.remove_node("gamma")
    assert list(cluster.nodes) == ["alpha", "beta"]
    with pytest.raises(hl.AllocationError):
        cluster.execute(dag)
    assert cluster.add_node({"cpu": 1}).name == "node-1"


def test_a_removed_node_finishes_what_it_runs(cluster: hl.Cluster, gate: Gate) -> None:
    dag = waiting(gate, "a").add(hl.Function("b", lambda a: a, args=["a"]))
    run = cluster.submit(dag)
    gate.wait_for("a")
    with ThreadPoolExecutor(1) as pool:
        removal = pool.submit(cluster.remove_node, "alpha")
        coordinator = cluster._coordinator
        coordinator.wait_until(lambda: coordinator.scheduler.is_draining("alpha"))
        gate.open()
        removal.result(60)
    assert run.wait(60).results["b"] == "a"
    assert run.allocations["b"] == "beta"


def test_events_reach_handlers_the_record_and_the_log(cluster: hl.Cluster, tmp_path: Path) -> None:
    heard: list[tuple[str, ...]] = []
    hl.telemetry.attach("test", ("handoff",), lambda name, *_: heard.append(name))
    try:
        run = cluster.execute(hl.DAG("d").add(hl.Function("a", lambda: 1, cost={"cpu": 1})))
    finally:
        hl.telemetry.detach("test")
    names = [event.name for event in run.events]
    assert names == [name for name in heard if name != NODE_UP]  # of the cluster, which has just begun
    assert names[0] == ("handoff", "run", "start")
    assert names[-1] == ("handoff", "run", "stop")
    assert {("handoff", "resource", "allocation"), ("handoff", "resource", "release")} <= set(names)
    (log,) = (tmp_path / "logs").iterdir()
    assert len(log.read_text().splitlines()) == 1 + len(names)
    assert all(json.loads(line) for line in log.read_text().splitlines())
    replayed = hl.telemetry.RunRecord.from_log(log)
    assert replayed == run.record


def test_a_handler_that_raises_never_hurts_a_run(cluster: hl.Cluster) -> None:
    def handler(*_: object) -> None:
        raise ValueError("handler")

    hl.telemetry.attach("bad", ("handoff", "run"), handler)
    assert cluster.execute(hl.DAG("d").add(hl.Function("a", lambda: 1))).results["a"] == 1
    assert not hl.telemetry.detach("bad")


def test_results_are_freed_with_the_run(cluster: hl.Cluster) -> None:
    run = cluster.execute(hl.DAG("d").add(hl.Function("a", lambda: object())))
    forgotten: list[str] = []
    backend = cluster._backend
    forget, backend.forget = backend.forget, forgotten.append  # type: ignore[method-assign]
    id = run.id
    del run
    soon(lambda: gc.collect() is not None and forgotten)
    cluster.execute(hl.DAG("empty"))
    backend.forget = forget  # type: ignore[method-assign]
    assert forgotten[0] == id


def test_code_is_forgotten_with_the_last_run_that_uses_it(cluster: hl.Cluster) -> None:
    class Large:
        def __call__(self) -> int:
            return 1

    code = Large()
    alive = weakref.ref(code)
    first, second = (cluster.execute(hl.DAG("d").add(hl.Function("a", code))) for _ in range(2))
    del first, code
    gc.collect()
    coordinator = cluster._coordinator
    coordinator.wait_until(lambda: len(coordinator._runs) == 1)
    assert alive() is not None
    del second
    gc.collect()
    coordinator.wait_until(lambda: not coordinator._runs)
    assert cluster.execute(hl.DAG("other").add(hl.Function("b", lambda: 2))).results["b"] == 2
    soon(lambda: gc.collect() is not None and alive() is None)


def test_an_empty_dag_is_done_at_once(cluster: hl.Cluster) -> None:
    run = cluster.execute(hl.DAG("nothing"))
    assert (run.status, dict(run.results)) == ("done", {})


def test_a_closed_cluster_says_so(cluster: hl.Cluster, gate: Gate) -> None:
    run = cluster.submit(waiting(gate, "a"))
    gate.wait_for("a")
    cluster.close()
    cluster.close()
    with pytest.raises(hl.RunCancelledError):
        run.wait(60)
    with pytest.raises(hl.BackendError, match="closed"):
        cluster.submit(hl.DAG("d"))
    assert "closed" in repr(cluster)


def test_wrong_backends_and_capabilities_are_refused() -> None:
    with pytest.raises(ValueError, match="'kernels', 'local'"):
        hl.Cluster(backend="dusk")  # type: ignore[arg-type]
    with pytest.raises(hl.ResourceError):
        hl.Cluster({"a": {"cpu": -1}}, backend="local")


@pytest.mark.parametrize("limit", [-5, 1.5, True, "much", "-2GB"])
def test_a_limit_that_is_no_amount_of_memory_is_refused(limit: Any) -> None:
    with pytest.raises(ValueError, match="is not an amount of memory"):
        hl.Cluster(1, store_limit=limit)


def test_a_limit_that_nobody_would_keep_is_refused() -> None:
    with pytest.raises(ValueError, match="store_limit"):
        hl.Cluster(1, backend="local", store_limit="1GB")


@pytest.mark.parametrize("nodes", [1.5, "alpha", ["a", "b"], {5: {"cpu": 1}}])
def test_nodes_that_make_no_sense_are_refused(nodes: Any) -> None:
    with pytest.raises(TypeError, match="nodes"):
        hl.Cluster(nodes, backend="local")


def test_policies_without_their_methods_are_refused() -> None:
    with pytest.raises(TypeError, match="resource_tracker is a int without register"):
        hl.Cluster(1, backend="local", resource_tracker=5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="result_store is a dict without put, delete"):
        hl.Cluster(1, backend="local", result_store={})  # type: ignore[arg-type]


def test_what_the_targets_do_not_need_may_be_wrong(cluster: hl.Cluster) -> None:
    dag = hl.DAG("half wrong").add(
        hl.Function("a", lambda: 1, node="beta"),
        hl.Function("b", lambda a: a + 1, args=["a"], node=hl.collocated("a")),
        hl.Function("chicken", lambda egg: egg, args=["egg"]),
        hl.Function("egg", lambda chicken: chicken, args=["chicken"]),
    )
    assert cluster.execute(dag, targets=["b"]).results["b"] == 2
    with pytest.raises(hl.CyclicDependencyError):
        cluster.execute(dag)
    with pytest.raises(hl.CyclicDependencyError):
        cluster.execute(dag, targets="egg")


def test_a_call_that_can_never_work_is_tried_once(cluster: hl.Cluster) -> None:
    dag = hl.DAG("d").add(hl.Function("a", lambda: 1), hl.Function("b", lambda: 2, args=["a"]))
    run = cluster.execute(dag, raise_on_error=False)
    assert run.attempts["b"] == 1
    assert "takes 0 positional arguments but 1 was given" in str(run.errors["b"])


def test_only_a_dag_can_be_run(cluster: hl.Cluster) -> None:
    with pytest.raises(TypeError, match="a DAG is needed, not 'x'"):
        cluster.execute("x")  # type: ignore[arg-type]


def test_an_unread_result_of_a_closed_cluster_says_where_it_was(cluster: hl.Cluster) -> None:
    run = cluster.execute(hl.DAG("d").add(hl.Function("read", lambda: 1), hl.Function("unread", lambda: 2)))
    assert run.results["read"] == 1
    cluster.close()
    assert run.results["read"] == 1
    with pytest.raises(hl.ResultUnavailableError, match="stayed on its node"):
        run.results["unread"]


def test_numbered_nodes_share_the_machine(tmp_path: Path) -> None:
    with hl.Cluster(0, backend="local") as cluster:
        assert not cluster.nodes
    with hl.Cluster(2, backend="local", log_directory=tmp_path) as cluster:
        assert list(cluster.nodes) == ["node-1", "node-2"]
        assert all(node.capabilities["cpu"] >= 1 for node in cluster.nodes.values())


def test_a_removed_nodes_name_is_free_again(cluster: hl.Cluster) -> None:
    cluster.remove_node("beta")
    assert cluster.add_node({"cpu": 3}, "beta").capabilities == {"cpu": 3}


def test_the_name_of_a_refused_node_is_free_again(cluster: hl.Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise hl.BackendError("no")

    with monkeypatch.context() as patch:
        patch.setattr(cluster._backend, "add_node", refuse)
        with pytest.raises(hl.BackendError, match="no"):
            cluster.add_node({"cpu": 1}, "gamma")
    assert cluster.add_node({"cpu": 1}, "gamma").name == "gamma"


def test_a_run_about_which_the_scheduler_fails_says_so(cluster: hl.Cluster, gate: Gate) -> None:
    scheduler = cluster._coordinator.scheduler
    handle = scheduler.handle

    def fail(events: Any, now: float) -> Any:
        scheduler.handle = handle  # type: ignore[method-assign]
        raise LookupError("a bug")

    run = cluster.submit(waiting(gate, "a"))
    gate.wait_for("a")
    scheduler.handle = fail  # type: ignore[method-assign]
    gate.open()
    with pytest.raises(hl.RunError, match="the scheduler failed: LookupError"):
        run.wait(60)
    assert run.status == "failed"


def test_nodes_without_names_that_come_at_once_are_told_apart(cluster: hl.Cluster) -> None:
    with ThreadPoolExecutor(4) as pool:
        names = {node.name for node in pool.map(cluster.add_node, [{"cpu": 1}] * 4)}
    assert len(names) == 4


def test_changes_that_come_at_once_are_all_made(cluster: hl.Cluster) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda cpu: cluster.update_node_resources("alpha", {"cpu": cpu}), range(1, 41)))
    assert cluster.nodes["alpha"].capabilities["cpu"] in range(1, 41)


def test_a_drain_that_is_interrupted_is_taken_back(
    cluster: hl.Cluster, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = cluster.submit(waiting(gate, "a"))
    gate.wait_for("a")
    statuses = []

    def interrupted(condition: object) -> None:
        statuses.append(cluster.nodes["alpha"].status)
        raise KeyboardInterrupt

    monkeypatch.setattr(cluster._coordinator, "wait_until", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cluster.remove_node("alpha")
    monkeypatch.undo()
    assert [*statuses, cluster.nodes["alpha"].status] == ["draining", "up"]
    pinned = cluster.submit(hl.DAG("d").add(hl.Function("b", lambda: 2, node="alpha")))
    gate.open()
    assert (run.wait(60).results["a"], pinned.wait(60).results["b"]) == ("a", 2)


def test_what_is_pinned_to_a_node_that_goes_is_done_there_first(cluster: hl.Cluster, gate: Gate) -> None:
    dag = waiting(gate, "a", node="beta").add(hl.Function("b", len, ["a"], node="alpha"))
    run = cluster.submit(dag)
    gate.wait_for("a")
    with ThreadPoolExecutor(1) as pool:
        removal = pool.submit(cluster.remove_node, "alpha")
        coordinator = cluster._coordinator
        coordinator.wait_until(lambda: coordinator.scheduler.is_draining("alpha"))
        with pytest.raises(hl.AllocationError):
            cluster.submit(hl.DAG("later").add(hl.Function("c", len, node="alpha")))
        gate.open()
        removal.result(60)
    assert set(cluster.nodes) == {"beta"}
    assert (run.wait(60).results["b"], run.allocations["b"]) == (1, "alpha")


def test_a_run_that_goes_on_is_not_run_again(cluster: hl.Cluster, gate: Gate) -> None:
    run = cluster.submit(waiting(gate, "a"))
    with pytest.raises(hl.RunError, match="still goes on"):
        run.rerun_failed()


def test_a_run_that_nobody_holds_goes_on_and_is_freed(cluster: hl.Cluster, gate: Gate) -> None:
    ran: list[int] = []
    dag = waiting(gate, "a").add(hl.Function("b", lambda a: ran.append(1), args=["a"]))
    cluster.submit(dag)
    gc.collect()
    gate.wait_for("a")
    gate.open()
    coordinator = cluster._coordinator
    coordinator.wait_until(lambda: not coordinator._runs)
    assert ran == [1]


def test_a_forked_child_does_not_wait_for_its_parents_run(cluster: hl.Cluster, gate: Gate) -> None:
    run = cluster.submit(hl.DAG().add(hl.Function("a", gate.enter, extra_args=["a"])))
    assert f"belongs to process {os.getpid()}" in said_in_a_fork(run.wait, hl.RunError)
    gate.open()
    assert run.wait().status == "done"


def test_an_awaiter_whose_loop_is_closed_harms_nobody(
    cluster: hl.Cluster, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    run = cluster.submit(waiting(gate, "a"))
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(_await(run), 0.05))
    gate.open()
    assert run.wait(60).results["a"] == "a"
    del run
    gc.collect()
    coordinator = cluster._coordinator
    coordinator.wait_until(lambda: not coordinator._runs)
    assert not caplog.records


async def _await(run: hl.Run) -> hl.Run:
    return await run


def test_a_store_may_lock_itself(tmp_path: Path) -> None:
    """What is deleted from a store is deleted by the thread that fills it, whoever finds the run to be garbage."""
    lock = threading.Lock()

    class Store(dict[Any, Any]):
        def put(self, key: Any, value: Any) -> None:
            with lock:
                gc.collect()
                self[key] = value

        def delete(self, key: Any) -> None:
            with lock:
                del self[key]

    store = Store()
    dag = hl.DAG("d").add(hl.Function("a", lambda: 1))
    with hl.Cluster({"n": {"cpu": 1}}, backend="local", result_store=store, log_directory=tmp_path) as cluster:
        first = cluster.execute(dag)
        cycle: list[Any] = [first]
        cycle.append(cycle)
        del first, cycle
        second = cluster.execute(dag)
        assert second.results["a"] == 1
        del second
        gc.collect()
        coordinator = cluster._coordinator
        coordinator.wait_until(lambda: not coordinator._runs)
    assert store == {}


class TestNodeLost:
    """A node that goes at once fails what can run nowhere else, and says why."""

    def test_what_is_pinned_there(self, cluster: hl.Cluster, gate: Gate) -> None:
        run = cluster.submit(waiting(gate, "a", "b", node="beta"), on_error="continue")
        gate.wait_for("a", "b")
        cluster.remove_node("beta", drain=False)
        with pytest.raises(hl.NodeLostError) as caught:
            run.wait(60)
        assert (caught.value.node, caught.value.function, caught.value.deaths) == ("beta", "a", 0)
        assert str(caught.value).startswith("function 'a' failed: node 'beta' is gone (")
        assert str(caught.value).endswith("to which it is pinned; start the node again or remove the pin")
        assert {id: type(error) for id, error in run.errors.items()} == dict.fromkeys("ab", hl.NodeLostError)
        assert str(run.errors["a"]) == str(caught.value)

    def test_what_no_other_node_can_hold(self, cluster: hl.Cluster, gate: Gate) -> None:
        run = cluster.submit(waiting(gate, "a", cost={"gpu": 1}))
        gate.wait_for("a")
        cluster.remove_node("beta", drain=False)
        with pytest.raises(hl.NodeLostError, match="no node that is left can take what costs"):
            run.wait(60)


def test_a_rerun_stays_with_the_kept_result_it_is_collocated_with(cluster: hl.Cluster) -> None:
    dag = hl.DAG("d").add(
        hl.Function("x", lambda: 1, node="beta"),
        hl.Function("y", fails_once(), args=["x"], node=hl.collocated("x"), max_retries=0),
    )
    again = cluster.execute(dag, raise_on_error=False).rerun_failed().wait(60)
    assert again.allocations == {"x": "beta", "y": "beta"}
    assert again.attempts == {"x": 0, "y": 1}


def test_a_rerun_makes_kept_results_again_that_are_lost(cluster: hl.Cluster, gate: Gate) -> None:
    fail = fails_once()
    dag = hl.DAG("d").add(
        hl.Function("first", lambda: bytes(300_000)),
        hl.Function("kept", lambda first: first + first, args=["first"]),
        hl.Function("slow", lambda kept: (fail(len(kept)), gate.enter("slow"))[0], args=["kept"], max_retries=0),
    )
    before = cluster.execute(dag, raise_on_error=False)
    again = before.rerun_failed()
    gate.wait_for("slow")
    cluster.remove_node(again.allocations["slow"], drain=False)
    gate.open()
    assert again.wait(60).results["slow"] == 600_000
    assert len(again.results["kept"]) == 600_000


def fails_once() -> Any:
    """A function of one argument, which it gives back, but not the first time."""
    left = [1]

    def fail(x: object) -> object:
        if left:
            left.pop()
            raise ValueError("the first time")
        return x

    return fail


def counted(calls: list[str], id: str, code: Any) -> Any:
    """A function that notes each of its calls, in this process."""

    def note(*args: Any) -> Any:
        calls.append(id)
        return code(*args)

    return note


@pytest.fixture
def chain(calls: list[str]) -> hl.DAG:
    """a → b → c, and d beside b."""
    return hl.DAG("chain").add(
        hl.Function("a", counted(calls, "a", lambda: 1)),
        hl.Function("b", counted(calls, "b", lambda a: a + 1), args=["a"]),
        hl.Function("c", counted(calls, "c", lambda b: b + 1), args=["b"]),
        hl.Function("d", counted(calls, "d", lambda a: -a), args=["a"]),
    )


@pytest.fixture
def calls() -> list[str]:
    return []


@pytest.mark.parametrize(
    ("ids", "descendants", "expected"),
    [
        ((), False, []),
        (("b",), False, ["b"]),
        (("b",), True, ["b", "c"]),
        (("a",), True, ["a", "b", "c", "d"]),
        (("c", "d"), False, ["c", "d"]),
    ],
)
def test_a_rerun_runs_only_what_it_is_told(
    cluster: hl.Cluster, chain: hl.DAG, calls: list[str], ids: tuple[str, ...], descendants: bool, expected: list[str]
) -> None:
    before = cluster.execute(chain)
    calls.clear()
    run = before.rerun(*ids, descendants=descendants).wait(60)
    assert sorted(calls) == expected
    assert dict(run.results) == {"a": 1, "b": 2, "c": 3, "d": -1}


def test_a_rerun_can_itself_be_run_again(cluster: hl.Cluster, chain: hl.DAG, calls: list[str]) -> None:
    run = cluster.execute(chain).rerun("b").wait(60)
    calls.clear()
    assert run.rerun("c").wait(60).results["c"] == 3
    assert calls == ["c"]


def test_a_rerun_of_an_unknown_function_names_it(cluster: hl.Cluster, chain: hl.DAG) -> None:
    run = cluster.execute(chain)
    with pytest.raises(hl.ResultUnavailableError, match="no such function"):
        run.rerun("e")


def test_an_edited_graph_takes_over_the_rest_of_a_run(cluster: hl.Cluster, chain: hl.DAG, calls: list[str]) -> None:
    before = cluster.execute(chain)
    chain.replace(hl.Function("b", lambda a: a + 10, args=["a"])).remove("d")
    calls.clear()
    run = cluster.submit(chain, resume=before, again=chain.descendants("b")).wait(60)
    assert calls == ["c"]
    assert dict(run.results) == {"a": 1, "b": 11, "c": 12}


def test_a_run_of_another_cluster_cannot_be_resumed(cluster: hl.Cluster, chain: hl.DAG) -> None:
    before = cluster.execute(chain)
    with (
        hl.Cluster({"gamma": {"cpu": 1}}, backend="local") as other,
        pytest.raises(hl.RunError, match="another cluster"),
    ):
        other.submit(chain, resume=before)


def test_a_run_that_its_cluster_leaves_behind_says_so_of_every_function(gate: Gate) -> None:
    cluster = hl.Cluster({"alpha": {"cpu": 1}}, backend="local")
    dag = hl.DAG("d").add(
        hl.Function("a", lambda: gate.enter("a"), cost={"cpu": 1}), hl.Function("b", lambda a: a, args=["a"])
    )
    run = cluster.submit(dag)
    gate.wait_for("a")
    cluster.close()
    gate.open()
    assert run.record.counts() == {"cancelled": 2}
    assert run.record.claims[-1][1:] == ("alpha", {"cpu": 0.0})
    assert run.record.ended is not None


def test_a_lost_result_says_how_to_have_it_made_again_and_so_it_is(cluster: hl.Cluster, gate: Gate) -> None:
    gate.open()
    dag = hl.DAG("d").add(
        hl.Function("large", lambda: bytes(300_000), node="alpha"),
        hl.Function("length", len, args=["large"], node="beta"),
    )
    run = cluster.execute(dag)
    cluster.remove_node("alpha", drain=False)
    with pytest.raises(hl.ResultUnavailableError, match=r"its node was lost.*; run\.rerun\('large'\) makes it again"):
        run.results["large"]
    cluster.add_node({"cpu": 1}, "alpha")
    again = run.rerun("large").wait(60)
    assert len(again.results["large"]) == 300_000
    assert again.attempts == {"large": 1, "length": 0}


def test_what_makes_no_sense_is_refused_before_anything_is_done(cluster: hl.Cluster) -> None:
    with pytest.raises(ValueError, match="capabilities is None; say all that the node has"):
        cluster.update_node_resources("alpha", None)  # type: ignore[arg-type]
    with pytest.raises(hl.ResourceError, match=r"'cpu': 1.*must be a finite number"):
        cluster.update_node_resources("alpha", {"cpu": 1e20})
    with pytest.raises(ValueError, match="ttl is 'x'; it must be a number of seconds above 0"):
        cluster.invite("x")  # type: ignore[arg-type]
    assert cluster.nodes["alpha"].capabilities == {"cpu": 2, "memory": 2000}
