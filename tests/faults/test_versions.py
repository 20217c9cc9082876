"""Code that a node does not have, and code that changes while it runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import handoff_lab as hl

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def cluster() -> Iterator[hl.Cluster]:
    with hl.Cluster({"alpha": {"cpu": 1}, "beta": {"cpu": 1}}) as cluster:
        yield cluster


@pytest.fixture
def only_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module that can be imported here; the nodes are there already, and never heard of its folder."""
    (tmp_path / "only_here.py").write_text("def double(x):\n    return 2 * x\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "only_here", raising=False)
    return "only_here"


def test_a_module_that_a_functions_code_needs_and_its_node_lacks_is_named(cluster: hl.Cluster, only_here: str) -> None:
    double = __import__(only_here).double
    run = cluster.submit(hl.DAG("lacks").add(hl.Function("f", double, extra_args=[1], node="beta")))
    with pytest.raises(hl.FunctionFailedError) as caught:
        run.wait(60)
    error = caught.value
    assert (error.function, error.node, error.attempts) == ("f", "beta", 1)  # to try again would be in vain
    assert "'f' failed on node 'beta'" in str(error)
    assert "needs the module 'only_here', which this node does not have; install it there" in str(error)
    assert isinstance(error.__cause__, ModuleNotFoundError)


def test_a_module_that_a_function_imports_and_its_node_lacks_is_named(cluster: hl.Cluster, only_here: str) -> None:
    def importing() -> int:
        return __import__("only_here").double(1)

    run = cluster.submit(hl.DAG("lacks").add(hl.Function("f", importing, node="beta", max_retries=0)))
    with pytest.raises(hl.FunctionFailedError, match=r"'f' failed on node 'beta' .*No module named 'only_here'"):
        run.wait(60)


# Cells of a notebook, in a real shell: the second redefines what the run of the first goes on with.
CELLS = [
    """
import json, os, signal, sys
import handoff_lab as hl
from pathlib import Path

folder = Path(sys.argv[1])

def helper():
    return "old"

def gate():
    from time import sleep
    (folder / "begun").touch()
    while not (folder / "open").exists():
        sleep(0.005)
    return helper()

def after(gate):
    return gate, helper()

dag = hl.DAG("edited").add(hl.Function("gate", gate, cost={"gpu": 1}), hl.Function("after", after, args=["gate"]))
cluster = hl.Cluster({"alpha": {"cpu": 1, "gpu": 1}, "beta": {"cpu": 1}})
run = cluster.submit(dag)
while not (folder / "begun").exists():
    run._state.over.wait(0.005)
""",
    """
def helper():
    return "new"

def after(gate):
    return gate, helper(), "edited"

# The code of `after` reaches its node only now; that of `gate` goes to a node that was not there when the run began.
cluster.add_node({"cpu": 1, "gpu": 1}, name="gamma")
os.kill(cluster.nodes["alpha"].pid, signal.SIGKILL)
while "alpha" in cluster.nodes:
    run._state.over.wait(0.005)
(folder / "open").touch()
run.wait(60)
""",
    """
again = cluster.execute(dag.replace(hl.Function("gate", gate), hl.Function("after", after, args=["gate"])))
told = [run.results["after"], run.allocations["gate"], run.attempts["gate"], again.results["after"]]
cluster.close()
""",
]
SHELL = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
for cell in json.loads(sys.stdin.read()):
    shell.run_cell(cell).raise_error()
sys.stdout.write("\\n" + json.dumps(shell.user_ns["told"]))
"""


def test_a_function_that_is_redefined_keeps_its_old_code_in_a_run_that_goes_on(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SHELL, str(tmp_path)],
        input=json.dumps(CELLS),
        capture_output=True,
        text=True,
        timeout=180,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout.rpartition("\n")[2])
    assert told == [["old", "old"], "gamma", 2, ["new", "new", "edited"]]
