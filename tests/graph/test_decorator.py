"""``@dag.function``, ``@hl.function`` and ``DAG.from_module``."""

from __future__ import annotations

import linecache
from functools import partial
from types import FunctionType, ModuleType
from typing import Any

import cloudpickle
import pytest

from handoff_lab._errors import DuplicateFunctionError, InvalidFunctionError
from handoff_lab.graph import DAG, function


def run_cell(source: str, namespace: dict[str, Any], filename: str) -> None:
    """Run ``source`` as a notebook runs a cell."""
    namespace.setdefault("__name__", "__main__")
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    exec(compile(source, filename, "exec"), namespace)


def test_the_name_stays_the_plain_function() -> None:
    dag = DAG()

    @dag.function
    def agg(xs: list[int]) -> int:
        return sum(xs)

    assert isinstance(agg, FunctionType)
    assert agg([1, 2]) == 3
    assert dag["agg"].code is agg
    assert dag["agg"].args == ("xs",)


def test_options_are_those_of_function() -> None:
    dag = DAG()

    @dag.function(cost={"cpu": 1, "memory": "500MB"}, max_retries=2, timeout=30, id="final", args=["a", "b"])
    def report(*values: int) -> int:
        return sum(values)

    made = dag["final"]
    assert (dict(made.cost), made.max_retries, made.timeout) == ({"cpu": 1, "memory": 500}, 2, 30)
    assert (made.args, made.inferred) == (("a", "b"), None)
    assert "report" not in dag


@pytest.mark.parametrize("decorate", [DAG().function, function])
def test_what_has_no_name_asks_for_an_id(decorate: Any) -> None:
    with pytest.raises(InvalidFunctionError, match=r"it has no name to go by; give it one with id=\.\.\."):
        decorate(partial(max, 1))


def test_what_has_no_name_goes_by_the_id_given() -> None:
    dag = DAG()
    dag.function(id="most", args=["a"])(partial(max, 1))
    assert "most" in dag


def test_an_unknown_option_is_a_type_error_and_adds_nothing() -> None:
    dag = DAG()
    with pytest.raises(TypeError, match="did you mean 'cost'"):

        @dag.function(costs={"cpu": 1})  # type: ignore[call-overload,untyped-decorator]
        def report() -> None: ...

    assert len(dag) == 0


def test_two_definitions_in_one_source_are_a_duplicate() -> None:
    dag = DAG()

    @dag.function
    def report() -> int:
        return 1

    first = report
    with pytest.raises(DuplicateFunctionError) as caught:

        @dag.function
        def report() -> int:
            return 2

    assert caught.value.id == "report"
    assert dag["report"].code is first


def test_a_cell_run_again_replaces_its_function() -> None:
    dag = DAG()
    namespace: dict[str, Any] = {"dag": dag}
    cell = "@dag.function\ndef report():\n    return 1\n"
    run_cell(cell, namespace, "<cell 1>")
    run_cell(cell, namespace, "<cell 1>")
    assert dag["report"].code() == 1  # type: ignore[misc]
    run_cell("# edited\n" + cell.replace("1", "2"), namespace, "<cell 2>")
    assert dag["report"].code() == 2  # type: ignore[misc]
    assert len(dag) == 1


def test_a_function_of_another_module_is_a_duplicate() -> None:
    dag = DAG()
    cell = "@dag.function\ndef report():\n    return 1\n"
    run_cell(cell, {"dag": dag, "__name__": "one"}, "<one>")
    with pytest.raises(DuplicateFunctionError):
        run_cell(cell, {"dag": dag, "__name__": "other"}, "<other>")


def make_module() -> ModuleType:
    module = ModuleType("pipeline")
    source = """
from handoff_lab.graph import function

@function
def load(path):
    return [1, 2, 3]

@function(cost={"cpu": 2}, id="total")
def agg(load):
    return _clip(sum(load))

def _clip(x):
    return x

alias = agg
"""
    run_cell(source, vars(module), "<pipeline>")
    return module


def test_from_module_takes_the_marked_functions_once() -> None:
    dag = DAG.from_module(make_module()).validate()
    assert list(dag) == ["path", "load", "total"]
    assert dag.name == "pipeline"
    assert dag["total"].cost["cpu"] == 2
    assert DAG.from_module(make_module(), name="mine").name == "mine"


def test_a_mark_is_checked_where_it_stands() -> None:
    with pytest.raises(InvalidFunctionError, match="zero or more"):

        @function(timeout=-1)
        def report() -> None: ...


def test_a_marked_function_is_plain_and_travels() -> None:
    @function(cost={"cpu": 1})
    def triple(x: int) -> int:
        return 3 * x

    assert triple(2) == 6
    assert cloudpickle.loads(cloudpickle.dumps(triple))(2) == 6
