"""What only kernels do: code that travels, results that move, functions that die alone."""

from __future__ import annotations

import ctypes
import logging
import os
import subprocess
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handoff_lab as hl
from tests.others import soon

pytestmark = pytest.mark.real
HERE = sys.modules[__name__]


@pytest.fixture(scope="module")
def cluster() -> Iterator[hl.Cluster]:
    with hl.Cluster({"alpha": {"cpu": 2}, "beta": {"cpu": 2}}, by_value=[HERE]) as cluster:
        yield cluster


class Point:
    def __init__(self, x: int) -> None:
        self.x = x


def endless(x: int) -> int:
    return endless(x) + 1


def one(function: Callable[..., Any], **options: Any) -> hl.DAG:
    return hl.DAG("one").add(hl.Function("f", function, **options))


def test_nodes_are_processes_of_their_own(cluster: hl.Cluster) -> None:
    alpha, beta = cluster.nodes.values()
    assert len({alpha.pid, beta.pid, os.getpid()}) == 3
    assert alpha.versions["python"].startswith("3.")
    cluster.run_cell("alpha", "1", lambda message: None)  # the kernel comes up while functions run already
    assert Path(alpha.connection_file).exists()
    dag = hl.DAG("pids").add(*(hl.Function(n, os.getpid, node=n) for n in ("alpha", "beta")))
    slots = cluster.execute(dag).results
    assert len({slots["alpha"], slots["beta"], alpha.pid, beta.pid, os.getpid()}) == 5


def test_code_of_every_kind_travels(cluster: hl.Cluster) -> None:
    k = 7
    module = types.ModuleType("made_up")
    exec("def triple(x): return 3 * helper(x)\ndef helper(x): return x", module.__dict__)

    def closure(point: Point) -> int:
        return point.x * k

    dag = hl.DAG("code").add(
        hl.Function("lambda", lambda: Point(6)),
        hl.Function("closure", closure, args=["lambda"]),
        hl.Function("numpy", np.arange, extra_args=[4]),
        hl.Function("method", Point(3).__class__, extra_args=[5]),
        hl.Function("generated", eval("lambda x: x + 1"), args=["closure"]),
    )
    run = cluster.execute(dag)
    assert run.results["closure"] == 42
    assert run.results["numpy"].tolist() == [0, 1, 2, 3]
    assert isinstance(run.results["method"], Point)
    assert run.results["generated"] == 43


def test_results_go_from_node_to_node_and_stay_there(cluster: hl.Cluster) -> None:
    dag = hl.DAG("array").add(
        hl.Function("make", lambda: np.ones(250_000), node="alpha"),
        hl.Function("sum", lambda a: (float(a.sum()), a.flags.writeable), args=["make"], node="beta"),
    )
    run = cluster.execute(dag)
    assert run.results["sum"] == (250_000.0, False)
    assert run.bytes_moved >= 2_000_000
    (transfer,) = run.record.transfers
    assert (transfer.function, transfer.source, transfer.target) == ("make", "alpha", "beta")
    assert run.results["make"].shape == (250_000,)


def test_arrays_are_read_only_whatever_their_size(cluster: hl.Cluster) -> None:
    for length in (10, 1_000, 1_000_000):
        dag = hl.DAG("sizes").add(
            hl.Function("make", lambda n: np.ones(n), extra_args=[length], node="alpha"),
            hl.Function("near", lambda a: a.flags.writeable, args=["make"], node="alpha"),
            hl.Function("far", lambda a: a.flags.writeable, args=["make"], node="beta"),
        )
        results = cluster.execute(dag).results
        assert (results["near"], results["far"], results["make"].flags.writeable) == (False, False, False)


def test_a_module_that_starts_a_cluster_is_not_imported_without_end(tmp_path: Path) -> None:
    (tmp_path / "starts_one.py").write_text(
        "import handoff_lab as hl\nfrom helpers_of_it import one\n"
        "with hl.Cluster({'n': {'cpu': 1}}) as cluster:\n"
        "    cluster.execute(hl.DAG('d').add(hl.Function('f', one, max_retries=0)))\n"
    )
    (tmp_path / "helpers_of_it.py").write_text("def one():\n    return 1\nimport starts_one\n")
    done = subprocess.run(
        [sys.executable, "-c", "import helpers_of_it"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 1
    assert "starts a cluster; put that under" in done.stderr


def test_what_a_function_says_is_its_log(cluster: hl.Cluster) -> None:
    def talk() -> None:
        print("to stdout")  # noqa: T201
        sys.stderr.write("to stderr\n")
        logging.getLogger("mine").warning("to logging")
        warnings.warn("to warnings", stacklevel=1)
        os.system("echo to a child process")

    log = cluster.execute(one(talk)).record.functions["f"].log
    for channel in ("stdout", "stderr", "logging", "warnings", "a child process"):
        assert f"to {channel}" in log


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda: sys.exit(3), "SystemExit"),
        (lambda: os._exit(3), "os._exit|exit code 3|status 3"),
        (lambda: ctypes.string_at(0), "SIGSEGV"),
        (lambda: endless(1), "RecursionError"),
        (lambda: (i for i in range(3)), "pickle"),
        (lambda: __import__("no_such_module_at_all"), "no_such_module_at_all"),
    ],
    ids=["sys.exit", "os._exit", "segfault", "recursion", "unpicklable result", "missing module"],
)
def test_a_bad_end_is_the_functions_own(cluster: hl.Cluster, function: Callable[[], Any], told: str) -> None:
    dag = one(function, max_retries=0, node="alpha").add(hl.Function("good", lambda: 1, node="alpha"))
    run = cluster.execute(dag, on_error="continue", raise_on_error=False)
    assert run.results["good"] == 1
    assert isinstance(run.errors["f"], hl.FunctionFailedError)
    with pytest.raises(hl.FunctionFailedError, match=told):
        raise run.errors["f"]
    assert set(cluster.nodes) == {"alpha", "beta"}


def test_code_that_cannot_be_pickled_fails_alone(cluster: hl.Cluster) -> None:
    lock = __import__("threading").Lock()
    dag = one(lambda: lock.acquire()).add(hl.Function("good", lambda: 1))
    run = cluster.execute(dag, on_error="continue", raise_on_error=False)
    assert run.results["good"] == 1
    assert run.attempts["f"] == 1
    assert "cannot be pickled" in str(run.errors["f"])


def test_an_argument_that_cannot_be_pickled_fails_alone(cluster: hl.Cluster) -> None:
    dag = one(print, extra_args=[__import__("threading").Lock()], max_retries=0).add(hl.Function("good", lambda: 1))
    run = cluster.execute(dag, on_error="continue", raise_on_error=False)
    assert run.results["good"] == 1
    assert "pickle" in str(run.errors["f"])


def test_a_remote_exception_tells_its_story(cluster: hl.Cluster) -> None:
    def divide(xs: Any, *, by: int) -> Any:
        return xs / by

    dag = hl.DAG("story").add(
        hl.Function("xs", lambda: 12),
        hl.Function("divide", divide, args=["xs"], kwargs={"by": 0}, max_retries=1, node="beta"),
    )
    with pytest.raises(hl.FunctionFailedError) as caught:
        cluster.execute(dag)
    error = caught.value
    assert (error.function, error.node, error.attempts) == ("divide", "beta", 2)
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert "return xs / by" in error.remote_traceback
    assert "12" in error.inputs
    assert "by=0" in error.inputs


def test_timeouts_end_the_function(cluster: hl.Cluster) -> None:
    def forever() -> None:
        while True:
            pass

    with pytest.raises(hl.FunctionTimeoutError, match="'f' failed on node"):
        cluster.execute(one(forever, timeout=0.2, max_retries=0))


def test_cancel_interrupts_what_runs(cluster: hl.Cluster, tmp_path: Any) -> None:
    def forever() -> None:
        (tmp_path / "started").touch()
        while True:
            pass

    started = hl.DAG("wait").add(hl.Function("f", forever, cost={"cpu": 2}))
    run = cluster.submit(started)
    soon((tmp_path / "started").exists)
    run.cancel()
    with pytest.raises(hl.RunCancelledError):
        run.wait(60)
    soon(lambda: cluster.nodes["alpha"].used == {})
    assert cluster.execute(one(lambda: 1, cost={"cpu": 2})).results["f"] == 1


def test_functions_in_the_kernel_share_its_namespace(cluster: hl.Cluster) -> None:
    def remember(value: int) -> int:
        global remembered
        remembered = value
        return os.getpid()

    dag = hl.DAG("kernel").add(
        hl.Function("first", remember, extra_args=[5], runs_in="kernel", node="alpha"),
        hl.Function("second", lambda pid: (pid, os.getpid()), args=["first"], runs_in="kernel", node="alpha"),
    )
    first, second = cluster.execute(dag).results["second"]
    assert first == second != cluster.nodes["alpha"].pid
    messages: list[dict[str, Any]] = []
    reply = cluster.run_cell("alpha", "x = 6 * 7\nprint('said', x)\nx", messages.append)
    assert reply["status"] == "ok"
    kinds = {message["type"]: message["content"] for message in messages}
    assert "".join(message["content"].get("text", "") for message in messages) == "said 42\n"
    assert kinds["execute_result"]["data"]["text/plain"] == "42"
    failed = cluster.run_cell("alpha", "1 / 0", messages.append)
    assert (failed["status"], failed["ename"]) == ("error", "ZeroDivisionError")


def test_setup_runs_first_in_every_slot(cluster: hl.Cluster) -> None:
    def read() -> str:
        return os.environ["HANDOFF_SETUP"]

    dag = hl.DAG("setup").add(*(hl.Function(i, read) for i in range(8)))
    source = "import os\nos.environ['HANDOFF_SETUP'] = 'done'"
    run = cluster.execute(dag, setup=[source], allocation_strategy="load_balanced")
    assert set(run.results.values()) == {"done"}
    assert "HANDOFF_SETUP" not in os.environ
    with pytest.raises(hl.FunctionFailedError, match="no_such_thing"):
        cluster.execute(one(read), setup=["import no_such_thing"])


def test_a_lost_node_takes_nothing_with_it(tmp_path: Any) -> None:
    import signal

    def slow() -> str:
        first = not (tmp_path / "started").exists()
        (tmp_path / "started").touch()
        while first:
            pass
        return "again"

    with hl.Cluster({"alpha": {"cpu": 1}, "beta": {"cpu": 1}}) as cluster:
        dag = hl.DAG("lost").add(
            hl.Function("before", lambda: np.zeros(10_000), node=None),
            hl.Function("slow", lambda a: slow(), args=["before"], cost={"cpu": 1}),
            hl.Function("pinned", lambda s: s, args=["slow"]),
        )
        run = cluster.submit(dag)
        soon(lambda: (tmp_path / "started").exists() and run.record.functions["slow"].status == "running")
        os.kill(cluster.nodes["alpha"].pid, signal.SIGKILL)
        assert run.wait(60).results["pinned"] == "again"
        assert run.attempts["slow"] == 2
        assert run.allocations["slow"] == "beta"
        assert run.recomputed == 1
        assert list(cluster.nodes) == ["beta"]
        with pytest.raises(hl.AllocationError, match="alpha"):
            cluster.execute(one(lambda: 1, node="alpha"))
