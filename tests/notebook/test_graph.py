"""A graph that knows which cell defined what."""

from __future__ import annotations

import pickle
from contextlib import contextmanager

import pytest

from handoff_lab import DuplicateFunctionError, Function
from handoff_lab.notebook.graph import Cell, NotebookDAG

A, B = Cell("a", "In [1]"), Cell("b", "In [2]")


def f(id: str, *args: str) -> Function:
    return Function(id, print, args)


@pytest.fixture
def dag():
    return NotebookDAG()


@contextmanager
def cell(dag: NotebookDAG, which: Cell):
    dag.open_cell(which)
    try:
        yield
    except BaseException:
        dag.close_cell(keep=False)
        raise
    dag.close_cell(keep=True)


def test_a_cell_run_again_replaces_in_place(dag):
    with cell(dag, A):
        dag.add(f("x"), f("y"))
    with cell(dag, B):
        dag.add(f("z"))
    again = f("x")
    with cell(dag, A):
        dag.add(again, f("y"))
    assert list(dag) == ["x", "y", "z"]
    assert dag["x"] is again


def test_what_is_defined_no_more_is_gone(dag):
    with cell(dag, A):
        dag.add(f("x"), f("y"))
    with cell(dag, A):
        dag.add(f("y"))
    assert list(dag) == ["y"]


def test_a_failed_cell_leaves_functions_owners_and_setup_as_they_were(dag):
    with cell(dag, A):
        dag.add(f("x")).set_up("import os")
    before = dag.copy()
    with pytest.raises(ZeroDivisionError), cell(dag, B):
        dag.remove("x").add(f("x"), f("q")).set_up("import sys")
        1 / 0
    assert dag.functions == before.functions
    assert dag.setup == ("import os",)
    with cell(dag, A):
        dag.add(f("x"))  # still its own


def test_the_first_of_a_refused_pair_is_not_added_either(dag):
    with cell(dag, A):
        dag.add(f("x"))
    with cell(dag, B):
        with pytest.raises(DuplicateFunctionError):
            dag.add(f("new"), f("x"))
        with pytest.raises(DuplicateFunctionError):
            dag.add(f("new"), f("new"))
        assert list(dag) == ["x"]
        assert dag.defined == ()


def test_a_conflict_names_both_cells(dag):
    with cell(dag, A):
        dag.add(f("x"))
    with (
        cell(dag, B),
        pytest.raises(DuplicateFunctionError, match=r"In \[1\], cell a, and again in In \[2\], cell b\)"),
    ):
        dag.add(f("x"))


def test_a_removed_id_is_free_for_another_cell(dag):
    with cell(dag, A):
        dag.add(f("x"))
    with cell(dag, B):
        dag.remove("x").add(f("x"))
    assert list(dag) == ["x"]


def test_another_cell_may_replace_on_purpose(dag):
    with cell(dag, A):
        dag.add(f("x"))
    other = f("x")
    with cell(dag, B):
        dag.replace(other)
    assert dag["x"] is other


def test_outside_of_cells_it_is_a_plain_dag(dag):
    dag.add(f("x"))
    with pytest.raises(DuplicateFunctionError):
        dag.add(f("x"))


def test_setup_cells_keep_their_order_and_go_with_their_cell(dag):
    for which, source in ((A, "a = 1"), (B, "b = 1"), (A, "a = 2")):
        with cell(dag, which):
            dag.set_up(source)
    assert dag.setup == ("a = 2", "b = 1")
    with cell(dag, A):
        pass
    assert dag.setup == ("b = 1",)


def test_cells_nest(dag):
    with cell(dag, A):
        dag.add(f("x"))
        with cell(dag, B):
            dag.add(f("y"))
        assert [function.id for function in dag.defined] == ["x"]
    with cell(dag, A):
        pass
    assert list(dag) == ["y"]


def test_it_tells_whether_anything_changed(dag):
    dag.open_cell(A)
    assert dag.close_cell(keep=True) is False
    dag.open_cell(A)
    dag.add(f("x"))
    assert dag.close_cell(keep=True) is True


def test_it_pickles_as_a_graph(dag):
    with cell(dag, A):
        dag.add(f("x"))
        assert list(pickle.loads(pickle.dumps(dag))) == ["x"]
