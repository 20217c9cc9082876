"""What a function may say, and what it is refused for."""

from __future__ import annotations

import inspect
import math
import pickle
from fractions import Fraction
from typing import Any

import cloudpickle
import numpy as np
import pytest

from handoff_lab._errors import InvalidFunctionError, ResourceError
from handoff_lab.graph import Argument, Collocated, Function, collocated


def double(x: int) -> int:
    return 2 * x


def test_defaults_are_those_of_the_design() -> None:
    signature = inspect.signature(Function)
    defaults = {n: p.default for n, p in signature.parameters.items() if p.kind is not p.VAR_KEYWORD and n != "id"}
    assert defaults == {
        "code": None,
        "args": (),
        "extra_args": (),
        "kwargs": None,
        "cost": None,
        "node": None,
        "type": "regular",
        "argument_inclusion": "variadic",
        "max_retries": None,
        "retry_on": Exception,
        "retry_delay": 0.0,
        "timeout": None,
        "runs_in": "process",
        "cache": False,
        "duration": None,
        "output_size": None,
        "group": None,
        "over": None,
        "chunksize": None,
        "init": None,
        "parallelism": 1,
        "batch_size": None,
        "batch_timeout": None,
    }


def test_all_but_id_code_and_args_go_by_keyword() -> None:
    with pytest.raises(TypeError, match="positional"):
        Function("f", double, [], [2])  # type: ignore[misc]


@pytest.mark.parametrize(
    ("wrong", "meant"), [("max_retry", "max_retries"), ("costs", "cost"), ("extra_arg", "extra_args"), ("nod", "node")]
)
def test_an_unknown_keyword_is_a_type_error_with_a_hint(wrong: str, meant: str) -> None:
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{wrong}'; did you mean '{meant}'"):
        Function("f", double, **{wrong: 1})


def test_an_unknown_keyword_like_no_other_lists_what_there_is() -> None:
    with pytest.raises(TypeError, match="it takes code, args, extra_args"):
        Function("f", double, zzz=1)  # type: ignore[arg-type]


def test_args_are_normalised() -> None:
    function = Function("f", double, ["a", Argument("b", nbytes=3), "a"])
    assert function.arguments == (Argument("a"), Argument("b", nbytes=3), Argument("a"))
    assert function.args == ("a", Argument("b", nbytes=3), "a")
    assert function.dependencies == ("a", "b")
    assert function.parameters is None


def test_args_by_name_keep_their_parameters() -> None:
    function = Function("f", double, {"x": "a", "y": Argument("b")})
    assert function.parameters == ("x", "y")
    assert function.dependencies == ("a", "b")


@pytest.mark.parametrize("id", ["f", 1, ("f", 1), frozenset({1}), Fraction(1, 3)])
def test_any_hashable_value_is_an_id(id: object) -> None:
    assert Function(id, double).id == id


def test_cost_is_parsed() -> None:
    cost = Function("f", double, cost={"cpu": 2, "memory": "2GiB", "fpga": 0.5}).cost
    assert dict(cost) == {"cpu": 2, "memory": pytest.approx(2147.483648), "fpga": 0.5}
    assert not Function("f", double).cost


@pytest.mark.parametrize("cost", [{"cpu": -1}, {"cpu": math.nan}, {"gpu": math.inf}, {"cpu": True}, {"cpu": "two"}])
def test_a_senseless_cost_names_function_resource_and_value(cost: dict[str, float]) -> None:
    ((resource, value),) = cost.items()
    with pytest.raises(InvalidFunctionError) as caught:
        Function("f", double, cost=cost)
    assert caught.value.id == "f"
    assert repr(resource) in str(caught.value)
    assert repr(value) in str(caught.value)
    assert isinstance(caught.value.__cause__, ResourceError)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"code": None}, "give a callable"),
        ({"code": "double"}, "give a callable"),
        ({"args": "abc"}, "args is 'abc'"),
        ({"args": {"a", "b"}}, "no list"),
        ({"args": 3}, "it is a list"),
        ({"args": [[1, 2]]}, "extra_args or kwargs"),
        ({"args": [Function("g", double)]}, "write its id"),
        ({"args": {1: "a"}}, "parameters are strings"),
        ({"args": {"x": "a"}, "kwargs": {"x": 1}}, "both give 'x'"),
        ({"args": {"x": "a"}, "argument_inclusion": "as_list"}, "cannot name parameters"),
        ({"args": {"x": Argument("a", argument_inclusion="as_list")}}, "cannot name parameters"),
        ({"extra_args": "abc"}, "extra_args is 'abc'"),
        ({"kwargs": [1]}, "mapping of parameter name"),
        ({"kwargs": {1: 2}}, "mapping of parameter name"),
        ({"node": 3}, "a node's name"),
        ({"node": ""}, "a node's name"),
        ({"node": collocated("f")}, "collocated with itself"),
        ({"type": "normal"}, "'regular' or 'inline' or 'input'"),
        ({"argument_inclusion": "list"}, "'variadic' or 'as_list'"),
        ({"runs_in": "thread"}, "'process' or 'kernel'"),
        ({"max_retries": -1}, "0 or more"),
        ({"max_retries": 1.5}, "whole number"),
        ({"max_retries": True}, "whole number"),
        ({"retry_on": "ValueError"}, "exception class"),
        ({"retry_on": (ValueError, int)}, "exception class"),
        ({"retry_delay": -0.1}, "zero or more"),
        ({"retry_delay": math.inf}, "finite"),
        ({"timeout": math.nan}, "finite"),
        ({"timeout": "30"}, "finite number"),
        ({"timeout": True}, "finite number"),
        ({"output_size": -1}, "zero or more"),
        ({"duration": -1}, "zero or more"),
        ({"duration": {"alpha": 1.0, "beta": -2}}, "duration on 'beta'"),
        ({"cache": "yes"}, "True or False"),
        ({"group": 3}, "a name or None"),
        ({"init": 3}, "cannot be called"),
        ({"parallelism": 0}, "1 or more"),
        ({"batch_size": 0}, "1 or more"),
        ({"batch_timeout": 1.0}, "without batch_size"),
        ({"type": "inline", "node": "alpha"}, "takes no node"),
        ({"type": "inline", "node": collocated("g")}, "takes no node"),
        ({"type": "inline", "init": list}, "takes no init"),
        ({"type": "input"}, "takes no code"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(options: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidFunctionError, match=said) as caught:
        Function("f", **{"code": double, **options})  # type: ignore[arg-type]
    assert caught.value.id == "f"


@pytest.mark.parametrize(
    "options",
    [{"args": ["a"]}, {"extra_args": [1]}, {"kwargs": {"x": 1}}, {"cost": {"cpu": 1}}, {"node": "a"}, {"init": list}],
)
def test_an_input_takes_nothing_but_its_id(options: dict[str, object]) -> None:
    with pytest.raises(InvalidFunctionError, match=f"takes no {next(iter(options))}"):
        Function("x", type="input", **options)  # type: ignore[arg-type]


def pair(p: int, q: int) -> tuple[int, int]:
    return p, q


@pytest.mark.parametrize(
    "options",
    [
        {"args": {"p": "b"}, "extra_args": [7]},
        {"args": ["b"], "kwargs": {"p": 7}},
        {"extra_args": [1, 2], "kwargs": {"q": 7}},
        {"args": {"p": "b"}, "init": list},
        {"args": ["b", "c"], "argument_inclusion": "as_list", "kwargs": {"p": 7}},
        {"args": [Argument("b", argument_inclusion="as_list")], "kwargs": {"p": 7}},
    ],
)
def test_a_parameter_is_filled_once(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidFunctionError, match=r"gives the parameter '[pq]', which another value fills"):
        Function("a", pair, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"args": {"q": "b"}, "extra_args": [7]},
        {"args": ["b"], "kwargs": {"q": 7}},
        {"args": {"q": "b"}, "init": list},
        {"args": ["b", "c"], "argument_inclusion": "as_list", "kwargs": {"q": 7}},
        {"code": int, "args": ["b"], "kwargs": {"base": 2}},
    ],
)
def test_parameters_filled_once_each_are_fine(options: dict[str, Any]) -> None:
    Function("a", **{"code": pair, **options})


def test_an_unhashable_id_is_refused() -> None:
    with pytest.raises(InvalidFunctionError, match="cannot be hashed"):
        Function(["f"], double)  # type: ignore[arg-type]


def test_numbers_of_other_libraries_become_plain() -> None:
    function = Function(
        "f",
        double,
        timeout=np.float32(2),
        max_retries=np.int64(3),
        output_size=np.int64(10),
        duration={"a": np.int32(4)},
    )
    kinds = [type(v) for v in (function.timeout, function.max_retries, function.output_size, function.duration["a"])]
    assert kinds == [float, int, int, int]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"id": []}, "cannot be hashed"),
        ({"serialize": 3}, "serialize is 3"),
        ({"deserialize": "x"}, "deserialize is 'x'"),
        ({"argument_inclusion": "list"}, "'variadic' or 'as_list'"),
        ({"nbytes": -1}, "nbytes is -1"),
    ],
)
def test_a_senseless_argument_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidFunctionError, match=said):
        Argument(**{"id": "a", **options})  # type: ignore[arg-type]


def test_collocated_is_a_value() -> None:
    assert collocated("a") == Collocated("a")
    assert repr(collocated("a")) == "collocated('a')"
    with pytest.raises(InvalidFunctionError, match="cannot be hashed"):
        collocated([])  # type: ignore[arg-type]


def test_a_function_never_changes() -> None:
    function = Function("f", double)
    with pytest.raises(AttributeError):
        function.id = "g"  # type: ignore[misc]
    with pytest.raises((AttributeError, TypeError)):
        function.colour = "red"  # type: ignore[attr-defined]


def test_what_was_handed_over_can_change_afterwards() -> None:
    args, kwargs = ["a"], {"k": 1}
    function = Function("f", double, args, kwargs=kwargs)
    args.append("b")
    kwargs["k"] = 2
    assert function.args == ("a",)
    assert function.kwargs == {"k": 1}


def test_functions_are_equal_when_they_are_the_same() -> None:
    one, other = Function("f", double), Function("f", double)
    assert one == one  # noqa: PLR0124
    assert one != other
    assert len({one, other}) == 2


def test_replace_checks_and_keeps_the_rest() -> None:
    function = Function("f", double, {"x": "a"}, cost={"cpu": 2}, node="alpha", retry_on=(ValueError,), timeout=3)
    other = function.replace(id="g", cost={"gpu": 1})
    assert (other.id, dict(other.cost)) == ("g", {"gpu": 1})
    assert (other.code, other.args, other.parameters, other.node, other.retry_on, other.timeout) == (
        double, ("a",), ("x",), "alpha", (ValueError,), 3.0,
    )  # fmt: skip
    assert dict(function.cost) == {"cpu": 2}
    with pytest.raises(InvalidFunctionError, match="zero or more"):
        function.replace(timeout=-1)
    with pytest.raises(TypeError, match="did you mean 'timeout'"):
        function.replace(timout=1)


def test_it_travels() -> None:
    function = Function("f", lambda x: x + 1, [Argument("a", serialize=lambda v, s, t: v)], cost={"cpu": 1}, node="n")
    there = pickle.loads(cloudpickle.dumps(function))
    assert there.code(1) == 2
    assert there.arguments[0].serialize(7, "s", "t") == 7
    assert (there.id, there.cost, there.node) == ("f", function.cost, "n")


def test_it_shows_what_was_said() -> None:
    function = Function("f", double, {"x": "a"}, kwargs={"k": 1}, max_retries=0, node=collocated("g"))
    assert (
        repr(function) == "Function('f', double, args={'x': 'a'}, kwargs={'k': 1}, node=collocated('g'), max_retries=0)"
    )
    assert repr(Function("x", type="input")) == "Function('x', type='input')"
    assert repr(Argument("a", nbytes=3)) == "Argument('a', nbytes=3)"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"timeout": 2**65}, "timeout is 36893488147419103232; it must be a finite number, zero or more, and at most"),
        ({"timeout": 1e10}, "at most 1e\\+09"),
        ({"retry_delay": 10**400}, "retry_delay is 1000+\\.\\.\\.; it must be a finite number"),
        ({"batch_size": 1, "batch_timeout": math.inf}, "batch_timeout is inf"),
        ({"max_retries": 2**64}, "a whole number, 0 or more, and at most 9e\\+15"),
        ({"output_size": 1e300}, "at most 9e\\+15"),
        ({"cost": {"cpu": 2**64}}, "cost of 'cpu': 18446744073709551616 must be a finite number"),
        ({"cost": {"cpu": 10**400}}, "cost of 'cpu': 10+ must be a finite number"),
        ({"cost": 5}, "function 'f': 5 is no cost; write a mapping such as {'cpu': 2"),
    ],
)
def test_no_number_is_larger_than_a_message_holds(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidFunctionError, match=said):
        Function("f", double, **options)
