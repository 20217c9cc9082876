"""The commands, in a real kernel with a cluster of two more."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from handoff_lab.allocation import STRATEGIES

pytestmark = pytest.mark.real

PATIENCE_S = 120
Notebook = Any  # the class of conftest.py, which cannot be imported

BRANCHING = """%%handoff --cpu 2
def input_data():
    return [10, 20, 30]

def pre_a(input_data):
    return [x + 1 for x in input_data]

def pre_b(input_data):
    return [x * 2 for x in input_data]

def agg(pre_a, pre_b):
    return sum(pre_a) + sum(pre_b)
"""
SCALED = "%%handoff\ndef scaled(numbers, factor=2):\n    return [factor * x for x in numbers]\n"
GATED = """%%handoff --max-retries 0
def gate(path):
    import pathlib, time
    while not pathlib.Path(path).exists():
        time.sleep(0.01)
    return "open"
def after(gate):
    return gate
"""


@pytest.fixture(scope="module")
def clustered(kernel: Notebook) -> Iterator[Notebook]:
    kernel.ok("%reset -f")
    kernel.ok("%load_ext handoff_lab")
    kernel.ok("%handoff start alpha:cpu=2 beta:cpu=2,gpu=1")
    yield kernel
    kernel.ok("%unload_ext handoff_lab")


@pytest.fixture
def notebook(clustered: Notebook) -> Notebook:
    """The cluster is there, the graph is empty."""
    clustered.ok("%reset -f")
    clustered.ok("%handoff reset")
    return clustered


class TestRun:
    def test_the_branching_example(self, notebook):
        notebook.ok(BRANCHING, "A")
        notebook.ok("%handoff run --wait -o run")
        assert notebook.value("run.results['agg'], run.status") == "183 done"
        assert notebook.value("set(run.allocations.values()) <= {'alpha', 'beta'}") == "True"

    def test_it_does_not_wait(self, notebook, folder):
        notebook.ok(GATED, "A")
        gate = folder / "gate"
        notebook.ok(f"%handoff run --set path={gate} -o run")
        assert notebook.value("run.status") == "running"
        gate.touch()
        assert notebook.value("run.wait(60).results['after']") == "open"

    def test_the_picture_is_brought_up_to_date_when_it_waits(self, notebook):
        notebook.ok(BRANCHING, "A")
        outcome = notebook.ok("%handoff run --wait")
        assert len(outcome.shown) == 1
        assert "done" in outcome.last["text/plain"]

    def test_inputs_are_expressions_of_the_notebook_or_text(self, notebook):
        notebook.ok("import numpy as np\nvalues = np.arange(3)")
        notebook.ok(SCALED, "A")
        notebook.ok("%handoff run --set numbers=values+1 --wait -o run")
        assert notebook.value("run.results['scaled']") == "[np.int64(2), np.int64(4), np.int64(6)]"
        notebook.ok("%handoff run --set 'numbers={1: 2}' --wait -o run")
        assert notebook.value("run.results['scaled']") == "[2]"
        notebook.ok("%handoff run --set numbers=ab/c --wait -o run")
        assert notebook.value("run.results['scaled']") == "['aa', 'bb', '//', 'cc']"

    def test_a_missing_input_is_asked_for(self, notebook):
        notebook.ok(SCALED, "A")
        assert "scaled needs the input 'numbers'" in notebook.refused("%handoff run")
        assert "did you mean numbers?" in notebook.refused("%handoff run --set number=1")

    def test_only_what_the_targets_need_is_run(self, notebook):
        notebook.ok(BRANCHING, "A")
        notebook.ok("%handoff run pre_a --wait -o run")
        assert notebook.value("sorted(run.results)") == "['input_data', 'pre_a']"

    def test_on_named_nodes_only(self, notebook):
        notebook.ok(BRANCHING, "A")
        notebook.ok("%handoff run agg --on beta --wait -o run")
        assert notebook.value("set(run.allocations.values())") == "{'beta'}"
        assert "did you mean beta?" in notebook.refused("%handoff run --on betta")

    def test_allocators_by_name_and_by_variable(self, notebook):
        notebook.ok(BRANCHING, "A")
        for name in STRATEGIES:
            notebook.ok(f"%handoff run --allocator {name} --wait")
        notebook.ok("def to_alpha(functions, capabilities):\n    return {f.id: 'alpha' for f in functions}")
        notebook.ok("%handoff run --allocator to_alpha --wait -o run")
        assert notebook.value("set(run.allocations.values())") == "{'alpha'}"

    def test_what_no_node_can_hold_fails_before_anything_runs(self, notebook):
        notebook.ok("%%handoff --cpu 64\ndef big(): ...", "A")
        failed = notebook.run("%handoff run")
        assert failed.ename == "AllocationError"
        assert "'big'" in failed.evalue

    def test_a_failure_fails_the_waiting_cell_with_the_remote_traceback(self, notebook):
        notebook.ok("%%handoff --max-retries 0\ndef wrong():\n    return 1 / 0", "A")
        failed = notebook.run("%handoff run --wait -o run")
        assert failed.ename == "FunctionFailedError"
        assert "ZeroDivisionError" in failed.evalue
        assert "return 1 / 0" in failed.evalue
        assert notebook.value("run.status") == "failed"
        assert "failed" in failed.last["text/plain"]

    def test_failed_takes_over_what_was_finished(self, notebook, folder):
        source = (
            "%%handoff --max-retries 0\n"
            "def stamp():\n    import time\n    return time.time()\n"
            "def needs_file(stamp, path):\n    return stamp, open(path).read()\n"
        )
        notebook.ok(source, "A")
        path = folder / "late.txt"
        assert notebook.run(f"%handoff run --set path={path} --wait -o first").status == "error"
        path.write_text("here")
        notebook.ok("%handoff run --failed --wait -o second")
        assert notebook.value("second.results['needs_file'] == (first.results['stamp'], 'here')") == "True"
        assert "nothing to run again" in notebook.refused("%handoff run --failed")

    def test_stale_runs_what_an_edit_changes_and_nothing_else(self, notebook):
        notebook.ok(BRANCHING, "A")
        notebook.ok("%handoff run --wait -o first")
        notebook.ok(BRANCHING.replace("x * 2", "x * 3"), "A")
        notebook.ok("%handoff run --stale --wait -o second")
        assert notebook.value("second.results['agg']") == "243"
        assert notebook.value("sorted(id for id, n in second.attempts.items() if n)") == "['agg', 'pre_b']"
        assert "nothing is stale" in notebook.refused("%handoff run --stale")

    def test_stale_goes_on_with_the_inputs_of_the_last_run(self, notebook):
        notebook.ok(SCALED, "A")
        notebook.ok("%handoff run --set numbers=[1,2] --wait")
        notebook.ok(SCALED.replace("factor=2", "factor=5"), "A")
        notebook.ok("%handoff run --stale --wait -o second")
        assert notebook.value("second.results['scaled']") == "[5, 10]"
        assert "takes only --wait and -o" in notebook.refused("%handoff run --stale --set numbers=[3]")

    def test_failed_is_refused_once_the_graph_was_edited(self, notebook):
        notebook.ok("%%handoff --max-retries 0\ndef wrong(): 1 / 0", "A")
        notebook.run("%handoff run --wait")
        notebook.ok("%%handoff\ndef wrong(): return 1", "A")
        assert "edited since the last run: wrong" in notebook.refused("%handoff run --failed")

    def test_a_stop_while_waiting_cancels_the_run(self, notebook, folder):
        notebook.ok(GATED, "A")
        notebook.ok("import threading")
        request = notebook.send(f"%handoff run --set path={folder / 'never'} --wait -o run")
        while True:
            message = notebook.client.get_iopub_msg(timeout=PATIENCE_S)
            if message["parent_header"]["msg_id"] == request and message["msg_type"] == "display_data":
                break
        notebook.manager.interrupt_kernel()
        assert notebook.finish(request).ename == "KeyboardInterrupt"
        notebook.ok("try:\n    run.wait(60)\nexcept Exception as error:\n    print(error)")
        assert notebook.value("run.status") == "cancelled"

    def test_a_definition_stays_when_a_run_in_its_cell_fails(self, notebook):
        notebook.ok("import handoff_lab as hl")
        failed = notebook.run("@dag.function(max_retries=0)\ndef wrong(): 1 / 0\nhl.execute_local(dag)", "A")
        assert failed.ename == "FunctionFailedError"
        assert notebook.value("list(dag)") == "['wrong']"


class TestWhatTravels:
    def test_helpers_and_imports_go_with_their_users(self, notebook):
        source = (
            "%%handoff\nimport math\nLIMIT = 9\n"
            "def _clip(x): return min(x, LIMIT)\n"
            "class _Pair:\n    def __init__(self, a): self.a = a\n"
            "def clipped(): return _Pair(_clip(math.floor(12.5))).a\n"
        )
        notebook.ok(source, "A")
        notebook.ok("%handoff run --wait -o run")
        assert notebook.value("run.results['clipped']") == "9"

    def test_setup_runs_here_and_first_in_every_slot(self, notebook):
        notebook.ok("%%handoff setup\nimport os\nos.environ['GREETING'] = 'hello'\nmark = 1", "S")
        assert notebook.value("mark, os.environ.pop('GREETING')") == "1 hello"
        notebook.ok("%%handoff\ndef greet():\n    import os\n    return os.environ['GREETING'], os.getpid()", "A")
        notebook.ok("%handoff run --wait -o run")
        assert notebook.value("run.results['greet'][0]") == "hello"
        assert notebook.value("run.results['greet'][1] != os.getpid()") == "True"

    def test_an_edited_setup_makes_what_was_run_stale(self, notebook):
        notebook.ok("%%handoff setup\nx = 1", "S")
        notebook.ok(BRANCHING, "A")
        notebook.ok("%handoff run pre_a --wait")
        assert "stale: input_data, pre_a" in notebook.ok("%%handoff setup\nx = 2", "S").text

    def test_a_run_makes_fresh_what_it_ran(self, notebook):
        notebook.ok(BRANCHING, "A")
        notebook.ok("%handoff run --wait")
        edited = notebook.ok(BRANCHING.replace("x + 1", "x + 2"), "A")
        assert "changed pre_a · stale: pre_a, agg" in edited.text
        notebook.ok("%handoff run pre_a --wait")
        assert "stale: agg\n" in notebook.ok("%handoff status").text
        notebook.ok("%handoff run --wait")
        assert "stale" not in notebook.ok("%handoff status").text


class TestLooking:
    def test_start_again_is_no_harm_and_another_cluster_is_refused(self, notebook):
        assert "alpha" in notebook.ok("%handoff start alpha:cpu=2 beta:cpu=2,gpu=1").text
        assert "%handoff stop ends it" in notebook.refused("%handoff start gamma:cpu=1")

    def test_nodes(self, notebook):
        shown = notebook.ok("%handoff nodes").shown[0]
        assert "beta" in shown["text/html"]

    def test_status_names_graph_cluster_and_run(self, notebook):
        notebook.ok(BRANCHING, "A")
        assert "not run yet" in notebook.ok("%handoff status").text
        notebook.ok("%handoff run --wait")
        graph, cluster, run = notebook.ok("%handoff status").text.splitlines()
        assert "4 functions" in graph
        assert "alpha" in cluster
        assert "done" in run

    def test_graph_and_watch_show_pictures(self, notebook):
        notebook.ok(BRANCHING, "A")
        assert "<svg" in notebook.ok("%handoff graph").shown[0]["image/svg+xml"]
        notebook.ok("%handoff run --wait")
        assert "done" in notebook.ok("%handoff watch").text

    def test_plan(self, notebook):
        notebook.ok(BRANCHING.replace("--cpu 2", "--cpu 2 --duration 3"), "A")
        assert "9" in notebook.ok("%handoff plan a:cpu=2 b:cpu=2").text
        assert "12" in notebook.ok("%handoff plan a:cpu=2").text
        assert notebook.ok("%handoff plan --allocator load_balanced").shown

    def test_logs(self, notebook):
        notebook.ok("%%handoff\ndef loud(): print('so loud')\ndef quiet(): ...", "A")
        notebook.ok("%handoff run --wait")
        assert notebook.ok("%handoff logs loud").text == "so loud\n"
        assert notebook.ok("%handoff logs quiet").text == "quiet wrote nothing"
        assert "did you mean loud?" in notebook.refused("%handoff logs lod")

    def test_cancel(self, notebook, folder):
        notebook.ok(GATED, "A")
        notebook.ok(f"%handoff run --set path={folder / 'never'} -o run")
        assert "did you mean gate?" in notebook.refused("%handoff cancel gat")
        notebook.ok("%handoff cancel gate")
        notebook.ok("try:\n    run.wait(60)\nexcept Exception as error:\n    print(type(error).__name__)")
        assert notebook.value("run.status") == "cancelled"

    def test_report(self, notebook, folder):
        notebook.ok(BRANCHING, "A")
        notebook.ok("%handoff run --wait")
        assert "run.html" in notebook.ok("%handoff report run.html").text
        assert "pre_a" in (folder / "run.html").read_text(encoding="utf-8")

    def test_completion_of_nodes(self, notebook):
        assert notebook.complete("%handoff run --on ") == ["alpha", "beta"]
        assert notebook.complete("%%on al") == ["alpha"]
        assert notebook.complete("%%handoff --node b") == ["beta"]


class TestExport:
    def test_the_module_runs_and_comes_back(self, notebook, folder):
        notebook.ok("%%handoff setup\nimport os", "S")
        notebook.ok(BRANCHING, "A")
        notebook.ok("%handoff export pipeline.py")
        done = subprocess.run(
            [sys.executable, "pipeline.py"], cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        assert (done.stdout, done.returncode) == ("agg = 183\n", 0), done.stderr
        notebook.ok("%handoff reset")
        shown = notebook.ok("%handoff import pipeline.py")
        assert shown.text.splitlines()[0] == "added input_data, pre_a, pre_b, agg"
        assert notebook.value("pre_a([1]), dag.setup, dag['agg'].cost['cpu']") == r"[2] ('import os\n',) 2.0"
        notebook.ok("%handoff run --wait -o run")
        assert notebook.value("run.results['agg']") == "183"

    def test_importing_again_replaces(self, notebook, folder):
        file = folder / "again.py"
        file.write_text(
            "import handoff_lab as hl\n@hl.function\ndef one(): return 1\n@hl.function\ndef two(): return 2\n"
        )
        notebook.ok("%handoff import again.py")
        file.write_text("import handoff_lab as hl\n@hl.function\ndef one(): return 'one'\n")
        shown = notebook.ok("%handoff import again.py")
        assert shown.text.splitlines()[0] == "changed one · removed two · stale: one"
        notebook.ok("%handoff run --wait -o run")
        assert notebook.value("run.results['one']") == "one"

    def test_a_name_of_a_cell_is_refused(self, notebook, folder):
        notebook.ok("%%handoff\ndef one(): ...", "A")
        (folder / "other.py").write_text("import handoff_lab as hl\n@hl.function\ndef one(): return 1\n")
        complaint = notebook.refused("%handoff import other.py")
        assert "other.py" in complaint
        assert "cell A" in complaint


class TestOnNode:
    def test_output_of_every_kind_is_shown_here(self, notebook):
        source = (
            "%%on alpha\nimport sys\nfrom IPython.display import HTML, display\n"
            "print('out')\nprint('err', file=sys.stderr)\ndisplay(HTML('<b>bold</b>'))\n40 + 2"
        )
        outcome = notebook.ok(source)
        assert (outcome.stdout, outcome.stderr) == ("out\n", "err\n")
        assert outcome.shown[0]["text/html"] == "<b>bold</b>"
        assert outcome.shown[1]["text/plain"] == "42"

    def test_it_is_the_namespace_of_that_node_alone(self, notebook):
        notebook.ok("%%on alpha\nkept = 'on alpha'")
        assert notebook.ok("%%on alpha\nprint(kept)").stdout == "on alpha\n"
        assert notebook.run("%%on beta\nkept").ename == "CellFailedError"
        assert notebook.value("'kept' in globals()") == "False"

    def test_an_error_there_fails_the_cell_here_with_the_remote_traceback(self, notebook):
        failed = notebook.run("%%on beta\ndef inner():\n    return 1 / 0\ninner()")
        assert (failed.status, failed.ename) == ("error", "CellFailedError")
        assert "ZeroDivisionError: division by zero" in failed.evalue
        assert "'beta'" in failed.evalue
        assert "return 1 / 0" in failed.traceback
        assert "remote.py" not in failed.traceback

    def test_an_unknown_node(self, notebook):
        assert "did you mean alpha?" in notebook.refused("%%on alhpa\n1")

    def test_a_stop_interrupts_the_cell_there(self, notebook):
        request = notebook.send("%%on alpha\nimport time\nprint('begun', flush=True)\nwhile True: time.sleep(0.01)")
        notebook.wait_for_output(request, "begun")
        notebook.manager.interrupt_kernel()
        assert notebook.finish(request).status == "error"
        assert notebook.ok("%%on alpha\nprint('free')").stdout == "free\n"


def test_run_without_a_cluster_starts_the_default_one(notebook):
    notebook.ok("%handoff stop")
    try:
        notebook.ok(BRANCHING.replace("--cpu 2", "--cpu 1"), "A")
        notebook.ok("%handoff run --wait -o run")
        assert notebook.value("run.results['agg']") == "183"
        assert "node-1" in notebook.ok("%handoff status").text
    finally:
        notebook.ok("%handoff stop")
        notebook.ok("%handoff start alpha:cpu=2 beta:cpu=2,gpu=1")


def test_stale_says_that_a_stopped_cluster_has_no_results(notebook):
    notebook.ok(SCALED, "A")
    notebook.ok("%handoff run --set numbers=[1,2] --wait")
    notebook.ok("%handoff stop")
    try:
        notebook.ok(SCALED.replace("factor=2", "factor=5"), "A")
        assert "cluster that is stopped" in notebook.refused("%handoff run --stale")
        assert "no cluster" in notebook.ok("%handoff status").text
    finally:
        notebook.ok("%handoff start alpha:cpu=2 beta:cpu=2,gpu=1")
