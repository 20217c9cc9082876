"""What goes wrong in a run, and what a person does about it in the live view."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .lab import Lab

pytestmark = [pytest.mark.real, pytest.mark.browser]

LOAD = """%%handoff --max-retries 0
def numbers():
    "The numbers from 3 down to 0."
    return [3, 2, 1, 0]
"""
DIVIDE = """%%handoff --max-retries 0
def inverse(numbers):
    return [6 / number for number in numbers]
"""
TOTAL = """%%handoff
def total(inverse):
    return sum(inverse)
"""
NAPS = """
import pathlib, time
import handoff_lab as hl

def nap(path):
    while not pathlib.Path(path).exists():
        time.sleep(0.05)

over = str(pathlib.Path("over").resolve())
cluster = hl.Cluster({"alpha": {"cpu": 2}, "beta": {"cpu": 2}})
dag = hl.DAG("naps")
for i in range(4):
    dag.add(hl.Function(f"nap_{i}", nap, extra_args=[over], cost={"cpu": 1}))
"""


def test_cancel_while_a_cell_blocks(lab: Lab) -> None:
    notebook = lab.new([NAPS, "run = cluster.submit(dag)\nrun.watch()", "run.wait()"])
    notebook.run(0)
    notebook.run(1)
    view = notebook.view(1)
    view.wait_functions(nap_0="running")
    notebook.start(2)
    pressed = time.monotonic()
    view.button("cancel").click()
    view.wait("cancelled")
    assert "RunCancelledError" in notebook.finish(2, fails=True)
    assert time.monotonic() - pressed < 100
    notebook.view(1).wait_functions(**{f"nap_{i}": "cancelled" for i in range(4)})
    lab.screenshot("cancelled")


def test_a_failure_is_read_mended_and_only_the_rest_runs_again(lab: Lab) -> None:
    notebook = lab.new(["%load_ext handoff_lab", LOAD, DIVIDE, TOTAL, "%handoff run -o run", "run.attempts"])
    for cell in range(4):
        notebook.run(cell)
    notebook.run(4)
    view = notebook.view(4)
    view.wait("failed")
    assert {id: status for id, (status, _) in view.shapes().items()} == {
        "numbers": "done",
        "inverse": "failed",
        "total": "skipped",
    }
    view.function("inverse").click()
    details = view.details("ZeroDivisionError")
    traceback = details.get_by_label("Traceback").inner_text()
    assert "return [6 / number for number in numbers]" in traceback
    assert "handoff_lab" not in traceback
    assert traceback.rstrip().endswith("ZeroDivisionError: division by zero")
    lab.screenshot("traceback")
    assert view.button("run-stale").get_attribute("aria-disabled") == "true"

    notebook.edit(2, DIVIDE.replace("in numbers", "in numbers if number"))
    notebook.run(2)
    view = notebook.view(4)
    view.part("table").or_(view.part("graph")).get_by_text("stale").first.wait_for()
    lab.screenshot("stale")
    view.button("run-stale").click()
    view.wait("done")
    assert {id: status for id, (status, _) in view.shapes().items()} == {
        "numbers": "cached",
        "inverse": "done",
        "total": "done",
    }
    view.details("[2.0, 3.0, 6.0]")
    lab.screenshot("done")


def test_what_failed_runs_again(lab: Lab) -> None:
    notebook = lab.new(
        [
            "%load_ext handoff_lab\nimport pathlib\nflag = str(pathlib.Path('mended').resolve())",
            LOAD,
            "%%handoff --max-retries 0\ndef check(numbers):\n    return open(flag).read()",
            "%handoff run",
            "pathlib.Path(flag).write_text('it is there')",
        ]
    )
    for cell in range(4):
        notebook.run(cell)
    view = notebook.view(3)
    view.wait("failed")
    notebook.run(4)
    view = notebook.view(3)
    view.button("rerun-failed").click()
    view.wait("done")
    assert [status for status, _ in view.shapes().values()] == ["cached", "done"]


def test_the_functions_of_a_killed_node_move(lab: Lab) -> None:
    notebook = lab.new(
        [
            NAPS,
            "run = cluster.submit(dag, allocation_strategy='load_balanced')\nrun.watch()",
            "print(cluster.nodes['beta'].pid)",
            "pathlib.Path(over).touch()",
        ]
    )
    notebook.run(0)
    agent = int(notebook.run(2))
    notebook.run(1)
    view = notebook.view(1)
    view.wait_functions(**{f"nap_{i}": "running" for i in range(4)})
    on_beta = {id for id, (_, node) in view.shapes().items() if node == "beta"}
    assert len(on_beta) == 2
    os.kill(agent, signal.SIGKILL)
    loss = view.node("beta").filter(has_text="Lost at")
    loss.wait_for()
    view.part("graph").locator('[data-node="beta"]').first.wait_for(state="detached")
    said = loss.inner_text()
    assert "2 functions moved" in said
    assert all(f"{id} → alpha" in said.replace("\n", " ") for id in on_beta)
    lab.screenshot("lost")
    notebook.run(3)
    view = notebook.view(1)
    view.wait("done")
    assert set(view.shapes().values()) == {("done", "alpha")}
