"""Ctrl-C in a script and the stop button of a notebook: the run is cancelled, and the cluster is as good as before."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from jupyter_client import BlockingKernelClient, KernelManager

from tests.others import PYTHON, gone, soon

pytestmark = pytest.mark.real

PATIENCE_S = 60.0  # a busy machine starts a kernel slowly

COMMON = """
import json, os, signal, sys, threading
import handoff_lab as hl
from handoff_lab.node.lifeline import descendants

def endless(path=None):
    import pathlib, threading
    if path is not None:
        pathlib.Path(path).touch()
    while True:
        threading.Event().wait(0.01)

def deaf(path):
    import itertools, pathlib
    pathlib.Path(path).touch()
    return sum(itertools.repeat(0))

def graph(code, *arguments):
    return hl.DAG("blocking").add(
        hl.Function("first", code, extra_args=arguments), hl.Function("next", lambda x: x, args=["first"])
    )

began, ended = [], []
over = threading.Condition()

def note(event, measurements, metadata, config):
    with over:
        (began if event[-1] == "start" else ended).append(metadata.get("status"))
        over.notify_all()

hl.telemetry.attach("note", ("handoff", "run"), note)

def all_over(least=0):
    with over:
        return over.wait_for(lambda: least <= len(began) == len(ended), 60)

def after(cluster):
    run = cluster.execute(hl.DAG("after").add(*(hl.Function(n, os.getpid, cost={"cpu": 1}) for n in range(9))))
    return run.status, set(run.attempts.values()), any(node.used.get("cpu", 0) for node in cluster.nodes.values())
"""

BLOCKING = """
with hl.Cluster({"alpha": {"cpu": 1}}) as cluster:
    try:
        cluster.execute(graph(endless, sys.argv[1]))
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    assert all_over(1)
    assert ended == ["cancelled"], ended
    assert after(cluster) == ("done", {1}, False), after(cluster)
print("fine")
"""

CLOSING = """
cluster = hl.Cluster({"alpha": {"cpu": 1}, "beta": {"cpu": 1}})
print(json.dumps([*descendants(os.getpid())]), flush=True)
try:
    cluster.execute(graph(deaf, sys.argv[1]))
finally:
    print("closing", flush=True)
    cluster.close()
"""

AT_RANDOM = """
import random, time

dice = random.Random(int(sys.argv[1]))

def interrupt(delay, gap):
    threading.Event().wait(delay)
    os.kill(os.getpid(), signal.SIGINT)
    if gap is not None:  # a second time, while the run is being cancelled
        end = time.perf_counter() + gap
        while time.perf_counter() < end:
            pass
        os.kill(os.getpid(), signal.SIGINT)

interrupts = 0
longest = 0.02  # of the delays, found as it goes: a busy machine takes longer to begin a run
with hl.Cluster({"alpha": {"cpu": 1}}) as cluster:
    for number in range(40):
        gap = dice.choice([None, dice.random() * 0.001])
        thread = threading.Thread(target=interrupt, args=(dice.random() * longest, gap))
        before = len(began)
        try:
            try:
                thread.start()
                cluster.execute(graph(endless))
            finally:
                thread.join()
        except KeyboardInterrupt:
            interrupts += 1
        thread.join()
        assert all_over(), (number, began, ended)
        longest *= 0.95 if len(began) > before else 1.3
    assert after(cluster) == ("done", {1}, False), after(cluster)
print(json.dumps([interrupts, len(began), sorted(set(ended))]))
"""


class Script:
    """A program in a session of its own, as a terminal starts one."""

    def __init__(self, code: str, *words: str | Path) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        self.process = subprocess.Popen(
            [*PYTHON, "-c", COMMON + code, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=environment,
        )
        assert self.process.stdout is not None
        self.stdout: IO[str] = self.process.stdout

    def press_ctrl_c(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)

    def finish(self) -> tuple[int, str, str]:
        """Its exit code and what it wrote."""
        out, error = self.process.communicate(timeout=3 * PATIENCE_S)
        return self.process.returncode, out, error


@pytest.fixture
def script() -> Iterator[Callable[..., Script]]:
    scripts: list[Script] = []

    def start(code: str, *words: str | Path) -> Script:
        scripts.append(Script(code, *words))
        return scripts[-1]

    yield start
    for one in scripts:
        if one.process.poll() is None:
            one.process.kill()
            one.process.communicate()


def test_ctrl_c_cancels_a_blocking_execute_and_the_cluster_is_usable(
    script: Callable[..., Script], tmp_path: Path
) -> None:
    blocking = script(BLOCKING, tmp_path / "here")
    soon((tmp_path / "here").exists)
    blocking.press_ctrl_c()
    code, out, error = blocking.finish()
    assert (code, out) == (0, "interrupted\nfine\n"), error


@pytest.mark.parametrize("seed", ["1", "2"])
def test_at_random_moments_once_or_twice_no_run_goes_on(script: Callable[..., Script], seed: str) -> None:
    code, out, error = script(AT_RANDOM, seed).finish()
    assert code == 0, error
    interrupts, runs, statuses = json.loads(out)
    assert interrupts == 40
    assert runs > 10
    assert statuses == ["cancelled", "done"]  # done: those that came after


def test_a_second_time_while_the_cluster_is_closed_leaves_nothing(
    script: Callable[..., Script], tmp_path: Path
) -> None:
    closing = script(CLOSING, tmp_path / "here")
    pids = json.loads(closing.stdout.readline())
    assert len(pids) > 4
    soon((tmp_path / "here").exists)
    closing.press_ctrl_c()
    assert closing.stdout.readline() == "closing\n"
    closing.press_ctrl_c()
    code, _, error = closing.finish()
    assert code != 0
    assert "KeyboardInterrupt" in error
    soon(gone(pids), PATIENCE_S)


# -- a notebook --------------------------------------------------------------------


class Notebook:
    """A kernel, and a front end that runs cells in it."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self.manager = manager
        self.client = client

    def send(self, code: str) -> str:
        return str(self.client.execute(code, stop_on_error=False))

    def reply(self, request: str) -> dict[str, Any]:
        while True:
            message = self.client.get_shell_msg(timeout=PATIENCE_S)
            if message["parent_header"]["msg_id"] == request:
                content: dict[str, Any] = message["content"]
                return content

    def value(self, expression: str) -> str:
        """What an expression gives in the kernel, as text."""
        request = str(self.client.execute("", user_expressions={"value": expression}))
        value = self.reply(request)["user_expressions"]["value"]
        assert value["status"] == "ok", value
        return str(value["data"]["text/plain"])


@pytest.fixture
def notebook() -> Iterator[Notebook]:
    manager = KernelManager(kernel_name="python3", transport_encryption="auto")
    manager.start_kernel()
    client = manager.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=PATIENCE_S)
        notebook = Notebook(manager, client)
        cell = COMMON + 'cluster = hl.Cluster({"alpha": {"cpu": 1}})'
        assert notebook.reply(notebook.send(cell))["status"] == "ok"
        yield notebook
        assert notebook.reply(notebook.send("cluster.close()"))["status"] == "ok"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@pytest.mark.parametrize(("code", "presses"), [("endless", 1), ("endless", 2), ("deaf", 2)])
def test_the_stop_button_cancels_the_run_of_a_cell(notebook: Notebook, tmp_path: Path, code: str, presses: int) -> None:
    request = notebook.send(f"cluster.execute(graph({code}, {str(tmp_path / 'here')!r}))")
    soon((tmp_path / "here").exists)
    notebook.manager.interrupt_kernel()
    assert notebook.reply(request)["ename"] == "KeyboardInterrupt"
    for _ in range(presses - 1):  # while the run is being cancelled
        notebook.manager.interrupt_kernel()
    assert notebook.value("all_over(1), ended") == "(True, ['cancelled'])"
    assert notebook.value("after(cluster)") == "('done', {1}, False)"
