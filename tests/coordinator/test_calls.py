"""What a node is told to call: code by key, constants pickled at the moment of the submission."""

from __future__ import annotations

import pickle
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle
import pytest

from handoff_lab.coordinator.request import Prepared, Request, prepare
from handoff_lab.graph import DAG, Argument, Function
from handoff_lab.messages import Attempt, AttemptId, Constant, Failure, FailureKind, Recipe, Source, Start, Use


def prepared(*functions: Function, pickle: bool = True, **options: Any) -> Prepared:
    return prepare(Request.make(DAG().add(*functions), None, **options), pickle=pickle, by_value=(), given={})


def attempt(prepared: Prepared, id: str, elsewhere: bool = True, granted: bool = True) -> Attempt | Failure:
    program = prepared.state.program
    index = program.index[id]
    sources = tuple((AttemptId(program.run, i, 1), "m") for i in program.functions[index].inputs)
    start = Start(AttemptId(program.run, index, 1), "n", sources, 2.0, granted)
    return prepared.state.calls.attempt(start, "", elsewhere)


def recipe(prepared: Prepared, id: str, elsewhere: bool = True) -> Any:
    made = attempt(prepared, id, elsewhere)
    assert isinstance(made, Attempt)
    return pickle.loads(made.recipe) if isinstance(made.recipe, bytes) else made.recipe


def test_an_attempt_says_how_the_function_runs() -> None:
    run = prepared(
        Function("a", list),
        Function("b", len, ["a"], cost={"cpu": 1}, timeout=3.0, runs_in="kernel", retry_on=OSError),
        setup=["import this"],
    )
    made = attempt(run, "b", granted=False)
    assert isinstance(made, Attempt)
    assert (made.node, made.label, made.cost, made.priority, made.timeout_s) == ("n", "b", {"cpu": 1}, 2.0, 3.0)
    assert (made.runs_in, made.granted, made.recipe) == ("kernel", False, None)
    assert made.inputs == (Source(AttemptId(run.state.id, 0, 1), "m"),)
    code, retry_on, setup = made.codes[0], made.retry_on, made.setup[0]
    assert [run.codes.codes[key].value for key in (code, retry_on or "", setup)] == [len, OSError, "import this"]


def test_functions_that_are_called_alike_share_their_parts() -> None:
    run = prepared(*(Function(f"f{i}", len, extra_args=[i], cost={"cpu": 1}) for i in range(3)))
    made = [attempt(run, f"f{i}") for i in range(3)]
    assert len({id(one.codes) for one in made if isinstance(one, Attempt)}) == 1
    assert len({id(one.cost) for one in made if isinstance(one, Attempt)}) == 1


def test_one_that_runs_otherwise_shares_nothing() -> None:
    run = prepared(Function("quick", len, timeout=1.0), Function("slow", len), Function("other", max))
    made = {id: attempt(run, id) for id in ("quick", "slow", "other")}
    assert {id: one.timeout_s for id, one in made.items() if isinstance(one, Attempt)} == {
        "quick": 1.0, "slow": None, "other": None,
    }  # fmt: skip
    assert len({one.codes for one in made.values() if isinstance(one, Attempt)}) == 2


class TestConstants:
    PARTS = (Function("a", list), Function("b", list))

    def test_after_the_inputs_are_a_plain_tuple(self) -> None:
        run = prepared(*self.PARTS, Function("f", max, ["a", Argument("b")], extra_args=[1, "two"]))
        assert recipe(run, "f") == (1, "two")

    def test_in_this_process_are_a_recipe_of_the_very_objects(self) -> None:
        value = object()
        run = prepared(*self.PARTS, Function("f", max, ["a", "b"], extra_args=[value]), pickle=False)
        assert recipe(run, "f", elsewhere=False) == Recipe((Use(0), Use(1), Constant(value)))

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({"args": ["a", "a"], "extra_args": [1]}, Recipe((Use(0), Use(0), Constant(1)))),
            ({"args": ["a"], "kwargs": {"k": 1}}, Recipe((Use(0),), (("k", Constant(1)),))),
            ({"args": {"p": "a"}, "extra_args": [1]}, Recipe((Constant(1),), (("p", Use(0)),))),
            ({"args": ["a", "b"], "argument_inclusion": "as_list"}, Recipe(((Use(0), Use(1)),))),
            ({"args": [Argument("a", deserialize=max)]}, Recipe((Use(0, 1),))),
        ],
        ids=["twice", "by name", "by parameter", "as a list", "deserialized"],
    )
    def test_anywhere_else_take_a_recipe(self, options: dict[str, Any], expected: Recipe) -> None:
        def code(*args: Any, p: Any = None, k: Any = None) -> None: ...

        run = prepared(*self.PARTS, Function("f", code, **options))
        assert recipe(run, "f") == recipe(run, "f", elsewhere=False) == expected

    def test_an_inline_producer_takes_a_recipe(self) -> None:
        run = prepared(Function("a", list, type="inline"), Function("f", max, ["a"], extra_args=[1]))
        assert isinstance(recipe(run, "f"), Recipe)

    def test_are_those_of_the_moment_of_submission(self) -> None:
        value = [1]
        run = prepared(Function("f", len, extra_args=[value]))
        value.append(2)
        assert recipe(run, "f") == ([1],)

    def test_that_cannot_be_pickled_fail_their_own_function_only(self) -> None:
        lock = threading.Lock()
        run = prepared(Function("good", len, extra_args=[1]), Function("bad", len, extra_args=[lock]))
        failure = attempt(run, "bad")
        assert isinstance(failure, Failure)
        assert (failure.kind, failure.retryable) == (FailureKind.CODE, False)
        assert "its arguments cannot be pickled" in failure.message
        assert recipe(run, "good") == (1,)
        assert recipe(run, "bad", elsewhere=False) == Recipe((Constant(lock),))

    def test_of_a_lambda_travel_by_value(self) -> None:
        run = prepared(Function("f", max, extra_args=[lambda: 42]))
        assert recipe(run, "f")[0]() == 42


@pytest.fixture(params=["__main__", "by value"])
def unknown_module(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """A module that other processes cannot import."""
    if request.param == "__main__":
        yield sys.modules["__main__"]
        return
    module = types.ModuleType("only_here")
    monkeypatch.setitem(sys.modules, "only_here", module)
    cloudpickle.register_pickle_by_value(module)
    yield module
    cloudpickle.unregister_pickle_by_value(module)


def test_classes_that_others_cannot_import_travel_by_value(
    unknown_module: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = type("Point", (), {"__module__": unknown_module.__name__, "x": 3})
    monkeypatch.setattr(unknown_module, "Point", kind, raising=False)
    run = prepared(Function("f", max, extra_args=[kind()]))
    monkeypatch.delattr(unknown_module, "Point")
    assert recipe(run, "f")[0].x == 3


@pytest.mark.parametrize(
    ("code", "broken"), [(len, False), (threading.Lock().acquire, True)], ids=["plain", "unpicklable"]
)
def test_code_that_cannot_be_pickled_fails_elsewhere_only(code: Callable[..., Any], broken: bool) -> None:
    run = prepared(Function("f", code))
    assert isinstance(attempt(run, "f"), Failure) is broken
    assert isinstance(attempt(run, "f", elsewhere=False), Attempt)


@pytest.mark.parametrize(("id", "label"), [("\udcff.txt", "\\udcff.txt"), ("x" * 300, "x" * 200)])
def test_an_id_of_any_text_has_a_label_that_can_be_sent(id: str, label: str) -> None:
    made = attempt(prepared(Function(id, len)), id)
    assert isinstance(made, Attempt)
    assert made.label == label
