"""What changed, and what is out of date."""

from __future__ import annotations

import pytest

from handoff_lab import DAG, Function
from handoff_lab.notebook.freshness import Change, Freshness


def diamond(**code: object) -> DAG:
    codes = {"a": lambda: 1, "b": lambda a: a, "c": lambda a: a, "d": lambda b, c: b + c} | code
    needs = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}
    return DAG("diamond").add(*(Function(id, codes[id], needs[id]) for id in codes))


@pytest.fixture
def seen():
    freshness = Freshness()
    freshness.update(diamond(), "")
    return freshness


def test_everything_is_added_at_first():
    change = Freshness().update(diamond(), "")
    assert change == Change(added=("a", "b", "c", "d"), changed=(), removed=(), stale=(), inputs=())


def test_an_edit_makes_it_and_its_descendants_stale(seen):
    change = seen.update(diamond(b=lambda a: a + 1), "")
    assert (change.changed, change.stale) == (("b",), ("b", "d"))


def test_an_edit_taken_back_is_no_edit(seen):
    seen.update(diamond(b=lambda a: a + 1), "")
    assert seen.update(diamond(), "").stale == ()


def test_a_run_makes_fresh_what_it_ran(seen):
    edited = diamond(b=lambda a: a + 1)
    seen.update(edited, "")
    seen.submitted(edited, "", ["a", "b"])
    assert seen.stale(edited, "") == ("d",)
    seen.submitted(edited, "", ["a", "b", "c", "d"])
    assert seen.stale(edited, "") == ()


def test_another_setup_makes_everything_stale_that_was_run(seen):
    seen.submitted(diamond(), "", ["a", "b"])
    assert seen.update(diamond(), "import os").stale == ("a", "b")


def test_a_cost_changes_the_function_but_not_its_result(seen):
    dag = diamond()
    dag.replace(dag["b"].replace(cost={"cpu": 3}))
    change = seen.update(dag, "")
    assert (change.changed, change.stale) == (("b",), ())


def test_a_removed_function(seen):
    dag = diamond().remove("d")
    assert seen.update(dag, "").removed == ("d",)


def test_a_constant_that_changes_under_a_function():
    scope: dict[str, object] = {"k": 1}
    exec("def scale(x): return x * k", scope)
    dag = DAG().add(Function("scale", scope["scale"], args=None))  # type: ignore[arg-type]
    freshness = Freshness()
    freshness.update(dag, "")
    scope["k"] = 2
    assert freshness.stale(dag, "") == ("scale",)


def test_a_cell_with_many_functions_has_a_short_line():
    ids = tuple(f"f{i}" for i in range(100))
    line = Change(added=ids, changed=(), removed=(), stale=(), inputs=()).line()
    assert line == "added f0, f1, f2, f3, f4, f5, f6, f7 and 92 more"


def test_no_change_says_so():
    assert Change((), (), (), (), ()).line() == "no function changed"
