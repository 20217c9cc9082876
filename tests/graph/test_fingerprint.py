"""An edit shows in the fingerprint; what changes nothing does not."""

from __future__ import annotations

import functools
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from handoff_lab.graph import DAG, Argument, Function
from handoff_lab.graph.fingerprint import fingerprint


def compiled(source: str, filename: str = "<cell>", **names: Any) -> Any:
    """The function ``f`` of ``source``, as a notebook would define it."""
    namespace: dict[str, Any] = {"__name__": "__main__", **names}
    exec(compile(source, filename, "exec"), namespace)
    return namespace["f"]


def of(source: str, filename: str = "<cell>", **names: Any) -> str:
    return fingerprint(Function("f", compiled(source, filename, **names)))


@dataclass
class Scale:
    factor: int

    def apply(self, x: int) -> int:
        return self.factor * x


BASE = "def f(x):\n    return x + 1\n"


@pytest.mark.parametrize(
    "same", [BASE, "\n\n" + BASE, "# a comment\n" + BASE, "def f(x):\n\n    return (x + 1)  # one more\n"]
)
def test_layout_comments_and_place_do_not_count(same: str) -> None:
    assert of(same, "<other cell>") == of(BASE)


def test_names_of_local_variables_do_not_count() -> None:
    assert of("def f(x):\n    a = x\n    return a\n") == of("def f(x):\n    b = x\n    return b\n")


@pytest.mark.parametrize(
    "other",
    [
        "def f(x):\n    return x + 2\n",
        "def f(x):\n    return x - 1\n",
        "def f(y):\n    return y + 1\n",
        "def f(x=0):\n    return x + 1\n",
        "def f(*, x):\n    return x + 1\n",
        "def f(x):\n    return (lambda: x + 1)()\n",
    ],
)
def test_an_edit_counts(other: str) -> None:
    assert of(other) != of(BASE)


def test_an_edit_inside_a_nested_function_counts() -> None:
    source = "def f(x):\n    return [(lambda y: y * 2)(i) for i in x]\n"
    assert of(source) != of(source.replace("2", "3"))


def test_helpers_and_constants_of_the_module_count() -> None:
    source = "def g(x):\n    return x * K\ndef f(x):\n    return g(x)\n"
    assert of(source, K=2) == of(source, K=2)
    assert of(source, K=2) != of(source, K=3)
    assert of(source, K=2) != of(source.replace("x * K", "K * x"), K=2)


@pytest.mark.parametrize(
    "source",
    [
        "class C:\n def go(self): return 2\ndef f(): return C().go()\n",
        "class B:\n def go(self): return 2\nclass C(B): pass\ndef f(): return C().go()\n",
        "class C:\n K = [2]\n def go(self): return self.K\ndef f(): return C().go()\n",
        "class C:\n @staticmethod\n def go(): return 2\ndef f(): return C.go()\n",
        "class C:\n @property\n def go(self): return 2\ndef f(): return C().go\n",
        "class C:\n def go(self): return 2\nc = C()\ndef f(): return c.go()\n",
        "class C:\n def go(self): return 2\ndef f(c=C()): return c.go()\n",
        "import functools\n@functools.cache\ndef h(): return 2\ndef f(): return h()\n",
        "import functools\n@functools.cache\ndef f(): return 2\n",
        "import functools\ndef h(x): return x\ng = functools.partial(h, 2)\ndef f(): return g()\n",
        "K = [1, [2]]\ndef f(): return K\n",
        "K = {'a': {2}}\ndef f(): return K['a']\n",
        "class C:\n def __call__(self): return 2\nf = C()\n",
        "class C:\n def __call__(self): return self.go()\n def go(self): return 2\nf = C()\n",
    ],
)
def test_an_edit_of_what_it_uses_counts(source: str) -> None:
    assert of(source) == of("\n" + source)
    assert of(source) != of(source.replace("2", "3"))


def test_classes_that_use_each_other_end() -> None:
    source = "class A:\n def go(self): return B()\nclass B(A):\n def go(self): return A(), B\ndef f(): return A()\n"
    assert of(source) == of(source)


def test_a_constant_that_holds_itself_ends() -> None:
    def knot(*rest: object) -> list[object]:
        made: list[object] = list(rest)
        made.append({"again": made})
        return made

    one, same, other = (fingerprint(Function("f", len, extra_args=[knot(n)])) for n in (1, 1, 2))
    assert one == same != other


def test_functions_that_call_each_other_end() -> None:
    source = "def g(x):\n    return f(x)\ndef f(x):\n    return g(x) + 1\n"
    assert of(source) == of(source)


def test_a_long_chain_of_helpers_needs_no_stack() -> None:
    lines = [f"def h{i}():\n    return h{i + 1}()\n" for i in range(3000)]
    assert of("".join(lines) + "def h3000():\n    return 1\ndef f():\n    return h0()\n")


def test_captured_values_count() -> None:
    def make(k: object) -> Callable[[], object]:
        return lambda: k

    same = {"b": [1, {2, 3}], "a": 1.5}
    assert fingerprint(Function("f", make(same))) == fingerprint(Function("f", make({"a": 1.5, "b": [1, {3, 2}]})))
    assert fingerprint(Function("f", make(same))) != fingerprint(Function("f", make({**same, "a": 2})))
    assert fingerprint(Function("f", make(1))) != fingerprint(Function("f", make("1")))


def test_what_cannot_be_pickled_is_known_by_its_class() -> None:
    one, other = ({"lock": threading.Lock()} for _ in range(2))
    assert fingerprint(Function("f", max, kwargs=one)) == fingerprint(Function("f", max, kwargs=other))
    assert fingerprint(Function("f", max, kwargs=one)) != fingerprint(Function("f", max, kwargs={"lock": object()}))


@pytest.mark.parametrize(
    "pair", [(max, min), (functools.partial(int, base=2), functools.partial(int, base=3)), (int, str)]
)
def test_other_callables_count(pair: tuple[Callable[..., Any], Callable[..., Any]]) -> None:
    one, other = (fingerprint(Function("f", code)) for code in pair)
    assert one != other


def test_bound_methods_count_with_their_object() -> None:
    assert fingerprint(Function("f", "a".join)) != fingerprint(Function("f", "b".join))
    assert fingerprint(Function("f", Scale(2).apply)) == fingerprint(Function("f", Scale(2).apply))
    assert fingerprint(Function("f", Scale(2).apply)) != fingerprint(Function("f", Scale(3).apply))


@pytest.mark.parametrize(
    "change",
    [
        {"cost": {"cpu": 2}}, {"args": ["b"]}, {"args": {"x": "a"}}, {"args": [Argument("a", nbytes=1)]}, {"node": "n"},
        {"extra_args": [1]}, {"kwargs": {"k": 1}}, {"timeout": 1}, {"id": "g"}, {"max_retries": 0}, {"duration": 1},
    ],
)  # fmt: skip
def test_every_option_counts(change: dict[str, Any]) -> None:
    function = Function("f", max, ["a"])
    assert fingerprint(function.replace(**change)) != fingerprint(function)
    assert fingerprint(function.replace()) == fingerprint(function)


def test_it_is_the_same_in_every_process() -> None:
    source = (
        "from handoff_lab.graph import Function\n"
        "from handoff_lab.graph.fingerprint import fingerprint\n"
        "def f(x, words=frozenset({'a', 'b', 'c'})):\n"
        "    return x in {'red', 'green', 'blue'} or x in words\n"
        "print(fingerprint(Function('f', f, kwargs={'k': {'x', 'y', 'z'}}, cost={'cpu': 1, 'gpu': 2})))\n"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", source], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


class TestOfADAG:
    def dag(self) -> DAG:
        return DAG().add(
            Function("xs", lambda: [1]),
            Function("a", lambda xs: xs, ["xs"]),
            Function("b", lambda xs: len(xs), ["xs"]),
            Function("agg", max, ["a", "b"]),
        )

    def prints(self, dag: DAG) -> dict[object, str]:
        return {id: dag.fingerprint(id) for id in dag}

    def test_an_edit_reaches_all_that_depend_on_it(self) -> None:
        dag = self.dag()
        before = self.prints(dag)
        dag.replace(dag["a"].replace(code=lambda xs: xs[:]))
        after = self.prints(dag)
        assert {id for id in before if before[id] != after[id]} == {"a", "agg"}

    def test_what_does_not_touch_the_result_makes_nothing_stale(self) -> None:
        dag = self.dag()
        before = self.prints(dag)
        dag.replace(dag["a"].replace(cost={"cpu": 2}, node="alpha", max_retries=3, timeout=5))
        assert self.prints(dag) == before

    def test_order_of_arguments_counts(self) -> None:
        dag = self.dag()
        before = dag.fingerprint("agg")
        dag.replace(Function("agg", max, ["b", "a"]))
        assert dag.fingerprint("agg") != before

    def test_two_inputs_are_not_the_same(self) -> None:
        dag = DAG().add(Function("x", type="input"), Function("y", type="input"))
        assert dag.fingerprint("x") != dag.fingerprint("y")

    def test_an_unfinished_graph_has_them_too(self) -> None:
        dag = DAG().add(Function("a", max, ["nowhere"]), Function("b", max, ["c"]), Function("c", max, ["b"]))
        assert len(set(self.prints(dag).values())) == 3

    def test_a_long_chain_needs_no_stack(self) -> None:
        dag = DAG().add(*(Function(i, max, [i - 1] if i else []) for i in range(5000)))
        assert dag.fingerprint(4999) != dag.fingerprint(4998)


def test_attributes_and_imports_of_a_function_are_no_globals_of_its_module() -> None:
    namespace: dict[str, object] = {}
    exec("def f(start):\n    import json\n    return start.real + json.loads(str(limit))", namespace)
    function = Function("f", namespace["f"], args=["start"])
    before = fingerprint(function)
    namespace |= {"real": 5, "json": 6, "loads": 7}
    assert fingerprint(function) == before
    namespace["limit"] = 8
    assert fingerprint(function) != before
