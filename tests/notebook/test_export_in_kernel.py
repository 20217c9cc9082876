"""What a graph looks like as a module, and what cannot be written as one."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.real

WORLD = """
import os.path
import numpy as np
from collections import Counter as Tally
from dataclasses import dataclass
from functools import lru_cache
import handoff_lab as hl
LIMITS = {"low": 0, "high": [1.5, None]}
@dataclass
class Item:
    size: int
def _root(x):
    return x ** (0.5 * np.pi)
def _pack(value, source, target):
    return [value]
"""
GRAPH = """%%handoff --cpu 0.5
def load(path, scale: float = 2.0) -> np.ndarray:
    return _root(scale) * Tally(os.path.basename(path))["a"]

@hl.function(id="second", args=[hl.Argument("load", serialize=_pack)], extra_args=[(1,), "x"], kwargs={"k": b"y"},
             retry_on=(ValueError, KeyError), node=hl.collocated("load"), cost={"memory": "2GiB", "gpu": 1})
def other(loaded, pair, text, k):
    return LIMITS, _pack

@dag.function(type="inline")
def now(): return 1

@hl.function(args={"a": "second", "b": "now"}, timeout=3)
def last(a, b): return a
"""


def test_everything_comes_back_as_it_was(notebook, folder):
    notebook.ok(WORLD)
    notebook.ok(GRAPH, "A")
    notebook.ok("before = dag.copy()\n%handoff export world.py")
    source = (folder / "world.py").read_text(encoding="utf-8")
    for line in ("import numpy as np", "import os", "from collections import Counter as Tally"):
        assert line in source
    assert "dataclass" not in source  # nobody uses it
    notebook.ok("%handoff reset")
    notebook.ok("%handoff import world.py")
    assert notebook.value("list(before) == list(dag)") == "True"
    assert notebook.value("before.diff(dag)") == "Difference(added=(), removed=(), changed=())"
    assert notebook.value("last(1, 2), other(1, 2, 3, 4)[0]['low']") == "1 0"


def test_a_class_of_the_notebook_is_written_too(notebook, folder):
    notebook.ok(WORLD)
    notebook.ok("%%handoff\n@lru_cache\ndef _item(size): return Item(size)\ndef item(): return _item(3)", "A")
    notebook.ok("%handoff export item.py")
    source = (folder / "item.py").read_text(encoding="utf-8")
    assert "@dataclass\nclass Item:\n    size: int\n" in source
    assert "@lru_cache\ndef _item" in source
    assert source.index("class Item") < source.index("def _item")


def test_functions_of_the_graph_may_call_each_other_and_have_other_names(notebook, folder):
    notebook.ok("def _helper(): return 1\nalias = _helper", "A")
    notebook.ok(
        "%%handoff\ndef first(): return alias()\ndef second(first): return _again()\ndef _again(): return first()", "B"
    )
    notebook.ok("%handoff export calls.py\n%handoff reset\n%handoff import calls.py")
    assert notebook.value("first(), second(0), list(dag)") == "1 1 ['first', 'second']"
    source = (folder / "calls.py").read_text(encoding="utf-8")
    assert source.count("def first") == source.count("def _helper") == 1


def test_what_was_imported_can_be_exported_again(notebook, folder):
    first = "import handoff_lab as hl\nK = 2\ndef _twice(x): return K * x\n@hl.function\ndef two(): return _twice(1)\n"
    (folder / "first.py").write_text(first)
    notebook.ok("%handoff import first.py")
    notebook.ok("%handoff export second.py")
    source = (folder / "second.py").read_text(encoding="utf-8")
    assert "K = 2" in source
    assert "def _twice" in source
    assert "first" not in source


@pytest.mark.parametrize(
    ("cell", "complaint"),
    [
        ("dag.add(hl.Function('f', lambda: 1));", "'f' cannot be exported"),
        ("dag.add(hl.Function('f', sum, args=['xs']), hl.Function('xs', list));", "write it as a def"),
        (
            "table = object()\n@dag.function\ndef f(): return table",
            "'f' cannot be exported: it uses a value of type object",
        ),
        ("dag.add(hl.Function('xs', type='input'));", "the input 'xs' cannot be exported"),
        ("def f(): ...\ndag.add(hl.Function('a', f), hl.Function('b', f));", "'a' is made of f too"),
        ("sys = 3\n@dag.function\ndef f(): return sys", "two things are called 'sys'"),
        ("def make(k):\n    def f(): return k\n    return f\ndag.function(make(1));", "not defined at the top"),
    ],
)
def test_what_cannot_be_written_is_named(notebook, folder, cell, complaint):
    notebook.ok("import handoff_lab as hl")
    notebook.ok(cell, "A")
    assert complaint in notebook.refused("%handoff export nothing.py")
    assert not (folder / "nothing.py").exists()
