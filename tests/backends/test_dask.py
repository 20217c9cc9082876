"""A cluster over Dask's workers: what it gives is what kernels give, and what it lacks it says."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handoff_lab as hl
from handoff_lab._errors import BackendError
from handoff_lab.testing.bench import Gate
from handoff_lab.testing.dask_cluster import DaskCluster
from tests.others import soon

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def workers() -> Iterator[DaskCluster]:
    with DaskCluster({"a": 2, "b": 1}) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def cluster(workers: DaskCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[hl.Cluster]:
    logs = tmp_path_factory.mktemp("logs")
    with hl.Cluster(backend="dask", address=workers.address, log_directory=logs) as cluster:
        yield cluster


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    gate = Gate(tmp_path / "gate")
    yield gate
    gate.close()


# -- what it gives ---------------------------------------------------------------------


def everything() -> hl.DAG:
    """Pins, collocation, inline functions, serializers, inputs, keyword arguments and values of all sizes."""

    def packed(value: Any, source: str, target: str) -> tuple[str, Any]:
        return f"{source}>{target}", value

    def unpacked(pair: tuple[str, Any], source: str, target: str) -> Any:
        assert pair[0] == f"{source}>{target}"
        return pair[1]

    return hl.DAG("everything").add(
        hl.Function("given", type="input"),
        hl.Function("large", lambda given: np.arange(given), args=["given"], node="a", cost={"cpu": 1}),
        hl.Function("twice", lambda large: large * 2, args=["large"], type="inline"),
        hl.Function("beside", lambda x: int(x.sum()), args=["large"], node=hl.collocated("large")),
        hl.Function(
            "far",
            lambda x, y, power: int((x + y).sum()) ** power,
            args=[hl.Argument("large", serialize=packed, deserialize=unpacked), "twice"],
            kwargs={"power": 2},
            node="b",
        ),
        hl.Function("listed", sum, args=["beside", "far"], argument_inclusion="as_list"),
        *[hl.Function(f"n{i}", lambda x, i: x + i, args=["listed"], extra_args=(i,)) for i in range(50)],
        hl.Function("all", lambda *n: sum(n), args=[f"n{i}" for i in range(50)]),
    )


def test_it_gives_what_the_other_backends_give(cluster: hl.Cluster) -> None:
    run = cluster.execute(everything(), inputs={"given": 50_000})
    ids = ("beside", "far", "listed", "all")
    with hl.Cluster({"a": {"cpu": 2}, "b": {"cpu": 1}}, backend="local") as local:
        oracle = local.execute(everything(), inputs={"given": 50_000})
        expected = [oracle.results[id] for id in ids]
    assert [run.results[id] for id in ids] == expected
    np.testing.assert_array_equal(run.results["large"], np.arange(50_000))
    assert (run.allocations["beside"], run.allocations["far"]) == ("a", "b")
    assert set(run.attempts.values()) == {1}
    assert run.bytes_moved > 0


def test_nodes_have_what_dask_says(cluster: hl.Cluster, workers: DaskCluster) -> None:
    assert {name: dict(node.capabilities) for name, node in cluster.nodes.items()} == {"a": {"cpu": 2}, "b": {"cpu": 1}}
    assert cluster.nodes["a"].labels["address"].startswith("tcp://127.0.0.1:")
    assert cluster.nodes["a"].versions["handoff_lab"] == hl.__version__


def test_resources_are_seen_as_they_change(cluster: hl.Cluster, workers: DaskCluster) -> None:
    dag = hl.DAG("gpu").add(hl.Function("f", lambda: 1, cost={"fpga": 1}))
    run = cluster.submit(dag, wait_for_capacity=True)
    workers.set_resources("b", cpu=1, fpga=1)
    assert run.wait(60).allocations["f"] == "b"
    workers.set_resources("b", cpu=1, fpga=0)
    soon(lambda: not cluster.nodes["b"].capabilities.get("fpga"))


def test_claims_are_kept(cluster: hl.Cluster, gate: Gate) -> None:
    held = [hl.Function(f"held{i}", gate.function, node="a", cost={"cpu": 1}) for i in range(3)]
    run = cluster.submit(hl.DAG("claims").add(*held))
    soon(lambda: run.record.counts().get("running") == 2)
    assert dict(cluster.nodes["a"].used) == {"cpu": 2}
    gate.open()
    run.wait(60)
    soon(lambda: not any(cluster.nodes["a"].used.values()))


def test_each_function_has_its_own_log(cluster: hl.Cluster) -> None:
    def speak(number: int) -> int:
        sys.stdout.write(f"out {number}\n")
        sys.stderr.write(f"err {number}\n")
        return number

    dag = hl.DAG("logs").add(*[hl.Function(i, speak, extra_args=(i,)) for i in range(20)])
    run = cluster.execute(dag)
    assert [run.logs[i] for i in range(20)] == [f"out {i}\nerr {i}\n" for i in range(20)]


def test_what_a_running_function_writes_is_seen(cluster: hl.Cluster, gate: Gate) -> None:
    wait = gate.function

    def speak() -> str:
        sys.stdout.write("so far\n")
        return wait()

    run = cluster.submit(hl.DAG("live").add(hl.Function("f", speak)))
    soon(lambda: run.logs.get("f") == "so far\n")
    gate.open()
    run.wait(60)
    assert run.logs["f"] == "so far\n"


def test_a_failure_tells_its_story(cluster: hl.Cluster) -> None:
    def divide(x: int) -> float:
        return x / 0

    dag = hl.DAG("fails").add(hl.Function("one", lambda: 1), hl.Function("bad", divide, args=["one"], max_retries=1))
    run = cluster.execute(dag, raise_on_error=False)
    error = run.errors["bad"]
    assert isinstance(error, hl.FunctionFailedError)
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert "return x / 0" in str(error.remote_traceback)
    assert run.attempts["bad"] == 2


def test_a_long_story_is_cut(cluster: hl.Cluster) -> None:
    """Dask's scheduler keeps a thousand of them."""

    def fail() -> None:
        raise ValueError("x" * 10**7)

    run = cluster.execute(hl.DAG("long").add(hl.Function("f", fail)), raise_on_error=False)
    error = run.errors["f"]
    assert "ValueError: xxx" in str(error)
    assert len(str(error)) < 10**6


def test_what_cannot_be_pickled_fails_its_function(cluster: hl.Cluster) -> None:
    run = cluster.execute(hl.DAG("lock").add(hl.Function("f", lambda: (i for i in ()))), raise_on_error=False)
    assert "cannot be pickled" in str(run.errors["f"])


# -- what Dask has of it ------------------------------------------------------------------


def test_dask_gets_what_can_run_and_no_more(cluster: hl.Cluster, workers: DaskCluster) -> None:
    dag = hl.DAG("many").add(*[hl.Function(i, lambda i: i, extra_args=(i,)) for i in range(3000)])
    with workers.watched() as watch:
        run = cluster.execute(dag, allocation_strategy="load_balanced")
    assert sum(run.results.values()) == sum(range(3000))
    assert 0 < watch.most_at_once <= 4 * 3  # twice the slots, and what is done and not forgotten yet
    assert watch.tasks < 2000  # some 100 where nothing else runs
    soon(lambda: len(workers.task_keys()) < 3 * 20)  # and forgets what is done


def test_large_results_lie_on_the_workers_until_the_run_is_gone(cluster: hl.Cluster, workers: DaskCluster) -> None:
    dag = hl.DAG("large").add(*[hl.Function(i, lambda: bytes(100_000)) for i in range(4)])
    run = cluster.execute(dag)
    id = run.id
    assert any(key.startswith(id) for key in workers.task_keys())
    assert [len(run.results[i]) for i in range(4)] == [100_000] * 4
    del run
    soon(lambda: not any(key.startswith(id) for key in workers.task_keys()))


def test_a_chain_of_brief_functions_travels_together(cluster: hl.Cluster, workers: DaskCluster) -> None:
    dag = hl.DAG("chain").add(
        hl.Function(0, lambda: 0, node="a"),
        *[hl.Function(i, lambda x: x + 1, args=[i - 1], node="a") for i in range(1, 300)],
    )
    with workers.watched() as watch:
        run = cluster.execute(dag)
    assert run.results[299] == 299
    assert watch.tasks < 200  # some 10 where nothing else runs


def test_what_waits_behind_a_long_function_goes_on_elsewhere(cluster: hl.Cluster, gate: Gate) -> None:
    """One of many functions of the same code takes long: the others are taken out of its Dask task."""
    wait = gate.function

    def f(i: int) -> int:
        if i == 37:
            wait()
        return i

    dag = hl.DAG("uneven").add(*[hl.Function(i, f, extra_args=(i,), node="a") for i in range(100)])
    cluster.execute(hl.DAG("known").add(hl.Function("f", f, extra_args=(0,), node="a")))
    run = cluster.submit(dag)
    soon(lambda: run.record.counts().get("done") == 99)
    soon(lambda: run.record.functions[37].status == "running")
    gate.open()
    run.wait(60)
    assert set(run.attempts.values()) == {1}


# -- what it lacks ------------------------------------------------------------------------


def test_what_dask_lacks_is_said(cluster: hl.Cluster, gate: Gate) -> None:
    for shown in cluster._repr_mimebundle_().values():
        assert "interrupt a running function" in shown
    dag = hl.DAG("held").add(
        *[hl.Function(i, gate.function, node="b") for i in range(3)],
        hl.Function("after", lambda *x: x, args=[0, 1, 2]),
    )
    run = cluster.submit(dag, on_error="continue")
    soon(lambda: run.record.counts().get("running") == 1)
    assert "Dask can't interrupt" in repr(run)
    assert "timeout" in repr(run)
    running = next(i for i in range(3) if run.record.functions[i].status == "running")
    with pytest.raises(BackendError, match="runs, and Dask can't interrupt"):
        run.cancel(running)
    run.cancel()
    soon(lambda: "it runs to its end" in run.logs.get(running, ""))
    gate.open()
    with pytest.raises(hl.RunCancelledError):
        run.wait(60)
    assert "Dask" not in repr(run)


@pytest.mark.parametrize(
    ("options", "named"), [({"timeout": 1.5}, "timeout=1.5"), ({"runs_in": "kernel"}, "runs_in='kernel'")]
)
def test_what_dask_cannot_do_is_refused_at_once(cluster: hl.Cluster, options: dict[str, Any], named: str) -> None:
    dag = hl.DAG("refused").add(hl.Function("f", lambda: 1, **options))
    with pytest.raises(BackendError, match=rf"function 'f' has {named}, but Dask"):
        cluster.submit(dag)


def test_verbs_that_dask_lacks_are_refused(cluster: hl.Cluster) -> None:
    with pytest.raises(BackendError, match=r"Dask starts its workers itself.*dask worker tcp://"):
        cluster.add_node({"cpu": 1}, "more")
    with pytest.raises(BackendError, match="Dask"):
        cluster.run_cell("a", "1 + 1", print)
    with pytest.raises(BackendError, match="Dask"):
        cluster.join_file


# -- how it is reached --------------------------------------------------------------------


def test_what_is_asked_for_must_make_sense(workers: DaskCluster) -> None:
    with pytest.raises(ValueError, match="one of address= and client="):
        hl.Cluster(backend="dask")
    with pytest.raises(ValueError, match="one of address= and client="):
        hl.Cluster(2, address=workers.address)
    with pytest.raises(ValueError, match="leave out nodes="):
        hl.Cluster(2, backend="dask", address=workers.address)
    with pytest.raises(BackendError, match="or a Dask cluster"):
        hl.Cluster(backend="dask", client=object())


def test_a_cluster_without_dask_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(BackendError, match=r'pip install "handoff_lab\[dask\]"'):
        hl.Cluster(backend="dask", address="tcp://127.0.0.1:1")


def test_a_client_or_a_cluster_will_do(workers: DaskCluster) -> None:
    class Gateway:
        """As Dask's clusters are: what it calls its client is its user's own."""

        scheduler_address = workers.address

        def get_client(self) -> Any:
            return client

    dag = hl.DAG("one").add(hl.Function("f", lambda: 1))
    with workers.client() as client:
        for given in (Gateway(), client):
            with hl.Cluster(backend="dask", client=given) as cluster:
                assert cluster.execute(dag).results["f"] == 1
        assert client.submit(lambda: 2).result() == 2  # it is as it was


def test_workers_come_and_retire(cluster: hl.Cluster, workers: DaskCluster) -> None:
    workers.add("c", 1)
    soon(lambda: "c" in cluster.nodes)
    run = cluster.execute(hl.DAG("on c").add(hl.Function("f", lambda: bytes(100_000), node="c")))
    cluster.remove_node("c")
    assert "c" not in cluster.nodes
    assert len(run.results["f"]) == 100_000  # it was brought here first
    soon(lambda: "c" not in workers.names())


def test_a_worker_that_dask_retires_is_a_node_that_went(cluster: hl.Cluster, workers: DaskCluster) -> None:
    workers.add("d", 1)
    soon(lambda: "d" in cluster.nodes)
    reasons: list[str] = []

    def note(name: object, measurements: object, metadata: Mapping[str, str], *_: object) -> None:
        if metadata["node"] == "d":
            reasons.append(metadata["reason"])

    hl.telemetry.attach("went", ("handoff", "node", "down"), note)
    with workers.client() as client:
        client.retire_workers(names=["d"])
    soon(lambda: reasons)
    hl.telemetry.detach("went")
    assert reasons == ["its Dask worker was retired"]
    assert "d" not in cluster.nodes


def test_a_scheduler_that_is_gone_takes_its_workers_with_it(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    with DaskCluster({"a": 1}) as workers, hl.Cluster(backend="dask", address=workers.address) as cluster:
        run = cluster.submit(hl.DAG("held").add(hl.Function("f", gate.function, node="a")))
        soon(lambda: run.record.counts().get("running"))
        workers.close()
        with pytest.raises(hl.NodeLostError, match="to which it is pinned"):
            run.wait(60)
        assert not cluster.nodes
        gate.open()
    monkeypatch.setattr("handoff_lab.backends.dask.link.CONNECT_S", 0.1)
    with pytest.raises(BackendError, match="no Dask scheduler answers at tcp://"):
        hl.Cluster(backend="dask", address=workers.address)


def test_a_connection_that_breaks_costs_what_dask_had_for_us(gate: Gate) -> None:
    wait = gate.function
    dag = hl.DAG("cut").add(
        hl.Function("large", lambda: bytes(100_000)),
        hl.Function("held", lambda x: (wait(), len(x))[1], args=["large"]),
        hl.Function("after", lambda x, n: len(x) + n, args=["large", "held"]),
    )
    with DaskCluster({"a": 1}) as workers, hl.Cluster(backend="dask", address=workers.address) as cluster:
        run = cluster.submit(dag, wait_for_capacity=True)
        soon(lambda: run.record.functions["held"].status == "running")
        workers.cut()
        soon(lambda: run.recomputed)
        gate.open()
        assert run.wait(60).results["after"] == 200_000


def test_a_scheduler_that_was_restarted_is_heard_again() -> None:
    dag = hl.DAG("one").add(hl.Function("f", lambda: 1))
    with DaskCluster({"a": 1}) as workers:
        cluster = hl.Cluster(backend="dask", address=workers.address)
    with cluster, DaskCluster({"b": 1}, port=int(workers.address.rpartition(":")[2])):
        soon(lambda: cluster.nodes.keys() == {"b"})
        assert cluster.execute(dag).results["f"] == 1


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make certificates with")
def test_a_cluster_with_tls_is_reached_through_its_client(tmp_path: Path) -> None:
    from distributed.security import Security

    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "certificate.pem")
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=test"]
    subprocess.run([*make, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    roles = {
        f"tls_{role}_{what}": path
        for role in ("scheduler", "worker", "client")
        for what, path in (("key", key), ("cert", certificate))
    }
    security = Security(require_encryption=True, tls_ca_file=certificate, **roles)
    with DaskCluster({"a": 1}, security=security) as workers:
        assert workers.address.startswith("tls://")
        with pytest.raises(BackendError, match="asks for TLS: give client="):
            hl.Cluster(backend="dask", address=workers.address)
        with workers.client() as client, hl.Cluster(backend="dask", client=client) as cluster:
            run = cluster.execute(hl.DAG("large").add(hl.Function("f", lambda: bytes(100_000))))
            assert len(run.results["f"]) == 100_000
