"""One attempt in this process: recipes, and everything a function can end with."""

from __future__ import annotations

import pickle
import sys
import traceback

import cloudpickle
import numpy as np
import pytest

from handoff_lab.messages import (
    Constant,
    Evaluate,
    Failure,
    FailureKind,
    Recipe,
    Use,
)
from handoff_lab.node.execution import Outcome, Sourced, evaluate, execute


def failure(function: object, *inputs: object, **options: object) -> Failure:
    outcome = execute(None, [function], inputs, **options)  # type: ignore[arg-type]
    assert isinstance(outcome, Failure)
    return outcome


def test_without_a_recipe_the_inputs_are_the_arguments() -> None:
    assert execute(None, [lambda a, b: a - b], [5, 3]) == Outcome(2)


def test_terms_become_arguments_in_order_and_by_name() -> None:
    recipe = Recipe((Use(1), Constant(7), (Use(0), Constant(1))), (("k", Use(0)), ("l", (Use(1),))))

    def function(a: int, b: int, c: list[int], *, k: int, l: list[int]) -> tuple[object, ...]:  # noqa: E741
        return a, b, c, k, l

    assert evaluate(recipe, [function], [10, 20], ["n", "n"], "n") == (20, 7, [10, 1], 10, [20])


def test_deserialize_is_given_the_nodes_of_producer_and_consumer() -> None:
    recipe = Recipe((Use(0, deserialize=1), Use(1)))
    codes = [lambda a, b: (a, b), lambda value, source, target: (value, source, target)]
    outcome = execute(recipe, codes, ["x", "y"], sources=("alpha", "gamma"), target="beta")
    assert outcome == Outcome((("x", "alpha", "beta"), "y"))


def test_an_inline_function_is_evaluated_once_per_dependent() -> None:
    calls: list[str] = []

    def top(a: int, b: int, c: int) -> tuple[int, int, int]:
        return a, b, c

    def middle(x: int) -> int:
        calls.append("middle")
        return x * 10

    def leaf() -> int:
        calls.append("leaf")
        return len(calls)

    leaf_term = Evaluate(2, Recipe())
    recipe = Recipe((leaf_term, leaf_term, Evaluate(1, Recipe((leaf_term,)))))
    evaluate(recipe, [top, middle, leaf], [], [], "n")
    # `top` names the leaf twice and `middle` once: two dependents, two evaluations.
    assert calls == ["leaf", "leaf", "middle"]


def test_an_exception_becomes_a_failure_that_tells_where() -> None:
    def divide(x: int, k: int) -> float:
        return x / k

    story = failure(divide, 1, 0)
    assert story.kind is FailureKind.EXCEPTION
    assert story.message == "ZeroDivisionError: division by zero"
    assert story.type_name == "ZeroDivisionError"
    assert story.inputs == "x=1, k=0"
    assert story.retryable
    assert "return x / k" in story.traceback
    assert "node/execution.py" not in story.traceback
    assert story.exception is not None
    assert isinstance(pickle.loads(story.exception), ZeroDivisionError)


def test_an_exception_in_an_inline_function_shows_no_frames_of_ours() -> None:
    outcome = execute(Recipe((Evaluate(1, Recipe()),)), [abs, lambda: {}[1]], [])
    assert isinstance(outcome, Failure)
    assert "KeyError" in outcome.traceback
    assert "node/execution.py" not in outcome.traceback


@pytest.mark.parametrize(
    ("retry_on", "retryable"), [(ValueError, False), ((KeyError, ZeroDivisionError), True), (Exception, True)]
)
def test_only_exceptions_of_retry_on_are_worth_another_attempt(retry_on: object, retryable: bool) -> None:
    assert failure(lambda: 1 / 0, retry_on=retry_on).retryable is retryable


def test_sys_exit_is_a_failure_that_says_so_and_is_not_tried_again() -> None:
    story = failure(lambda: sys.exit(3))
    assert story.message == "SystemExit: it called sys.exit(3)"
    assert not story.retryable


def test_endless_recursion_is_a_failure_with_a_short_traceback() -> None:
    def down(n: int) -> int:
        return down(n + 1)

    story = failure(down, 0)
    assert story.type_name == "RecursionError"
    assert len(story.traceback.splitlines()) < 40


def test_an_exception_that_does_not_survive_pickling_is_told_in_words() -> None:
    class NeedsTwoError(Exception):
        def __init__(self, a: int, b: int) -> None:
            super().__init__(f"{a} and {b}")

    def function() -> None:
        raise NeedsTwoError(1, 2)

    story = failure(function)
    assert story.exception is None
    assert story.message.endswith("1 and 2")


def test_a_bad_repr_does_not_hurt_the_summary() -> None:
    class Bad:
        def __repr__(self) -> str:
            raise ValueError

    story = failure(lambda x, bad, **rest: 1 / 0, np.zeros((100, 3)), Bad())
    assert story.inputs.startswith("x=array(100, 3) float64, bad=<Bad instance")


def test_the_summary_is_bounded() -> None:
    assert len(failure(lambda *xs: 1 / 0, *["y" * 1000] * 100).inputs) <= 400


def test_arguments_that_do_not_fit_are_a_failure_of_the_call() -> None:
    story = failure(lambda a, b: None, 1)
    assert "missing 1 required positional argument: 'b'" in story.message
    assert story.inputs == "a=1"


def test_code_with_its_source_shows_its_lines_where_the_file_is_missing() -> None:
    text = "def broken(x):\n    # the culprit\n    return x['no']\n"
    names: dict[str, object] = {"__name__": "__main__"}
    exec(compile(text, "<cell 1 of a test>", "exec"), names)
    arrived = pickle.loads(cloudpickle.dumps(Sourced(names["broken"], "<cell 1 of a test>", text)))
    assert "return x['no']" in failure(arrived, {}).traceback


def test_execute_leaves_no_reference_to_the_exception_behind() -> None:
    failure(lambda: 1 / 0)
    assert sys.exc_info() == (None, None, None)
    assert "division" not in traceback.format_exc()
