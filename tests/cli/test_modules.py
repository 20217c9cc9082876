"""Which DAG a Python file defines."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from handoff_lab import HandoffError
from handoff_lab.cli.modules import find_dag, load_module

HEAD = "import handoff_lab as hl\n"
ONE = "dag = hl.DAG('one').add(hl.Function('a', lambda: 1))\n"
TWO = "other = hl.DAG('two').add(hl.Function('b', lambda: 2))\n"
MARKED = "@hl.function(cost={'cpu': 1})\ndef a():\n    return 1\n\n@hl.function\ndef b(a):\n    return a + 1\n"


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def load(source: str) -> ModuleType:
        path = tmp_path / "defines_a_dag.py"
        path.write_text(HEAD + source)
        return load_module(path)

    yield load
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_the_only_dag_of_a_module(load: Callable[[str], ModuleType]) -> None:
    assert find_dag(load(ONE)).name == "one"


def test_a_dag_with_two_names_is_one(load: Callable[[str], ModuleType]) -> None:
    assert find_dag(load(ONE + "again = dag\n")).name == "one"


def test_of_several_one_is_chosen_by_its_variable(load: Callable[[str], ModuleType]) -> None:
    module = load(ONE + TWO)
    assert find_dag(module, "other").name == "two"
    with pytest.raises(HandoffError, match=r"several DAGs: choose with --dag one of dag, other"):
        find_dag(module)
    with pytest.raises(HandoffError, match=r"has no DAG 'third'; it has dag, other"):
        find_dag(module, "third")


def test_marked_functions_form_one(load: Callable[[str], ModuleType]) -> None:
    dag = find_dag(load(MARKED))
    assert list(dag.functions) == ["a", "b"]
    assert dag.dependencies("b") == ("a",)


def test_a_module_without_any_is_refused(load: Callable[[str], ModuleType]) -> None:
    with pytest.raises(HandoffError, match="has no DAG: make one"):
        find_dag(load("x = 1\n"))


def test_what_lies_beside_the_file_can_be_imported(load: Callable[[str], ModuleType], tmp_path: Path) -> None:
    (tmp_path / "beside_the_dag.py").write_text("NAME = 'from beside'\n")
    module = load("import beside_the_dag\ndag = hl.DAG(beside_the_dag.NAME).add(hl.Function('a', lambda: 1))\n")
    assert find_dag(module).name == "from beside"
