"""Hidden functions: they run between a producer and its consumer, and nobody hears of them."""

from __future__ import annotations

from typing import Any

import pytest

from handoff_lab.graph import DAG, Argument, Function
from handoff_lab.messages import AttemptId, FailureKind, Start
from handoff_lab.scheduler import State

TWO = {"n": {"cpu": 1}, "m": {"cpu": 1}}
HIDDEN = 1


@pytest.fixture
def pair() -> DAG:
    """``load`` on n; ``use``, on m, takes its result serialized."""
    return DAG().add(
        Function("load", list, node="n"),
        Function("use", list, [Argument("load", serialize=list)], node="m", cost={"cpu": 1}, max_retries=2),
    )


def test_it_runs_beside_its_producer(simulate: Any, pair: DAG) -> None:
    started: list[Start] = []
    simulation = simulate(TWO)
    simulation._watch = lambda events, commands: started.extend(c for c in commands if isinstance(c, Start))
    simulation.begin(pair)
    simulation.run()
    assert [(start.id.function, start.node) for start in started] == [(0, "n"), (HIDDEN, "n"), (2, "m")]
    assert simulation.scheduler.target_node(started[1].id) == "m"
    assert simulation.scheduler.target_node(started[0].id) == ""
    assert started[2].sources == ((AttemptId("run", HIDDEN, 1), "n"),)


def test_nobody_hears_of_it(simulate: Any, pair: DAG) -> None:
    simulation = simulate(TWO)
    simulation.begin(pair, max_concurrency=1)
    simulation.run()
    about = {report.metadata.get("function") for _, report in simulation.reports}
    assert about == {None, "load", "use"}
    assert simulation.told("run", "start")[0].measurements == {"functions": 2}
    assert simulation.told("run", "stop")[0].measurements["done"] == 2
    simulation.check_end()


def test_it_serializes_an_input_on_the_consumers_node(simulate: Any) -> None:
    simulation = simulate(TWO)
    dag = DAG().add(Function("x", type="input"), Function("use", list, [Argument("x", serialize=list)], node="m"))
    simulation.begin(dag)
    simulation.run()
    assert simulation.runs["run"].node == [None, "m", "m"]
    simulation.check_end()


def test_it_is_retried_as_its_consumer_would_be(simulate: Any, pair: DAG) -> None:
    simulation = simulate(TWO, fails={"load for use": [FailureKind.EXCEPTION] * 2})
    simulation.begin(pair, max_retries=0)
    simulation.run()
    assert simulation.attempts()["load for use"] == 3
    assert simulation.ended["run"].status == "done"


@pytest.mark.parametrize("on_error", ["stop", "continue"])
def test_its_failure_is_its_consumers(simulate: Any, pair: DAG, on_error: str) -> None:
    simulation = simulate(TWO, fails={"load for use": [FailureKind.EXCEPTION] * 9})
    simulation.begin(pair, on_error=on_error)
    simulation.run()
    assert simulation.states() == {"load": State.DONE, "use": State.FAILED}
    assert simulation.ended["run"].function == 2
    (failure,) = simulation.told("exception")
    assert failure.metadata["function"] == "use"
    simulation.check_end()


def test_it_ends_with_its_consumer(simulate: Any) -> None:
    """Its producer's node drains, so it would run on its consumer's, which can't run at all."""
    simulation = simulate(TWO, duration=1.0, fails={"load": [FailureKind.EXCEPTION]})
    dag = DAG().add(
        Function("load", list, node="m", retry_delay=5.0),
        Function("use", list, [Argument("load", serialize=list)], node="n"),
    )
    simulation.begin(dag, on_error="continue")
    simulation.backend.at(2.0, lambda: simulation.backend.lose_node("n", "SIGKILL"))
    simulation.run()
    assert simulation.states() == {"load": State.DONE, "use": State.FAILED}
    assert "load for use" not in simulation.attempts()
    simulation.check_end()


def test_what_was_serialized_for_a_lost_node_is_serialized_again(simulate: Any) -> None:
    simulation = simulate(
        {"n": {"cpu": 2}, "m": {"cpu": 1}}, duration=lambda attempt: 3.0 if attempt.label == "slow" else 1.0
    )
    dag = DAG().add(
        Function("load", list, node="n"),
        Function("slow", list, ["load"], node="n", cost={"cpu": 1}),
        Function("use", list, [Argument("load", serialize=list), "slow"]),
    )
    simulation.begin(dag, allocator=lambda functions, capabilities: {
        f.id: "m" if f.id == "use" and "m" in capabilities else "n" for f in functions
    })  # fmt: skip
    simulation.backend.at(2.5, lambda: simulation.backend.lose_node("m", "SIGKILL"))
    simulation.run()
    assert simulation.attempts() == {"load": 1, "load for use": 2, "slow": 1, "use": 1}
    assert simulation.runs["run"].recomputed == 0
    simulation.check_end()


@pytest.mark.parametrize("first", ["m", "k"])
def test_one_that_waited_on_the_consumers_node_starts_where_its_producer_was_made_anew(
    simulate: Any, first: str
) -> None:
    """Both nodes come free at once; it must not start on that on which it waited before."""
    dag = DAG().add(
        *(Function(f"busy on {node}", list, node=node, cost={"cpu": 1}) for node in sorted("km", key=first.__ne__)),
        Function("load", list),
        Function("use", list, [Argument("load", serialize=list)], node="m", cost={"cpu": 1}),
    )
    seconds = {"busy on m": 4.0, "busy on k": 3.0}
    simulation = simulate(
        {"n": {"cpu": 1}, "m": {"cpu": 1}, "k": {"cpu": 1}},
        prefetch=0,
        duration=lambda attempt: seconds.get(attempt.label, 1.0),
    )
    names = {"load": "n", "use": "m", "busy on m": "m", "busy on k": "k"}
    simulation.begin(dag, allocator=lambda functions, capabilities: {
        f.id: names[f.id] if names[f.id] in capabilities else "k" for f in functions
    })  # fmt: skip
    simulation.backend.at(0.5, lambda: simulation.drain("n"))
    simulation.backend.at(2.0, lambda: simulation.backend.lose_node("n", "SIGKILL"))
    simulation.run()
    assert simulation.attempts() == {"busy on m": 1, "busy on k": 1, "load": 2, "load for use": 1, "use": 1}
    assert simulation.runs["run"].node[simulation.runs["run"].program.index["use"] - 1] == "k"
    simulation.check_end()
