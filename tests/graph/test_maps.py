"""Maps: what may be one, and that their chunks give what a plain loop would."""

from __future__ import annotations

import pickle
from collections import Counter, deque
from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handoff_lab._errors import DuplicateFunctionError, InvalidFunctionError
from handoff_lab._items import Items
from handoff_lab.graph import DAG, Argument, Function, collocated
from handoff_lab.graph.fingerprint import fingerprint
from handoff_lab.graph.maps import as_before, by_capacity, chunks, cut, expanded, told
from handoff_lab.resources import Resources


def one(code: Any = abs, over: Any = range(10), **options: Any) -> DAG:
    return DAG().add(Function("f", code, over=over, **options))


def serially(dag: DAG, **values: Any) -> dict[Hashable, Any]:
    """What each function of a DAG gives, one after the other."""
    results: dict[Hashable, Any] = dict(values)
    for id, function in dag.functions.items():
        if function.code is not None:
            taken = [results[source] for source in function.dependencies]
            named = dict(zip(function.parameters or (), taken, strict=False))
            given = [] if named else taken
            results[id] = function.code(*given, *function.extra_args, **named, **function.kwargs)
    return results


def whole(function: Function) -> int:
    return 10**9


sizes = st.integers(1, 60)
sequences = st.sampled_from([range, list, tuple, np.arange])


@given(length=st.integers(0, 50), size=sizes, kind=sequences, chosen=st.booleans())
def test_chunks_give_what_a_loop_gives(length: int, size: int, kind: Any, chosen: bool) -> None:
    seen: list[int] = []

    def code(item: int, base: int, factor: int, plus: int) -> int:
        seen.append(item)
        return base + factor * item + plus

    over = kind(range(length)) if kind in (list, tuple) else kind(length)
    dag = one(code, over, args=["base"], extra_args=[3], kwargs={"plus": 1}, chunksize=size if chosen else None)
    dag.add(Function("base", lambda: 100), Function("sum", sum, ["f"]))
    ready = cut(dag, lambda function: size).validate()
    results = serially(ready)
    expected = [100 + 3 * item + 1 for item in range(length)]
    assert results["f"] == expected
    assert results["sum"] == sum(expected)
    assert Counter(seen) == Counter(range(length))
    parts = [results[id] for id in chunks(ready, "f")]
    assert len(parts) == -(-length // size)
    assert all(len(part) == size for part in parts[:-1])


@given(
    length=st.integers(1, 10**9),
    cost=st.sampled_from([{}, {"cpu": 1}, {"cpu": 2}, {"cpu": 1 / 3}, {"gpu": 1}, {"memory": 500}, {"cpu": 9}]),
    nodes=st.lists(st.fixed_dictionaries({"cpu": st.integers(1, 8), "gpu": st.integers(0, 2)}), max_size=5),
)
def test_about_four_chunks_for_each_place(length: int, cost: dict[str, float], nodes: list[dict[str, float]]) -> None:
    capabilities = {f"n{i}": Resources({**has, "memory": 1000}) for i, has in enumerate(nodes)}
    function = Function("f", abs, over=range(length), cost=cost)
    size = by_capacity(lambda: capabilities)(function)
    count = -(-length // size)
    places = {
        (): lambda has: has["cpu"],
        ("cpu",): lambda has: int(has["cpu"] / cost["cpu"] + 1e-6),
        ("gpu",): lambda has: min(has["gpu"], has["cpu"]),
        ("memory",): lambda has: min(2, has["cpu"]),
    }[tuple(cost)]
    most = 4 * max(1, sum(places(has) for has in nodes))
    assert count <= most
    assert count == length or size * (most + 1) > length  # no fewer than whole items per chunk ask for


def test_a_pinned_map_is_cut_for_its_node() -> None:
    nodes = {"big": Resources({"cpu": 8}), "small": Resources({"cpu": 1})}
    assert by_capacity(lambda: nodes)(Function("f", abs, over=range(320))) == 9
    assert by_capacity(lambda: nodes)(Function("f", abs, over=range(320), node="small")) == 80


def test_a_graph_without_maps_is_left_alone() -> None:
    dag = DAG().add(Function("f", abs))
    assert cut(dag, lambda function: 1) is dag


def test_chunks_are_what_the_map_was() -> None:
    options: dict[str, Any] = {"cost": {"cpu": 2}, "max_retries": 5, "retry_on": KeyError, "retry_delay": 1.0}
    dag = one(node=collocated("home"), runs_in="kernel", timeout=2, duration={"a": 3}, output_size=10, **options)
    ready = cut(dag.add(Function("home", list)), lambda function: 4).validate()
    whole, last = ready["f[0:4]"], ready["f[8:10]"]
    assert {name: getattr(last, name) for name in options} == options
    assert (last.node, last.runs_in, last.group, last.over) == (collocated("home"), "kernel", "f", None)
    assert (whole.timeout, whole.duration, whole.output_size) == (8, {"a": 12}, 40)
    assert (last.timeout, last.duration, last.output_size) == (4, {"a": 6}, 20)
    assert len({id(ready[chunk].code) for chunk in chunks(ready, "f")}) == 1
    assert (ready["f"].type, ready["f"].group) == ("inline", "f")
    assert cut(one(group="mine"), lambda function: 5)["f[0:5]"].group == "mine"


def test_a_map_of_a_map_takes_all_of_it() -> None:
    dag = one(lambda x: x * x, range(5)).add(Function("g", lambda x, squares: x + sum(squares), ["f"], over=range(3)))
    assert serially(cut(dag, lambda function: 2))["g"] == [30, 31, 32]


def test_what_many_take_is_joined_once() -> None:
    dag = one(lambda x: x * x, range(300)).add(
        Function("g", lambda x, squares: x + len(squares), ["f"], over=range(200)),
        Function("seen through", len, ["f"], type="inline"),
        Function("h", lambda x, n: n, ["seen through"], over=range(200)),
    )
    few, many = cut(dag, lambda function: 10).validate(), cut(dag, lambda function: 2).validate()
    assert (few["f"].type, many["f"].type) == ("inline", "regular")
    assert sum(len(function.args) for function in many.functions.values()) == 150 + 2 * 100 + 2 * 100 + 1
    assert serially(few)["g"] == serially(many)["g"] == [x + 300 for x in range(200)]
    assert expanded(many, ["f"])[-2:] == ("f[298:300]", "f")


def test_parameters_after_the_item_name_what_is_needed() -> None:
    dag = DAG()

    @dag.function(over=range(4), kwargs={"power": 2})
    def scaled(x: int, table: list[int], power: int, start: int = 7) -> int:
        return start + sum(table) * x**power

    assert dag["scaled"].args == ("table",)
    assert dag["table"].type == "input"
    assert serially(cut(dag, lambda function: 3), table=[1, 1])["scaled"] == [7, 9, 15, 25]


def test_an_item_that_fails_is_named() -> None:
    def picky(x: int) -> int:
        return 1 // (x - 517)

    ready = cut(one(picky, range(1000), chunksize=100), lambda function: 1)
    with pytest.raises(ZeroDivisionError) as caught:
        serially(DAG().add(ready["f[500:600]"]))
    assert caught.value.__notes__ == ["item 517 of 'f': 517"]


def test_what_a_sequence_is_cut_into() -> None:
    rows = np.arange(12).reshape(6, 2)
    ready = cut(one(sum, rows, chunksize=4), lambda function: 1)
    assert [f.extra_args[0].shape for f in ready.functions.values() if f.extra_args] == [(4, 2), (2, 2)]
    assert serially(ready)["f"] == [1, 5, 9, 13, 17, 21]
    items = [1, 2, 3]
    function = Function("f", abs, over=items)
    items.append(4)
    assert function.over == (1, 2, 3)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"over": {1, 2}}, "over is of type set; give a sequence, such as a range or list"),
        ({"over": (x for x in "ab")}, "over is of type generator"),
        ({"over": "abc"}, "over is of type str"),
        ({"over": {"a": 1}}, "over is of type dict"),
        ({"over": pd.DataFrame({"a": [1]})}, r"over is of type DataFrame; give a sequence, such as list\(frame.iter"),
        ({"over": 10}, "over is of type int"),
        ({"over": deque([1])}, "over, of type deque, has no length or slices"),
        ({"over": np.array(1)}, "over, of type ndarray, has no length or slices"),
        ({"over": range(10**20)}, "over, of type range, has no length or slices"),
        ({"over": range(3), "chunksize": 0}, "chunksize is 0"),
        ({"over": range(3), "chunksize": 1.5}, "chunksize is 1.5"),
        ({"chunksize": 3}, "chunksize says nothing without over"),
        ({"over": range(3), "code": None}, "code is None"),
        ({"over": range(3), "code": None, "type": "input"}, "over is for regular functions, and it is input"),
        ({"over": range(3), "type": "inline"}, "over is for regular functions, and it is inline"),
        ({"over": range(3), "init": list}, "over is for a map, init for a stream"),
        ({"over": range(3), "parallelism": 2}, "over is for a map, parallelism for a stream"),
        ({"over": range(3), "batch_size": 2}, "over is for a map, batch_size for a stream"),
        ({"over": range(3), "code": lambda: 1}, "gives items to its first parameter, and it has none"),
        ({"over": range(3), "code": lambda x: 1, "kwargs": {"x": 1}}, "another value fills by position"),
    ],
)
def test_what_cannot_be_a_map(options: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidFunctionError, match=told):
        Function("f", **{"code": abs, **options})


def test_what_a_map_cannot_take_part_in() -> None:
    with pytest.raises(InvalidFunctionError, match="collocated with 'f', a map whose chunks run on any node"):
        one().add(Function("g", list, node=collocated("f"))).validate()
    with pytest.raises(InvalidFunctionError, match="serializes 'f', a map that is sent in chunks"):
        one().add(Function("g", list, [Argument("f", serialize=lambda v, a, b: v)])).validate()
    with pytest.raises(DuplicateFunctionError, match=r"function 'f\[0:5\]' \(a chunk of a map has that name\)"):
        cut(one().add(Function("f[0:5]", list)), lambda function: 5)


def test_an_earlier_cut_is_kept_while_it_fits() -> None:
    before = cut(one(), lambda function: 3)
    assert list(cut(one(), as_before(before, lambda function: 1))) == list(before)
    assert len(chunks(cut(one(over=range(11)), as_before(before, lambda function: 11)), "f")) == 1
    assert len(chunks(cut(one(chunksize=5), as_before(before, lambda function: 1)), "f")) == 2


def test_ids_of_a_map_stand_for_its_chunks() -> None:
    ready = cut(one().add(Function("g", list)), lambda function: 5)
    assert expanded(ready, ["g", "f", "none"]) == ("g", "f[0:5]", "f[5:10]", "none")
    assert [told({"f": 2.0, "g": 1.0})(ready[id]) for id in ("f[0:5]", "f[5:10]", "g")] == [10.0, 10.0, 1.0]
    assert told({"f": {"a": 2.0}})(ready["f[5:10]"]) == {"a": 10.0}
    assert told({"f": 2.0, "f[0:5]": 3.0})(ready["f[0:5]"]) == 3.0


def test_an_edit_of_the_items_shows() -> None:
    assert fingerprint(Function("f", abs, over=range(3))) != fingerprint(Function("f", abs, over=range(4)))
    assert fingerprint(Function("f", abs, over=range(3))) != fingerprint(Function("f", abs, over=range(3), chunksize=1))
    base, same, longer = one(over=[1, 2]), one(over=[1, 2], chunksize=1), one(over=[1, 2, 3])
    assert base.fingerprint("f") == same.fingerprint("f")  # the result is the same
    assert base.fingerprint("f") != longer.fingerprint("f")
    assert one(lambda x: x + 1).fingerprint("f") != one(lambda x: x + 2).fingerprint("f")
    assert cut(one(lambda x: x + 1), whole).fingerprint("f") != cut(one(lambda x: x + 2), whole).fingerprint("f")


def test_a_map_shows_what_it_is_over() -> None:
    assert repr(Function("f", abs, over=range(10**7), chunksize=5)) == (
        "Function('f', abs, over=range(0, 10000000), chunksize=5)"
    )
    assert len(repr(Function("f", abs, over=list(range(10**4))))) < 100
    assert "over=array" in repr(Function("f", abs, over=np.arange(10)))
    assert Function("f", abs, over=range(3)).replace(chunksize=2).over == range(3)
    assert repr(cut(one(), lambda function: 5)["f"]).startswith("Function('f', <joins 10 results from chunks of 5>, ")


def test_a_chunk_is_as_small_as_its_items() -> None:
    ready = cut(one(over=range(10**7), chunksize=10**6), lambda function: 1)
    assert len(pickle.dumps(ready["f[0:1000000]"].extra_args)) < 100
    assert isinstance(ready["f[0:1000000]"].code, Items)
