"""Arguments that come from the names of parameters."""

from __future__ import annotations

import pytest

from handoff_lab._errors import InvalidFunctionError
from handoff_lab.graph import DAG, Function


def infer(code: object, **options: object) -> Function:
    return Function("f", code, None, **options)  # type: ignore[arg-type]


def test_parameters_become_arguments_by_name() -> None:
    function = infer(lambda a, b, *, c: None)
    assert function.args == ("a", "b", "c")
    assert function.parameters == ("a", "b", "c")


def test_given_args_turn_it_off() -> None:
    assert Function("f", lambda a: None).args == ()
    assert Function("f", lambda a: None, ["x"]).args == ("x",)


def test_variadic_parameters_are_left_out() -> None:
    assert infer(lambda a, *rest, **more: None).args == ("a",)


def test_kwargs_are_not_inferred() -> None:
    assert infer(lambda a, k: None, kwargs={"k": 2}).args == ("a",)


def test_extra_args_fill_the_last_parameters() -> None:
    function = infer(lambda xs, k: None, extra_args=[2])
    assert function.args == ("xs",)
    assert function.parameters is None


def test_more_extra_args_than_parameters_leave_none() -> None:
    assert infer(lambda *rest: None, extra_args=[1, 2]).args == ()


def test_extra_args_cannot_skip_a_default() -> None:
    with pytest.raises(InvalidFunctionError, match="cannot skip parameter 'y'"):
        infer(lambda x, y=1, z=2: None, extra_args=[3])


def test_positional_only_parameters_go_by_position() -> None:
    def code(a: int, b: int, /, c: int) -> None: ...

    function = infer(code)
    assert function.args == ("a", "b", "c")
    assert function.parameters is None


def test_position_and_keyword_only_cannot_mix() -> None:
    def code(a: int, /, *, c: int) -> None: ...

    with pytest.raises(InvalidFunctionError, match="'c' is keyword-only"):
        infer(code)
    assert infer(code, kwargs={"c": 1}).args == ("a",)


def test_kwargs_cannot_stand_before_a_position() -> None:
    def code(a: int, b: int, c: int) -> None: ...

    with pytest.raises(InvalidFunctionError, match="kwargs gives a parameter that stands before"):
        infer(code, kwargs={"a": 1}, extra_args=[3])


def test_the_state_of_a_stream_is_no_argument() -> None:
    assert infer(lambda state, x: None, init=list).args == ("x",)


def test_code_without_a_signature_asks_for_args() -> None:
    with pytest.raises(InvalidFunctionError, match=r"args=\[\.\.\.\]"):
        infer(min)


def test_a_default_stays_until_a_function_has_the_name() -> None:
    dag = DAG().add(infer(lambda x, scale=2: None), Function("x", lambda: 1))
    assert dag["f"].args == ("x",)
    dag.add(Function("scale", lambda: 3))
    assert dag["f"].args == ("x", "scale")
    assert dag["f"].parameters == ("x", "scale")
    dag.remove("scale")
    assert dag["f"].args == ("x",)


def test_a_default_before_a_filled_parameter_can_stay_by_name() -> None:
    dag = DAG().add(infer(lambda a=1, b=2: None), Function("b", lambda: 3))
    assert dag["f"].args == ("b",)
    assert dag["f"].parameters == ("b",)


def test_a_default_by_position_cannot_be_skipped() -> None:
    def code(a: int = 1, b: int = 2, /) -> None: ...

    dag = DAG().add(infer(code), Function("b", lambda: 3))
    assert dag["f"].args == ()
    assert dag.add(Function("a", lambda: 3))["f"].args == ("a", "b")


def test_a_default_of_its_own_name_is_no_circle() -> None:
    assert DAG().add(infer(lambda x, f=None: None)).validate()["f"].args == ("x",)


def test_a_name_without_producer_is_an_input() -> None:
    dag = DAG().add(infer(lambda path, agg: None), Function("agg", lambda: 1)).validate()
    assert dag["path"].type == "input"
    assert set(dag) == {"path", "agg", "f"}
    dag.add(Function("path", lambda: "here"))
    assert dag["path"].type == "regular"


def test_a_name_without_producer_in_given_args_is_missing() -> None:
    with pytest.raises(KeyError):
        DAG().add(Function("f", lambda path: None, ["path"])).validate()


def test_replacing_infers_again() -> None:
    function = infer(lambda a, b=1: None)
    assert function.replace(code=lambda c: None).args == ("c",)
    assert function.replace(args=["z"]).inferred is None
    resolved = DAG().add(function, Function("b", lambda: 1))["f"]
    assert DAG().add(resolved.replace(cost={"cpu": 1}))["f"].args == ("a",)
