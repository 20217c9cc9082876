"""Building, changing and validating a DAG; Handoff's own scenarios are among these."""

from __future__ import annotations

import difflib
import pickle
from collections.abc import Hashable, Mapping

import cloudpickle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handoff_lab._errors import (
    CyclicDependencyError,
    DuplicateFunctionError,
    InvalidDAGError,
    InvalidFunctionError,
    MissingFunctionError,
)
from handoff_lab.graph import DAG, Argument, Function, collocated
from handoff_lab.graph.closest import closest
from handoff_lab.graph.resolution import Resolution


def one(*_: object) -> int:
    return 1


def f(id: object, *args: object, **options: object) -> Function:
    return Function(id, one, args, **options)  # type: ignore[arg-type]


def branching() -> DAG:
    return DAG("branching").add(
        Function("input_data", lambda: [10, 20, 30]),
        Function("pre_a", lambda xs: [x + 1 for x in xs], args=["input_data"], cost={"cpu": 2}),
        Function("pre_b", lambda xs, k: [x * k for x in xs], args=["input_data"], extra_args=[2], cost={"cpu": 2}),
        Function("agg", lambda a, b: sum(a) + sum(b), args=["pre_a", "pre_b"], cost={"cpu": 1}),
    )


class TestHandoff:
    """What Handoff's test/handoff/dag_test.exs asks for."""

    def test_a_new_dag_is_empty(self) -> None:
        assert DAG().functions == {}
        assert DAG("mine").id == DAG("mine").name == "mine"

    def test_add_keeps_the_function(self) -> None:
        function = Function("func1", one, extra_args=["result1"])
        assert DAG().add(function).functions["func1"] is function

    def test_a_valid_dag_validates(self) -> None:
        dag = DAG().add(
            Function("func1", one, extra_args=["r"]), Function("func2", one, ["func1"], extra_args=["used"])
        )
        assert dag.validate() is dag

    def test_a_missing_dependency_is_found(self) -> None:
        with pytest.raises(MissingFunctionError) as caught:
            DAG().add(f("func", "some_function")).validate()
        assert (caught.value.id, caught.value.needed_by) == ("some_function", "func")

    def test_a_cycle_is_found_whole_and_in_order(self) -> None:
        with pytest.raises(CyclicDependencyError) as caught:
            DAG().add(f("func1", "func3"), f("func2", "func1"), f("func3", "func2")).validate()
        assert caught.value.cycle == ("func1", "func2", "func3")
        assert "'func1' → 'func2' → 'func3' → 'func1'" in str(caught.value)

    def test_a_function_that_needs_itself_is_a_cycle_of_one(self) -> None:
        with pytest.raises(CyclicDependencyError) as caught:
            DAG().add(f("a", "a")).validate()
        assert caught.value.cycle == ("a",)

    def test_serializers_stay_on_the_edge(self) -> None:
        crossing = Argument("producer", serialize=lambda v, s, t: v, deserialize=lambda v, s, t: v)
        dag = DAG().add(f("producer"), f("consumer", crossing)).validate()
        assert list(dag) == ["producer", "consumer"]
        assert dag["consumer"].arguments == (crossing,)

    @pytest.mark.parametrize("option", ["serialize", "deserialize"])
    def test_an_inline_value_is_never_sent_so_nothing_serializes_it(self, option: str) -> None:
        crossing = Argument("inl", **{option: lambda v, s, t: v})  # type: ignore[arg-type]
        dag = DAG().add(f("inl", type="inline"), f("use", crossing))
        with pytest.raises(InvalidFunctionError, match="'use': it serializes 'inl', which is inline"):
            dag.validate()

    def test_collocation_with_an_argument_that_is_serialized(self) -> None:
        crossing = Argument("producer", serialize=lambda v, s, t: v)
        dag = DAG().add(f("producer"), f("consumer", crossing, node=collocated("producer"))).validate()
        assert dag.collocation_groups() == {"consumer": "producer", "producer": "producer"}

    @pytest.mark.parametrize("options", [{"node": "alpha"}, {"init": one}])
    def test_an_inline_function_has_no_node_and_no_init(self, options: dict[str, object]) -> None:
        with pytest.raises(InvalidFunctionError):
            f("a", type="inline", **options)


def test_a_change_while_another_thread_reads_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    made = DAG().add(f("a"))

    class Slow(Resolution):
        def __init__(self, added: Mapping[Hashable, Function]) -> None:
            super().__init__(added)
            if "b" not in added:
                made.add(f("b"))

    monkeypatch.setattr("handoff_lab.graph.dag.Resolution", Slow)
    assert list(made) == ["a"]
    assert list(made) == ["a", "b"]


def test_the_branching_example() -> None:
    dag = branching().validate()
    assert list(dag.functions) == ["input_data", "pre_a", "pre_b", "agg"]
    assert dag.dependencies("agg") == ("pre_a", "pre_b")
    assert dag.dependents("input_data") == ("pre_a", "pre_b")
    assert dag.dependents("agg") == ()
    assert len(dag) == 4
    assert "agg" in dag
    assert repr(dag) == "<DAG 'branching': 4 functions>"


def test_order_of_adding_is_free() -> None:
    dag = DAG().add(f("c", "b"), f("a"), f("b", "a")).validate()
    assert list(dag) == ["a", "b", "c"]


def test_an_empty_dag_is_true() -> None:
    assert DAG()


@pytest.mark.parametrize("wrong", [[f("new"), f("pre_a")], [f("new"), f("new")], [f("new"), one], [f("new"), "agg"]])
def test_a_bad_add_leaves_all_as_it_was(wrong: list[Function]) -> None:
    dag = branching()
    before = dict(dag.functions)
    with pytest.raises(InvalidDAGError):
        dag.add(*wrong)
    assert dict(dag.functions) == before


def test_a_duplicate_says_which() -> None:
    with pytest.raises(DuplicateFunctionError) as caught:
        branching().add(f("agg"))
    assert caught.value.id == "agg"


def test_a_plain_function_is_refused_with_the_way_out() -> None:
    with pytest.raises(InvalidDAGError, match=r"@dag\.function"):
        DAG().add(one)  # type: ignore[arg-type]


def test_a_missing_function_suggests_what_was_meant() -> None:
    with pytest.raises(MissingFunctionError, match="did you mean 'input_data'") as caught:
        branching().add(f("late", "inptu_data")).validate()
    assert caught.value.suggestions == ("input_data",)
    assert caught.value.needed_by == "late"
    assert pickle.loads(pickle.dumps(caught.value)).suggestions == ("input_data",)


def test_a_suggestion_among_very_many_is_still_found() -> None:
    names = [f"function_{i}" for i in range(3000)]
    with pytest.raises(MissingFunctionError) as caught:
        DAG().add(*map(f, names), f("z", "functoin_2987")).validate()
    assert caught.value.suggestions[0] == "function_2987"


def test_among_very_many_few_are_compared_thoroughly(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []
    monkeypatch.setattr(difflib, "get_close_matches", lambda wanted, known: compared.append(len(list(known))) or [])
    closest("functoin", (f"function_{i}" for i in range(3000)))
    assert compared == [500]


def test_replace_keeps_the_place() -> None:
    dag = branching()
    dag.replace(f("pre_a", "input_data"))
    assert list(dag) == ["input_data", "pre_a", "pre_b", "agg"]
    assert dag["pre_a"].code is one


@pytest.mark.parametrize("verb", ["replace", "remove"])
def test_replace_and_remove_are_all_or_nothing(verb: str) -> None:
    dag = branching()
    before = dict(dag.functions)
    wrong = [f("agg"), f("agh")] if verb == "replace" else ["agg", "agh"]
    with pytest.raises(MissingFunctionError, match="did you mean 'agg'"):
        getattr(dag, verb)(*wrong)
    assert dict(dag.functions) == before


def test_remove_leaves_dependents_to_validate() -> None:
    dag = branching().remove("pre_a", "pre_a")
    assert "pre_a" not in dag
    with pytest.raises(MissingFunctionError):
        dag.validate()
    dag.add(f("pre_a")).validate()


def test_functions_are_read_only() -> None:
    with pytest.raises(TypeError):
        DAG().functions["a"] = f("a")  # type: ignore[index]


@pytest.mark.parametrize("ask", [DAG.dependencies, DAG.dependents, DAG.__getitem__, DAG.fingerprint])
def test_asking_for_what_is_not_there(ask: object) -> None:
    with pytest.raises(MissingFunctionError, match="did you mean 'pre_a'"):
        ask(branching(), "pre_aa")  # type: ignore[operator]
    with pytest.raises(KeyError):
        branching()["nothing"]


def test_a_copy_goes_its_own_way() -> None:
    dag = branching()
    twin = dag.copy()
    twin.remove("agg").add(f("other"))
    assert list(dag) == ["input_data", "pre_a", "pre_b", "agg"]
    assert "other" in twin
    dag.remove("pre_b")
    assert "pre_b" in twin


def test_it_travels() -> None:
    dag = branching().validate()
    there = pickle.loads(cloudpickle.dumps(dag))
    assert list(there.validate()) == list(dag)
    assert there.name == "branching"


def test_subgraph_is_what_targets_need() -> None:
    dag = branching().add(f("unrelated"))
    assert list(dag.subgraph(["pre_b"])) == ["input_data", "pre_b"]
    assert list(dag.subgraph("agg")) == ["input_data", "pre_a", "pre_b", "agg"]
    assert dag.subgraph([]) == {}


def test_a_target_must_be_there_and_have_a_result() -> None:
    with pytest.raises(MissingFunctionError, match="did you mean 'agg'") as caught:
        branching().subgraph(["aggg"])
    assert caught.value.needed_by == "targets"
    with pytest.raises(InvalidFunctionError, match="inline"):
        DAG().add(f("a", type="inline")).subgraph(["a"])


class TestCollocation:
    def test_chains_resolve_to_their_root(self) -> None:
        dag = DAG().add(f("c", node=collocated("b")), f("b", node=collocated("a")), f("a", node="alpha"), f("d"))
        assert dag.validate().collocation_groups() == {"a": "a", "b": "a", "c": "a"}

    def test_a_missing_neighbour_is_missing(self) -> None:
        with pytest.raises(MissingFunctionError, match="did you mean 'load'") as caught:
            DAG().add(f("a", node=collocated("laod")), f("load")).validate()
        assert caught.value.needed_by == "a"

    def test_a_circle_is_refused(self) -> None:
        dag = DAG().add(f("x", node=collocated("a")), f("a", node=collocated("b")), f("b", node=collocated("a")))
        with pytest.raises(InvalidFunctionError, match="'a' → 'b' → 'a'"):
            dag.validate()

    @pytest.mark.parametrize("neighbour", [f("b", type="inline"), Function("b", type="input")])
    def test_what_runs_nowhere_is_no_neighbour(self, neighbour: Function) -> None:
        with pytest.raises(InvalidFunctionError, match=f"which is {neighbour.type} and runs on no node"):
            DAG().add(f("a", node=collocated("b")), neighbour).validate()

    def test_a_long_chain_needs_no_stack(self) -> None:
        functions = [f(0), *(f(i, node=collocated(i - 1)) for i in range(1, 5000))]
        assert set(DAG().add(*reversed(functions)).validate().collocation_groups().values()) == {0}


class TestDiff:
    def test_same_is_falsy(self) -> None:
        assert not branching().diff(branching())

    def test_what_is_added_removed_and_changed(self) -> None:
        before, after = branching(), branching()
        after.remove("pre_b").add(f("new")).replace(after["agg"].replace(cost={"cpu": 3}))
        difference = before.diff(after)
        assert difference
        assert (difference.added, difference.removed, difference.changed) == (("new",), ("pre_b",), ("agg",))


def test_a_dag_with_a_cycle_can_still_be_shown() -> None:
    dag = DAG().add(f("late", "b"), f("a", "b"), f("b", "a"), f("free"), f("lost", "nowhere"))
    assert list(dag) == ["free", "lost", "late", "a", "b"]


def test_a_hundred_thousand_functions_need_no_stack() -> None:
    count = 100_000
    dag = DAG().add(*(f(i, *range(max(0, i - 3), i)) for i in reversed(range(count))))
    assert list(dag.validate()) == list(range(count))


def test_a_long_cycle_needs_no_stack() -> None:
    with pytest.raises(CyclicDependencyError) as caught:
        DAG().add(*(f(i, (i - 1) % 5000) for i in range(5000))).validate()
    assert caught.value.cycle == tuple(range(5000))


class CountingId:
    """An id that counts how often it is hashed and compared."""

    operations = 0

    def __init__(self, number: int) -> None:
        self.number = number

    def __hash__(self) -> int:
        CountingId.operations += 1
        return hash(self.number)

    def __eq__(self, other: object) -> bool:
        CountingId.operations += 1
        return isinstance(other, CountingId) and self.number == other.number


def test_building_and_validating_are_linear() -> None:
    def operations(count: int) -> int:
        CountingId.operations = 0
        dag = DAG()
        ids = [CountingId(i) for i in range(count)]
        for i in reversed(range(count)):
            dag.add(f(ids[i], *ids[max(0, i - 3) : i], node=collocated(ids[i - 1]) if i else None))
        dag.validate()
        return CountingId.operations

    assert operations(2000) < 2.05 * operations(1000)


edges = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=30)


@given(edges, st.permutations(range(12)))
def test_every_function_comes_after_what_it_needs(pairs: list[tuple[int, int]], order: list[int]) -> None:
    needs = {i: {low for low, high in map(sorted, pairs) if high == i != low} for i in range(12)}
    dag = DAG().add(*(f(i, *needs[i]) for i in order)).validate()
    place = {id: number for number, id in enumerate(dag)}
    assert set(place) == set(range(12))
    for id, needed in needs.items():
        assert all(place[dependency] < place[id] for dependency in needed)
        assert set(dag.dependencies(id)) == needed
        assert all(id in dag.dependents(dependency) for dependency in needed)


@given(edges, st.permutations(range(12)))
@settings(max_examples=200)
def test_a_reported_cycle_is_one_and_only_then(pairs: list[tuple[int, int]], order: list[int]) -> None:
    needs = {i: [a for a, b in pairs if b == i] for i in range(12)}
    dag = DAG().add(*(f(i, *needs[i]) for i in order))
    try:
        dag.validate()
    except CyclicDependencyError as error:
        cycle = error.cycle
        assert len(set(cycle)) == len(cycle) > 0
        for before, after in zip((cycle[-1], *cycle), cycle, strict=False):
            assert before in needs[after]
    else:
        place = {id: number for number, id in enumerate(dag)}
        assert all(place[dependency] < place[id] for id in needs for dependency in needs[id])


@given(st.lists(st.lists(st.integers(0, 9), max_size=4), max_size=8))
def test_add_takes_all_or_nothing(batches: list[list[int]]) -> None:
    dag = DAG()
    there: list[int] = []
    for batch in batches:
        refused = len(set(batch)) < len(batch) or set(batch) & set(there)
        if refused:
            with pytest.raises(DuplicateFunctionError):
                dag.add(*map(f, batch))
        else:
            dag.add(*map(f, batch))
            there += batch
        assert list(dag) == there


@given(edges)
def test_a_subgraph_is_closed_and_least(pairs: list[tuple[int, int]]) -> None:
    needs = {i: {low for low, high in map(sorted, pairs) if high == i != low} for i in range(12)}
    dag = DAG().add(*(f(i, *needs[i]) for i in range(12)))
    chosen = list(dag.subgraph([11, 5]))
    used = {dependency for id in chosen for dependency in needs[id]}
    assert used <= set(chosen)
    assert set(chosen) == used | {11, 5}


@pytest.mark.parametrize("name", [None, 5, Function("f", len)])
def test_a_name_is_text(name: object) -> None:
    with pytest.raises(InvalidDAGError, match=r"the name of a DAG is .*; it must be text"):
        DAG(name)  # type: ignore[arg-type]
