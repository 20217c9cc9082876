"""What is lost is brought back, and no more than that; late answers change nothing."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pytest

from handoff_lab._errors import AllocationError
from handoff_lab.graph import DAG, Argument, Function, collocated
from handoff_lab.messages import (
    HERE,
    Attempt,
    AttemptId,
    Cancelled,
    Failed,
    Failure,
    FailureKind,
    Finished,
    Free,
    NodeInfo,
    NodeJoined,
    NodeLost,
    Report,
    ResultLost,
    Start,
    Started,
    Stop,
)
from handoff_lab.scheduler import RunOptions, Scheduler, State, compile_program

TWO = {"n": {"cpu": 2}, "m": {"cpu": 2}}
CANCELLED, DONE, FAILED, SKIPPED = State.CANCELLED, State.DONE, State.FAILED, State.SKIPPED


def on(**nodes: str) -> Any:
    """An allocator that puts functions where it is told, and elsewhere when that is not there."""

    def allocate(functions: Any, capabilities: Mapping[str, object]) -> dict[Hashable, str]:
        names = list(capabilities)
        return {f.id: nodes[f.id] if nodes[f.id] in names else names[0] for f in functions}

    return allocate


def _all_on_the_last(functions: Any, capabilities: Any) -> dict[Hashable, str]:
    return {function.id: max(capabilities) for function in functions}


def moved(simulation: Any) -> list[tuple[Hashable, str, str]]:
    reports = simulation.told("move")
    return [(r.metadata["function"], r.metadata["source"], r.metadata["target"]) for r in reports]


class TestNodeLost:
    def test_what_ran_there_runs_elsewhere_without_using_up_retries(self, simulate: Any) -> None:
        simulation = simulate(TWO, duration=4.0)
        dag = DAG().add(Function("f", list, cost={"cpu": 1}, retry_delay=9.0))
        simulation.begin(dag, allocator=on(f="n"), max_retries=0)
        simulation.backend.at(1.0, lambda: simulation.backend.lose_node("n", "SIGKILL"))
        simulation.run()
        assert simulation.ended["run"].status == "done"
        assert simulation.spans() == {"f": (1, 5)}
        assert moved(simulation) == [("f", "n", "m")]
        (lost,) = simulation.told("exception")
        assert (lost.metadata["kind"], lost.metadata["node"]) == ("node", "n")
        simulation.check_end()

    def test_results_that_are_needed_are_made_again_and_no_others(self, simulate: Any) -> None:
        """a → b → c → d: b and c are lost; c is needed, so b is too; a lies elsewhere; unused was used already."""
        simulation = simulate(TWO)
        dag = DAG().add(
            Function("a", list),
            Function("b", list, ["a"]),
            Function("c", list, ["b"]),
            Function("unused", list, ["a"]),
            Function("d", list, ["c"], cost={"cpu": 2}),
            Function("e", list, ["d", "unused_too"]),
            Function("unused_too", list, ["unused"]),
        )
        where = {"a": "m", "b": "n", "c": "n", "unused": "n", "d": "m", "e": "m", "unused_too": "m"}
        simulation.begin(dag, allocator=on(**where), targets=["e"])
        busy = DAG().add(Function("busy", list, cost={"cpu": 2}, node="m"))
        simulation.backend.at(2.5, lambda: simulation.begin(busy, "other"))  # d waits for m
        simulation.backend.at(3.5, lambda: simulation.backend.lose_node("n", "SIGKILL"))
        simulation.run()
        assert simulation.ended["run"].status == "done"
        assert simulation.runs["run"].recomputed == 2
        assert simulation.attempts() == {"a": 1, "b": 2, "c": 2, "unused": 1, "unused_too": 1, "d": 1, "e": 1}
        simulation.check_end()

    def test_wanted_results_are_made_again(self, simulate: Any) -> None:
        simulation = simulate(TWO, duration=lambda attempt: 1.0 if attempt.label == "quick" else 5.0)
        dag = DAG().add(Function("quick", list), Function("slow", list))
        simulation.begin(dag, allocator=on(quick="n", slow="m"))
        simulation.backend.at(3.0, lambda: simulation.backend.lose_node("n", "SIGKILL"))
        simulation.run()
        assert simulation.attempts() == {"quick": 2, "slow": 1}
        assert simulation.runs["run"].recomputed == 1
        simulation.check_end()

    def test_a_run_that_is_over_is_left_alone(self, simulate: Any, chain: DAG) -> None:
        simulation = simulate(TWO)
        simulation.begin(chain)
        simulation.run()
        simulation.backend.lose_node("n", "SIGKILL")
        simulation.backend.lose_node("m", "SIGKILL")
        simulation.run()
        assert simulation.attempts() == {"a": 1, "b": 1, "c": 1}
        assert simulation.scheduler.holder("run", 2) is None
        assert sum(report.metadata["lost"] for report in simulation.told("down")) == 3
        simulation.check_end()

    def test_a_pin_to_it_fails_by_name(self, simulate: Any) -> None:
        simulation = simulate(TWO, duration=3.0)
        dag = DAG().add(Function("pinned", list, node="n"), Function("child", list, ["pinned"]), Function("free", list))
        simulation.begin(dag, allocator=on(pinned="n", child="m", free="m"), on_error="continue")
        simulation.backend.at(1.0, lambda: simulation.backend.lose_node("n", "SIGKILL"))
        simulation.run()
        assert simulation.states() == {"pinned": FAILED, "child": SKIPPED, "free": DONE}
        ended = simulation.ended["run"]
        assert (ended.status, ended.node, ended.failure.kind) == ("failed", "n", FailureKind.NODE)
        assert ended.failure.message == (
            "node 'n' is gone (SIGKILL), to which it is pinned; start the node again or remove the pin"
        )
        simulation.check_end()

    def test_what_no_other_node_can_hold_fails(self, simulate: Any) -> None:
        simulation = simulate({"n": {"gpu": 1}, "m": {"cpu": 2}})
        simulation.begin(DAG().add(Function("f", list, cost={"gpu": 1}), Function("g", list)), on_error="continue")
        simulation.backend.at(0.5, lambda: simulation.backend.lose_node("n", "SIGKILL"))
        simulation.run()
        assert simulation.states()["f"] == FAILED
        assert simulation.states()["g"] == DONE
        assert "no node that is left can take what costs" in simulation.ended["run"].failure.message
        simulation.check_end()

    def test_no_node_is_left(self, simulate: Any, diamond: DAG) -> None:
        simulation = simulate({"n": {"cpu": 2}})
        simulation.begin(diamond, on_error="continue")
        simulation.backend.at(1.5, lambda: simulation.backend.remove_node("n"))
        simulation.run()
        assert simulation.ended["run"].status == "failed"
        assert set(simulation.states().values()) == {FAILED, SKIPPED}
        assert simulation.ended["run"].failure.message == (
            "node 'n' is gone (it was removed), and no other is left; add a node"
        )
        simulation.check_end()

    def test_a_serializer_for_what_failed_meanwhile_is_not_tried_again(self, simulate: Any) -> None:
        """Its consumer is pinned to a node that takes nothing more."""
        simulation = simulate({"n": {"cpu": 1}, "m": {"cpu": 1}}, fails={"a for b": [FailureKind.EXCEPTION]})
        dag = DAG().add(Function("a", list), Function("b", list, [Argument("a", serialize=list)], node="n"))
        simulation.begin(dag, allocator=on(a="n", b="n"), on_error="continue")
        simulation.backend.at(1.5, lambda: simulation.drain("n"))
        simulation.run()
        assert simulation.states() == {"a": DONE, "b": FAILED}
        simulation.check_end()

    def test_three_lost_nodes_are_poison(self, simulate: Any) -> None:
        simulation = simulate({name: {"cpu": 1} for name in "wxyz"}, duration=10.0)
        simulation.begin(DAG().add(Function("f", list)), max_retries=9)

        def kill() -> None:
            simulation.backend.lose_node(simulation.runs["run"].node[0], "it ran out of memory")

        for time in (1.0, 2.0, 3.0):
            simulation.backend.at(time, kill)
        simulation.run()
        assert simulation.attempts() == {"f": 3}
        ended = simulation.ended["run"]
        assert "died under it" in ended.failure.message
        assert (ended.attempts, ended.deaths) == (3, 3)
        assert len(simulation.scheduler.nodes) == 1
        simulation.check_end()

    @pytest.mark.parametrize("expected", [False, True])
    def test_what_only_waited_there_is_not_poison(self, simulate: Any, expected: bool) -> None:
        simulation = simulate({name: {"cpu": 1} for name in "vwxyz"}, duration=10.0)
        dag = DAG().add(Function("long", list), Function("queued", list))
        simulation.begin(dag, allocator=_all_on_the_last, on_error="continue")

        def lose() -> None:
            simulation.backend.lose_node(simulation.runs["run"].node[1], "it went", expected=expected)

        for time in (1.0, 2.0, 3.0):
            simulation.backend.at(time, lose)
        simulation.run()
        assert simulation.states() == {"long": DONE if expected else FAILED, "queued": DONE}
        simulation.check_end()

    def test_a_node_that_comes_back_is_used_for_what_is_moved_later(self, simulate: Any) -> None:
        simulation = simulate({"n": {"cpu": 2}, "m": {"cpu": 2}}, duration=5.0)
        simulation.begin(DAG().add(Function("f", list)), allocator=on(f="n"))
        backend = simulation.backend
        backend.at(1.0, lambda: backend.lose_node("n", "SIGKILL"))
        backend.at(2.0, lambda: backend.add_node("n", {"cpu": 2}, {}))
        backend.at(3.0, lambda: backend.lose_node("m", "SIGKILL"))
        simulation.run()
        assert moved(simulation) == [("f", "n", "m"), ("f", "m", "n")]
        assert simulation.ended["run"].status == "done"
        simulation.check_end()

    def test_collocated_functions_move_together(self, simulate: Any) -> None:
        simulation = simulate({name: {"cpu": 2} for name in "xyz"})
        dag = DAG().add(
            Function("a", list), Function("b", list, ["a"]), Function("c", list, ["b"], node=collocated("b"))
        )
        simulation.begin(dag, allocator=on(a="x", b="x", c="x"))
        simulation.backend.at(1.5, lambda: simulation.backend.lose_node("x", "SIGKILL"))
        simulation.run()
        run = simulation.runs["run"]
        assert run.node[1] == run.node[2] != "x"
        simulation.check_end()

    def test_a_member_that_moves_later_follows_its_group(self, simulate: Any) -> None:
        """b was done and is made again only because c failed once; c has moved by then."""
        simulation = simulate(
            {name: {"cpu": 2} for name in "xyz"},
            duration=lambda attempt: 4.0 if attempt.label == "c" else 1.0,
            fails={"c": [FailureKind.EXCEPTION]},
        )
        dag = DAG().add(
            Function("b", list),
            Function("c", list, ["b"]),
            Function("d", list, ["c"], node=collocated("b")),
        )
        where = on(b="x", c="y", d="x")
        simulation.begin(dag, allocator=lambda functions, capabilities: (
            where(functions, capabilities) if len(functions) > 1 or functions[0].id == "d" else {"b": "z"}
        ))  # fmt: skip
        simulation.backend.at(2.0, lambda: simulation.backend.lose_node("x", "SIGKILL"))
        simulation.run()
        run = simulation.runs["run"]
        assert simulation.attempts() == {"b": 2, "c": 2, "d": 1}
        assert run.node[0] == run.node[2] != "x"
        simulation.check_end()


class TestDrain:
    def test_what_runs_goes_on_and_what_waits_goes_elsewhere(self, simulate: Any) -> None:
        simulation = simulate({"n": {"cpu": 1}, "m": {"cpu": 1}}, duration=2.0)
        dag = DAG().add(*(Function(id, list, cost={"cpu": 1}) for id in "abc"))
        simulation.begin(dag, allocator=on(a="n", b="n", c="n"))
        simulation.backend.at(1.0, lambda: simulation.drain("n"))
        simulation.run()
        assert simulation.spans() == {"a": (0, 2), "b": (1, 3), "c": (3, 5)}
        assert simulation.scheduler.in_flight("n") == 0
        assert simulation.ended["run"].status == "done"
        simulation.check_end()


class TestRetire:
    def test_what_can_run_nowhere_else_is_done_there_first(self, simulate: Any) -> None:
        simulation = simulate({"n": {"cpu": 1, "gpu": 1}, "m": {"cpu": 1}}, duration=2.0)
        dag = DAG().add(
            Function("begun", list, cost={"cpu": 1}),
            Function("free", list, cost={"cpu": 1}),
            Function("pinned", list, [Argument("begun", serialize=list)], cost={"cpu": 1}, node="n"),
            Function("large", list, ["pinned"], cost={"gpu": 1}),
        )
        simulation.begin(dag, allocator=on(begun="n", free="n", pinned="n", large="n"))
        simulation.backend.at(1.0, lambda: simulation.retire("n"))
        simulation.run()
        assert simulation.ended["run"].status == "done"
        assert simulation.spans()["free"] == (1, 3)
        run = simulation.runs["run"]
        nodes = {id: run.node[i] for id, i in run.program.index.items()}
        assert nodes == {"begun": "n", "free": "m", "pinned": "n", "large": "n"}
        simulation.check_end()

    def test_it_is_idle_when_that_is_done(self, simulate: Any) -> None:
        simulation = simulate({"n": {"cpu": 1}, "m": {"cpu": 1}}, duration=2.0)
        dag = DAG().add(Function("a", list, node="m"), Function("b", list, ["a"], node="n"))
        simulation.begin(dag, allocator=on(a="m", b="n"), wait_for_node_s=9.0)
        simulation.retire("n")
        idle = {}
        for time in (1.0, 3.0, 4.5):
            simulation.backend.at(time, lambda time=time: idle.update({time: simulation.scheduler.is_idle("n")}))
        simulation.run()
        assert idle == {1.0: False, 3.0: False, 4.5: True}
        assert simulation.scheduler.drain("n", 5.0) == []
        with pytest.raises(AllocationError):
            simulation.begin(dag, "later", allocator=on(a="m", b="n"))
        simulation.check_end()

    def test_its_loss_is_as_any_other(self, simulate: Any) -> None:
        simulation = simulate({"n": {"cpu": 1}, "m": {"cpu": 1}}, duration=2.0)
        simulation.begin(DAG().add(Function("a", list, node="m"), Function("b", list, ["a"], node="n")))
        simulation.retire("n")
        simulation.backend.at(1.0, lambda: simulation.backend.lose_node("n", "SIGKILL"))
        simulation.run()
        assert simulation.states() == {"a": CANCELLED, "b": FAILED}
        simulation.check_end()


class TestResultLost:
    @pytest.mark.parametrize(("time", "attempts"), [(1.5, {"a": 1, "b": 1}), (0.9, {"a": 1, "b": 1})])
    def test_nothing_happens_when_it_is_in_use_already(
        self, simulate: Any, time: float, attempts: dict[str, int]
    ) -> None:
        simulation = simulate({"n": {"cpu": 1}})
        simulation.begin(DAG().add(Function("a", list), Function("b", list, ["a"])))

        def lose() -> None:
            for key in simulation.backend.results():
                simulation.backend.lose_result(key)

        simulation.backend.at(time, lose)
        simulation.run()
        assert simulation.attempts() == attempts
        simulation.check_end()

    def test_it_is_made_again_for_a_retry(self, simulate: Any) -> None:
        simulation = simulate({"n": {"cpu": 1}}, fails={"b": [FailureKind.EXCEPTION]})
        simulation.begin(DAG().add(Function("a", list), Function("b", list, ["a"])))
        simulation.backend.at(1.5, lambda: simulation.backend.lose_result(AttemptId("run", 0, 1)))
        simulation.run()
        assert simulation.attempts() == {"a": 2, "b": 2}
        assert simulation.ended["run"].status == "done"
        simulation.check_end()

    def test_a_kept_result_is_made_again_with_what_it_was_made_from(self, simulate: Any, chain: DAG) -> None:
        simulation = simulate(TWO)
        simulation.begin(chain, "before")
        simulation.run()
        key, node = simulation.scheduler.holder("before", 1)
        other = "m" if node == "n" else "n"
        simulation.begin(chain, "after", given={"b": (key, node)}, allocator=on(a=other, b=other, c=other))
        simulation.backend.lose_node(node, "SIGKILL")  # heard of before c has begun
        simulation.run()
        assert simulation.starts["after"] == ["c", "a", "b", "c"]
        assert simulation.ended["after"].status == "done"
        assert simulation.runs["after"].recomputed == 2
        simulation.check_end()

    def test_a_kept_result_that_was_lost_since_it_was_asked_for_is_made_again(self, simulate: Any, chain: DAG) -> None:
        simulation = simulate(TWO)
        simulation.begin(chain, "before")
        simulation.run()
        key, node = simulation.scheduler.holder("before", 1)
        simulation.backend.lose_node(node, "SIGKILL")
        simulation.backend.add_node(node, TWO[node], {})  # it begins anew, under the same name
        simulation.run()
        simulation.begin(chain, "after", given={"b": (key, node)})
        simulation.run()
        assert simulation.starts["after"] == ["a", "b", "c"]
        assert simulation.ended["after"].status == "done"
        assert simulation.runs["after"].recomputed == 2
        simulation.check_end()

    def test_a_kept_result_that_is_not_lost_leaves_what_it_was_made_from_alone(self, simulate: Any, chain: DAG) -> None:
        simulation = simulate(TWO)
        simulation.begin(chain, "before")
        simulation.run()
        simulation.begin(chain, "after", given={"b": simulation.scheduler.holder("before", 1)})
        simulation.run()
        assert simulation.starts["after"] == ["c"]
        started, stopped = simulation.told("run", "start")[-1], simulation.told("run", "stop")[-1]
        assert (started.measurements["functions"], stopped.measurements["done"]) == (2, 2)
        simulation.check_end()


class Machine:
    """A scheduler that is told single events."""

    def __init__(self, dag: DAG, **options: Any) -> None:
        self.scheduler = Scheduler()
        self.tell(*(NodeJoined(NodeInfo(name, {"cpu": 1}, 1)) for name in ("n", "m")))
        options.setdefault("allocator", on(a="n", b="n", c="m"))
        self.commands = self.scheduler.submit(compile_program(dag, run="r"), RunOptions(**options), 0.0)

    def tell(self, *events: Any) -> list[Any]:
        """Commands that follow, without the reports."""
        self.commands = self.scheduler.handle(events, 0.0)
        return [command for command in self.commands if not isinstance(command, Report)]

    def reports(self) -> list[str]:
        return [command.name[-1] for command in self.commands if isinstance(command, Report)]


def key(function: int, number: int = 1) -> AttemptId:
    return AttemptId("r", function, number)


class TestFencing:
    def test_a_late_answer_is_freed_and_changes_nothing(self, chain: DAG) -> None:
        machine = Machine(chain)
        assert machine.tell(NodeLost("n", "silence")) == [Start(key(0, 2), "m", ())]
        assert machine.tell(Finished(key(0, 1), 0, 1)) == [Free((key(0, 1),))]
        assert machine.tell(Started(key(0, 1), 0), Failed(key(0, 1), _no()), Cancelled(key(0, 1))) == []
        assert machine.tell(Finished(key(0, 2), 0, 1)) == [Start(key(1), "m", ((key(0, 2), "m"),), 1.0)]

    def test_an_answer_twice_frees_nothing(self, chain: DAG) -> None:
        machine = Machine(chain)
        machine.tell(Finished(key(0), 0, 1))
        assert machine.tell(Finished(key(0), 0, 1), Started(key(0), 0)) == []

    def test_an_answer_for_a_forgotten_run_is_freed(self, chain: DAG) -> None:
        machine = Machine(chain)
        assert machine.tell(Finished(AttemptId("gone", 0, 1), 0, 1)) == [Free((AttemptId("gone", 0, 1),))]

    def test_news_of_nodes_that_are_not_there(self, chain: DAG) -> None:
        machine = Machine(chain)
        assert machine.tell(NodeLost("x", "what?"), ResultLost(key(1), "x"), ResultLost(key(0, 0), "n")) == []

    def test_a_node_that_joins_again_was_lost(self, chain: DAG) -> None:
        machine = Machine(chain)
        machine.tell(Finished(key(0), 0, 1))
        machine.tell(NodeJoined(NodeInfo("n", {"cpu": 1}, 1)))
        assert machine.reports()[:2] == ["down", "exception"]
        assert machine.scheduler.nodes["n"].in_flight + machine.scheduler.nodes["m"].in_flight == 1

    @pytest.mark.parametrize("started", [False, True])
    def test_an_attempt_may_end_as_cancelled_without_being_told_to(self, chain: DAG, started: bool) -> None:
        machine = Machine(chain, on_error="continue")
        if started:
            machine.tell(Started(key(0), 0))
        machine.tell(Cancelled(key(0)))
        assert [machine.scheduler.state("r", i) for i in range(3)] == [State.CANCELLED, SKIPPED, SKIPPED]
        assert machine.scheduler.is_over("r")


class TestNodesLostTogether:
    """What is told in one batch: nothing starts on a node that is lost by a later event of it."""

    def test_nothing_starts_on_one_of_them(self) -> None:
        dag = DAG().add(Function("a", list), Function("b", list))
        machine = Machine(dag, allocator=on(a="n", b="m"), wait_for_capacity_s=9.0)
        machine.tell(NodeJoined(NodeInfo("o", {"cpu": 2}, 2)))
        machine.tell(Started(key(0), 0), Started(key(1), 0))
        starts = [c for c in machine.tell(NodeLost("n", "SIGKILL"), NodeLost("m", "SIGKILL")) if isinstance(c, Start)]
        assert [(start.id, start.node) for start in starts] == [(key(0, 2), "o"), (key(1, 2), "o")]
        assert machine.scheduler.progress("r").deaths == {0: 1, 1: 1}

    def test_what_has_no_other_waits_and_was_tried_once(self) -> None:
        machine = Machine(DAG().add(Function("a", list)), allocator=on(a="n"), wait_for_capacity_s=9.0)
        machine.tell(Started(key(0), 0))
        told = machine.tell(NodeLost("n", "SIGKILL"), NodeLost("m", "SIGKILL"))
        assert not [command for command in told if isinstance(command, Start)]
        assert Start(key(0, 2), "o", ()) in machine.tell(NodeJoined(NodeInfo("o", {"cpu": 1}, 1)))


def test_what_to_do_without_nodes_is_the_backends_to_say() -> None:
    scheduler = Scheduler(advice=lambda: "add workers")
    dag = DAG().add(Function("a", list))
    with pytest.raises(AllocationError, match="function 'a': the cluster has no nodes; add workers"):
        scheduler.submit(compile_program(dag, run="r"), RunOptions(), 0.0)
    scheduler.handle([NodeJoined(NodeInfo("n", {"cpu": 1}, 1))], 0.0)
    scheduler.submit(compile_program(dag, run="r"), RunOptions(), 0.0)
    scheduler.handle([NodeLost("n", "SIGKILL")], 0.0)
    failure = scheduler.progress("r").failures[0].failure
    assert failure.message == "node 'n' is gone (SIGKILL), and no other is left; add workers"


class TestInputsThatVanish:
    def test_what_has_not_begun_is_taken_back(self, chain: DAG) -> None:
        machine = Machine(chain)
        machine.tell(Finished(key(0), 0, 1))
        assert machine.tell(ResultLost(key(0), "n")) == [Stop(key(1)), Start(key(0, 2), "n", ())]
        assert machine.scheduler.state("r", 1) is State.REVOKED
        assert machine.tell(Cancelled(key(1))) == []
        assert machine.tell(Finished(key(0, 2), 0, 1)) == [Start(key(1, 2), "n", ((key(0, 2), "n"),), 1.0)]

    def test_an_input_that_cannot_be_fetched_any_more_uses_up_no_retry(self, chain: DAG) -> None:
        machine = Machine(chain, max_retries=0)
        machine.tell(Finished(key(0), 0, 1))
        machine.tell(ResultLost(key(0), "n"))
        assert machine.tell(Failed(key(1), _no(FailureKind.INPUT))) == []
        assert machine.tell(Finished(key(0, 2), 0, 1)) == [Start(key(1, 2), "n", ((key(0, 2), "n"),), 1.0)]

    def test_what_has_begun_goes_on(self, chain: DAG) -> None:
        machine = Machine(chain)
        machine.tell(Finished(key(0), 0, 1), Started(key(1), 0))
        machine.tell(Started(key(1), 0))
        assert machine.tell(ResultLost(key(0), "n")) == []
        assert machine.tell(Finished(key(1), 0, 1)) == [Start(key(2), "m", ((key(1), "n"),), 2.0)]
        assert machine.scheduler.progress("r").recomputed == 0

    def test_it_may_succeed_all_the_same(self, chain: DAG) -> None:
        machine = Machine(chain)
        machine.tell(Finished(key(0), 0, 1))
        machine.tell(ResultLost(key(0), "n"))
        commands = machine.tell(Finished(key(1), 0, 1))
        assert Start(key(2), "m", ((key(1), "n"),), 2.0) in commands

    def test_a_small_result_is_not_lost(self, chain: DAG) -> None:
        """The coordinator has it, as it came with the news."""
        machine = Machine(chain, allocator=on(a="n", b="m", c="m"))
        machine.tell(Finished(key(0), 0, 1, inline=(b"frames",)))
        assert machine.tell(NodeLost("n", "SIGKILL")) == []
        assert machine.scheduler.holder("r", 0) == (key(0), HERE)

    def test_a_failed_recomputation_leaves_what_runs_alone(self) -> None:
        """b runs with a's result, which c needs too: a can't be made again, so c is skipped and b is done."""
        dag = DAG().add(Function("a", list), Function("b", list, ["a"]), Function("c", list, ["a"], cost={"cpu": 1}))
        machine = Machine(dag, allocator=on(a="n", b="m", c="n"), max_retries=0, on_error="continue")
        machine.tell(Finished(key(0), 0, 1))
        machine.tell(Started(key(1), 0))
        assert machine.tell(ResultLost(key(0), "n")) == [Stop(key(2)), Start(key(0, 2), "n", ())]
        machine.tell(Cancelled(key(2)))
        machine.tell(Failed(key(0, 2), _no()))
        machine.tell(Finished(key(1), 0, 1))
        states = [machine.scheduler.state("r", i) for i in range(3)]
        assert states == [State.FAILED, State.DONE, State.SKIPPED]
        assert machine.scheduler.is_over("r")


def _no(kind: FailureKind = FailureKind.EXCEPTION) -> Failure:
    return Failure(kind, "no")


def test_attempts_that_could_not_be_sent_do_not_count_as_started(chain: DAG) -> None:
    """A failure may be heard of before anything has started."""
    machine = Machine(chain, max_retries=1)
    assert machine.tell(Failed(key(0), _no(FailureKind.CODE))) == [Start(key(0, 2), "n", ())]
    assert machine.reports() == ["exception", "retry", "queued"]


def test_simulated_attempts_know_their_node(simulate: Any) -> None:
    seen: list[Attempt] = []

    def seconds(attempt: Attempt) -> float:
        seen.append(attempt)
        return 1.0

    simulation = simulate({"n": {"cpu": 1}}, duration=seconds)
    simulation.begin(DAG().add(Function("f", list, cost={"cpu": 1})))
    simulation.run()
    assert [(attempt.node, attempt.label, dict(attempt.cost)) for attempt in seen] == [("n", "f", {"cpu": 1})]
