"""`handoff-lab run` on Python files and notebooks, with real kernels."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from handoff_lab.cli import main

BRANCHING = """\
import handoff_lab as hl

dag = hl.DAG("branching")

@dag.function
def numbers():
    return [10, 20, 30]

@dag.function(cost={"cpu": 2})
def plus_one(numbers):
    return [x + 1 for x in numbers]

@dag.function(cost={"cpu": 2})
def times(numbers, factor):
    return [x * factor for x in numbers]

@dag.function(cost={"cpu": 1})
def total(plus_one, times):
    return sum(plus_one) + sum(times)
"""
CELL = """\
%%handoff
def numbers():
    return [10, 20, 30]

def scaled(numbers, factor):
    return [x * factor for x in numbers]
"""
FAILING = "import handoff_lab as hl\n\n@hl.function(max_retries=0)\ndef bad():\n    return 1 / 0\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def notebook(path: Path, *cells: str) -> str:
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells]), path)
    return str(path)


def test_a_file_that_is_not_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(folder / "nothing.py")]) == 2
    assert "there is no file" in capsys.readouterr().err


def test_a_file_that_is_neither(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "notes.txt").write_text("hello")
    assert main(["run", str(folder / "notes.txt")]) == 2
    assert "neither a Python file (.py) nor a notebook (.ipynb)" in capsys.readouterr().err


def test_a_notebook_that_is_none(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "broken.ipynb").write_text("hello")
    assert main(["run", str(folder / "broken.ipynb")]) == 2
    assert "is not a notebook" in capsys.readouterr().err


def test_a_notebook_of_another_kernel(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metadata = {"kernelspec": {"name": "cobol-74", "display_name": "COBOL"}}
    cells = [nbformat.v4.new_code_cell("1")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), folder / "other.ipynb")
    assert main(["run", str(folder / "other.ipynb")]) == 2
    assert "asks for kernel 'cobol-74', which is not installed here" in capsys.readouterr().err


@pytest.mark.real
def test_a_python_file_runs_on_the_nodes_asked_for(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "branching_dag.py"
    path.write_text(BRANCHING)
    words = [
        "run",
        str(path),
        "--set",
        "factor=2",
        "--allocator",
        "load_balanced",
        "--nodes",
        "alpha:cpu=2",
        "beta:cpu=2",
    ]
    assert main(words) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[-1] == "total = 183"
    rows = {line.split()[0]: line.split()[1] for line in said.out.splitlines()[1:5]}
    assert rows.keys() == {"numbers", "plus_one", "times", "total"}
    assert set(rows.values()) == {"alpha", "beta"}
    assert said.err.count("done") == 4


@pytest.mark.real
def test_a_target_runs_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "targeted_dag.py"
    path.write_text(BRANCHING)
    assert main(["run", str(path), "--target", "plus_one", "--nodes", "alpha:cpu=2"]) == 0
    said = capsys.readouterr().out
    assert "plus_one = [11, 21, 31]" in said
    assert "times" not in said


@pytest.mark.real
def test_a_failure_shows_its_traceback_and_ends_with_2(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "failing_dag.py"
    path.write_text(FAILING)
    assert main(["run", str(path), "--nodes", "alpha:cpu=1"]) == 2
    said = capsys.readouterr()
    assert "handoff-lab: function 'bad' failed on node 'alpha'" in said.err
    assert "return 1 / 0" in said.err


@pytest.mark.real
def test_a_notebook_runs_in_its_own_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = notebook(folder / "plain.ipynb", "import os\nprint(os.getcwd())", "6 * 7")
    before = Path(path).read_bytes()
    assert main(["run", path]) == 0
    assert capsys.readouterr().out.splitlines() == [str(folder), "42"]
    assert Path(path).read_bytes() == before


@pytest.mark.real
def test_a_cell_that_fails_ends_with_2(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = notebook(folder / "bad.ipynb", "print('first')", "raise ValueError('no good')", "print('third')")
    assert main(["run", path]) == 2
    said = capsys.readouterr()
    assert said.out == "first\n"
    assert "no good" in said.err


@pytest.mark.real
def test_options_of_a_notebook_start_nodes_and_run_its_graph(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = notebook(folder / "graph.ipynb", "%load_ext handoff_lab", CELL)
    assert main(["run", path, "--nodes", "alpha:cpu=1", "--set", "factor=2", "--target", "scaled"]) == 0
    said = capsys.readouterr().out
    assert "scaled" in said
    assert "alpha" in said
