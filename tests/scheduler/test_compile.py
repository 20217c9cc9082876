"""From a DAG to a program."""

from __future__ import annotations

from typing import Any

import pytest

from handoff_lab._errors import InvalidFunctionError
from handoff_lab.graph import DAG, Argument, Function
from handoff_lab.messages import HERE, AttemptId
from handoff_lab.resources import Resources
from handoff_lab.scheduler import Program, compile_program


def shape(program: Program) -> dict[Any, list[Any]]:
    """Ids of the inputs of each function, by id."""
    functions = program.functions
    return {function.id: [functions[i].id for i in function.inputs] for function in functions}


def test_functions_keep_their_order_and_say_what_they_need() -> None:
    dag = DAG("d").add(
        Function("b", list, ["a", "x"], cost={"cpu": 2}, max_retries=7, retry_delay=1.5),
        Function("a", list),
        Function("x", type="input"),
    )
    program = compile_program(dag, run="r")
    assert (program.run, program.dag) == ("r", "d")
    assert shape(program) == {"a": [], "x": [], "b": ["a", "x"]}
    assert program.index == {function.id: i for i, function in enumerate(program.functions)}
    b = program.functions[program.index["b"]]
    assert (b.cost, b.max_retries, b.retry_delay, b.function) == (Resources({"cpu": 2}), 7, 1.5, dag["b"])
    assert b.given is None


def test_an_input_is_given_here() -> None:
    program = compile_program(DAG().add(Function("x", type="input"), Function("f", list, ["x"])), run="r")
    x = program.functions[program.index["x"]]
    assert (x.given, x.function) == ((AttemptId("r", 0, 0), HERE), None)


def test_a_result_taken_twice_is_one_input() -> None:
    program = compile_program(DAG().add(Function("a", list), Function("b", list, ["a", "a"])), run="r")
    assert program.functions[1].inputs == (0,)


class TestTargets:
    dag = DAG().add(
        Function("a", list), Function("b", list, ["a"]), Function("c", list, ["a"]), Function("d", list, ["c"])
    )

    def test_by_default_what_no_other_needs(self) -> None:
        program = compile_program(self.dag, run="r")
        assert {program.functions[i].id for i in program.targets} == {"b", "d"}

    def test_only_what_they_need(self) -> None:
        program = compile_program(self.dag, ["c"], run="r")
        assert shape(program) == {"a": [], "c": ["a"]}
        assert program.targets == (program.index["c"],)

    def test_what_only_given_results_need_is_dormant(self) -> None:
        kept = (AttemptId("before", 5, 2), "n")
        program = compile_program(self.dag, ["d"], run="r", given={"c": kept, "b": kept})
        assert shape(program) == {"a": [], "c": ["a"], "d": ["c"]}
        a, c, d = program.functions
        assert (a.given, c.given, d.given) == (None, kept, None)
        assert (a.dormant, c.dormant, d.dormant) == (True, False, False)
        assert (a.is_to_run, c.is_to_run, d.is_to_run) == (False, False, True)


class TestInline:
    def test_its_dependencies_become_its_dependents(self) -> None:
        dag = DAG().add(
            Function("a", list),
            Function("b", list),
            Function("inner", list, ["a"], type="inline"),
            Function("outer", list, ["inner", "b"], type="inline"),
            Function("use", list, ["outer", "b"]),
        )
        program = compile_program(dag, run="r")
        assert shape(program) == {"a": [], "b": [], "use": ["b", "a"]}
        assert "outer" not in program.index

    def test_one_that_nobody_uses_wants_nothing_itself(self) -> None:
        dag = DAG().add(Function("a", list), Function("alone", list, ["a"], type="inline"))
        program = compile_program(dag, run="r")
        assert [program.functions[i].id for i in program.targets] == ["a"]

    def test_a_lattice_of_them_does_not_explode(self) -> None:
        dag = DAG().add(Function(0, list))
        for i in range(1, 60):
            dag.add(Function(i, list, [max(0, i - 1), max(0, i - 2)], type="inline"))
        dag.add(Function("use", list, [59]))
        assert shape(compile_program(dag, run="r")) == {0: [], "use": [0]}


class TestSerializers:
    def test_a_hidden_function_lies_on_the_edge(self) -> None:
        argument = Argument("a", serialize=str)
        dag = DAG().add(Function("a", list), Function("b", list, [argument, "a"], max_retries=4, retry_delay=2.0))
        program = compile_program(dag, run="r")
        a, hidden, b = range(3)
        assert program.functions[b].inputs == (hidden, a)
        between = program.functions[hidden]
        assert (between.inputs, between.beside, between.toward) == ((a,), a, b)
        assert (between.max_retries, between.retry_delay, between.function) == (4, 2.0, None)
        assert program.serializers == {hidden: str}
        assert program.producer(argument, dag["b"]) == hidden
        assert program.producer(Argument("a"), dag["b"]) == a

    def test_the_same_one_twice_runs_once_and_another_is_another(self) -> None:
        args = [
            Argument("a", serialize=str),
            Argument("a", serialize=str, deserialize=int),
            Argument("a", serialize=repr),
        ]
        dag = DAG().add(Function("a", list), Function("b", list, args), Function("c", list, args[:1]))
        program = compile_program(dag, run="r")
        assert sorted(map(str, program.serializers.values())) == sorted(map(str, [str, repr, str]))
        assert len(program.functions[program.index["b"]].inputs) == 2
        assert program.producer(args[0], dag["b"]) == program.producer(args[1], dag["b"])
        assert program.producer(args[0], dag["b"]) != program.producer(args[0], dag["c"])

    def test_inside_an_inline_function_it_belongs_to_the_consumer(self) -> None:
        argument = Argument("a", serialize=str)
        dag = DAG().add(
            Function("a", list), Function("inner", list, [argument], type="inline"), Function("use", list, ["inner"])
        )
        program = compile_program(dag, run="r")
        assert program.functions[program.producer(argument, dag["use"])].toward == program.index["use"]


def test_many_functions_compile_in_linear_time() -> None:
    dag = DAG().add(*(Function(i, list, [i - 1] if i else []) for i in range(20_000)))
    assert len(compile_program(dag, run="r").functions) == 20_000


def test_an_inline_target_is_refused() -> None:
    dag = DAG().add(Function("a", list), Function("i", list, ["a"], type="inline"))
    with pytest.raises(InvalidFunctionError, match="inline"):
        compile_program(dag, ["i"], run="r")
