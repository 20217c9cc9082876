"""Nodes that keep their own ledger are given functions before inputs and room are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from handoff_lab.allocation import Allocation
from handoff_lab.backends.simulated import SimulatedBackend
from handoff_lab.backends.simulation import Simulation
from handoff_lab.graph import DAG, Argument, Function
from handoff_lab.messages import (
    HERE,
    AttemptId,
    BackendEvent,
    Cancelled,
    Command,
    Ended,
    Failed,
    Failure,
    FailureKind,
    Finished,
    FinishedMany,
    Free,
    NodeInfo,
    NodeJoined,
    NodeLost,
    Report,
    ReportFinished,
    ReportQueued,
    ReportTransferred,
    ResultLost,
    Start,
    Started,
    Stop,
    Transferred,
    TransferredMany,
)
from handoff_lab.resources import Resources, ResourceTracker, SimpleResourceTracker
from handoff_lab.scheduler import RunOptions, Scheduler, State, compile_program


class Talk:
    """A scheduler over nodes that keep their own ledger, told and asked by hand."""

    def __init__(self, *nodes: str, cpu: float = 1, tracker: ResourceTracker | None = None) -> None:
        self.scheduler = Scheduler(tracker)
        self.scheduler.handle([NodeJoined(info(name, cpu)) for name in nodes], 0.0)

    def begin(self, dag: DAG, **options: object) -> list[Command]:
        options.setdefault("allocator", "load_balanced")
        program = compile_program(dag.validate(), run="run")
        return self.scheduler.submit(program, RunOptions(**options), 0.0)

    def hear(self, *events: BackendEvent, now: float = 1.0) -> list[Command]:
        return self.scheduler.handle(events, now)

    def states(self) -> list[State]:
        return [State(state) for state in self.scheduler.progress("run").state]


def info(name: str, cpu: float = 1) -> NodeInfo:
    return NodeInfo(name, {"cpu": cpu}, max(1, int(cpu)), keeps_ledger=True)


def done(functions: Sequence[int], *, number: int = 1, seconds: float = 1e-5, run: str = "run") -> FinishedMany:
    count = len(functions)
    return FinishedMany(
        run,
        functions,
        [number] * count,
        [10.0] * count,
        [10.0 + seconds] * count,
        [5] * count,
        [(b"value",)] * count,
        [0] * count,
        [None] * count,
        [""] * count,
    )


def starts(commands: Sequence[Command]) -> list[Start]:
    return [command for command in commands if isinstance(command, Start)]


def key(function: int, number: int = 1) -> AttemptId:
    return AttemptId("run", function, number)


def chain(length: int, **options: object) -> DAG:
    dag = DAG("chain").add(Function(0, list, **options))
    return dag.add(*(Function(i, list, args=[i - 1], **options) for i in range(1, length)))


def wide(count: int, **options: object) -> DAG:
    return DAG("wide").add(*(Function(i, list, **options) for i in range(count)))


def test_a_chain_goes_out_whole_and_each_names_the_attempt_that_makes_its_input() -> None:
    talk = Talk("a")
    given = starts(talk.begin(chain(4)))
    assert [start.id for start in given] == [key(0), key(1), key(2), key(3)]
    assert [start.sources for start in given[1:]] == [((key(i), "a"),) for i in range(3)]
    assert not any(start.granted for start in given)


def test_a_chain_that_changes_nodes_goes_out_whole_too() -> None:
    dag = DAG().add(*(Function(i, list, args=[i - 1] if i else [], node="ab"[i % 2]) for i in range(4)))
    given = starts(Talk("a", "b").begin(dag))
    assert [(start.node, start.sources) for start in given] == [
        ("a", ()), ("b", ((key(0), "a"),)), ("a", ((key(1), "b"),)), ("b", ((key(2), "a"),)),
    ]  # fmt: skip


def test_the_most_urgent_goes_out_first_however_far_behind_its_inputs_it_is() -> None:
    """A chain beside many short ones: as much is handed over early as may be, and all of the chain is in it."""
    dag = chain(100)
    for number in range(600):
        dag.add(*(Function((number, i), list, args=[(number, i - 1)] if i else []) for i in range(6)))
    first = RunOptions(lambda functions, nodes: Allocation({f.id: "a" for f in functions}, urgency(functions)))
    program = compile_program(dag.validate(), run="run")
    talk = Talk("a")
    given = {program.functions[start.id.function].id for start in starts(talk.scheduler.submit(program, first, 0.0))}
    assert len(given) < len(dag)
    assert set(range(100)) <= given


def urgency(functions: Sequence[Function]) -> dict[object, float]:
    """Those with numbers for ids first."""
    return {f.id: float(f.id) if isinstance(f.id, int) else 1000.0 + place for place, f in enumerate(functions)}


def test_costs_hold_nothing_back_where_the_node_finds_room_itself() -> None:
    talk = Talk("a")
    commands = talk.begin(wide(5, cost={"cpu": 1}))
    assert len(starts(commands)) == 5
    assert talk.scheduler.used("a") == Resources()


def test_a_limit_of_the_run_is_kept_function_by_function() -> None:
    talk = Talk("a", cpu=8)
    assert [start.id for start in starts(talk.begin(chain(3), max_concurrency=1))] == [key(0)]
    assert [start.id for start in starts(talk.hear(done([0])))] == [key(1)]


def test_what_is_done_in_columns_is_told_in_columns() -> None:
    talk = Talk("a")
    queued = [command for command in talk.begin(chain(3, cost={"cpu": 1})) if isinstance(command, ReportQueued)]
    assert [(report.functions, report.nodes) for report in queued] == [([0], ["a"])]
    queued, finished, *rest = talk.hear(done([0, 1]))
    assert isinstance(queued, ReportQueued)
    assert queued.functions == [2]
    assert isinstance(finished, ReportFinished)
    assert (finished.functions, finished.attempts, finished.claimed) == ([0, 1], [1, 1], Resources())
    assert finished.costs == [Resources({"cpu": 1})] * 2
    assert rest == []
    assert isinstance(talk.hear(done([2]))[-1], Ended)


def test_what_fails_takes_back_what_was_handed_over_because_of_it() -> None:
    talk = Talk("a")
    talk.begin(chain(3), max_retries=1)
    commands = talk.hear(Failed(key(0), Failure(FailureKind.EXCEPTION, "no"), 1.0, 2.0))
    assert [command.id for command in commands if isinstance(command, Stop)] == [key(1), key(2)]
    assert {command.how for command in commands if isinstance(command, Stop)} == {"recall"}
    again = starts(commands)
    assert [start.id for start in again] == [key(0, 2), key(1, 2), key(2, 2)]
    assert again[1].sources == ((key(0, 2), "a"),)
    reported = talk.hear(done([0, 1, 2], number=2))
    (finished,) = [command for command in reported if isinstance(command, ReportFinished)]
    assert finished.attempts == [2, 1, 1], "those that were taken back never ran"


def test_what_fails_for_good_skips_what_was_handed_over() -> None:
    talk = Talk("a")
    talk.begin(chain(3), max_retries=0, on_error="continue")
    talk.hear(Failed(key(0), Failure(FailureKind.EXCEPTION, "no"), 1.0, 2.0))
    assert talk.states() == [State.FAILED, State.SKIPPED, State.SKIPPED]
    assert talk.scheduler.in_flight("a") == 0


def test_a_consumer_whose_node_hears_first_that_its_input_will_not_come_is_not_tried_in_vain() -> None:
    dag = DAG().add(Function("p", list, node="a"), Function("c", list, args=["p"], node="b"))
    talk = Talk("a", "b")
    talk.begin(dag)
    commands = talk.hear(Failed(key(1), Failure(FailureKind.INPUT, "it will not come")))
    assert starts(commands) == []
    assert not [command for command in commands if isinstance(command, Report)]
    assert [start.id for start in starts(talk.hear(done([0])))] == [key(1, 2)]


def test_a_consumer_may_be_done_before_the_news_of_its_input_comes() -> None:
    dag = DAG().add(Function("p", list, node="a"), Function("c", list, args=["p"], node="b"))
    talk = Talk("a", "b")
    talk.begin(dag)
    talk.hear(done([1]))
    assert isinstance(talk.hear(done([0]))[-1], Ended)


def test_a_lost_node_takes_promises_with_it() -> None:
    dag = DAG().add(Function("p", list), Function("c", list, args=["p"], node="b"))
    talk = Talk("a", "b")
    talk.begin(
        dag, allocator=lambda functions, nodes: {f.id: "a" if f.id == "p" and "a" in nodes else "b" for f in functions}
    )
    commands = talk.hear(NodeLost("a", "it was killed"))
    assert [command.id for command in commands if isinstance(command, Stop)] == [key(1)]
    assert [(start.id, start.node) for start in starts(commands)] == [(key(0, 2), "b"), (key(1, 2), "b")]


def test_of_what_a_lost_node_was_given_only_the_first_counts_as_tried() -> None:
    talk = Talk("a", "b")
    talk.begin(wide(6), allocator=lambda functions, nodes: {f.id: min(nodes) for f in functions})
    commands = talk.hear(NodeLost("a", "it was killed"))
    retried = [c.metadata["function"] for c in commands if isinstance(c, Report) and c.name[-1] == "retry"]
    assert sorted(retried) == [0, 1]
    progress = talk.scheduler.progress("run")
    assert [progress.attempt(i) for i in range(6)] == [2, 2, 1, 1, 1, 1]


def test_what_only_waited_on_a_lost_node_for_a_slot_or_for_room_does_not_count_as_tried() -> None:
    for cost, running in ({}, [0, 1]), ({"cpu": 2}, [0]):
        talk = Talk("a", "b", cpu=2)
        talk.begin(wide(6, cost=cost), allocator=lambda functions, nodes: {f.id: min(nodes) for f in functions})
        talk.hear(*(Started(key(i), 10.0) for i in running))
        commands = talk.hear(NodeLost("a", "it was killed"))
        retried = [c.metadata["function"] for c in commands if isinstance(c, Report) and c.name[-1] == "retry"]
        assert retried == running[::-1]
        progress = talk.scheduler.progress("run")
        assert [progress.attempt(i) for i in range(6)] == [2 if i in running else 1 for i in range(6)]


def test_results_of_a_run_that_is_gone_are_freed() -> None:
    assert Talk("a").hear(done([3], run="gone")) == [Free((AttemptId("gone", 3, 1),))]


def test_a_node_is_given_more_the_shorter_functions_are() -> None:
    talk = Talk("a")
    first = len(starts(talk.begin(wide(9000))))
    assert first < 1000, "how long they take is not known yet"
    second = len(starts(talk.hear(done(range(first)))))
    assert second > 2 * first
    slow = Talk("a")
    given = len(starts(slow.begin(wide(9000))))
    assert starts(slow.hear(done(range(given - 2), seconds=10.0))) == []


def test_a_node_beside_a_tracker_of_the_users_gives_back_what_was_claimed_for_it() -> None:
    talk = Talk("a", cpu=2, tracker=SimpleResourceTracker())
    assert len(starts(talk.begin(wide(4, cost={"cpu": 1})))) == 2
    commands = talk.hear(done([0, 1]))
    assert [start.id for start in starts(commands)] == [key(2), key(3)]
    assert [c.name[-1] for c in commands if isinstance(c, Report)].count("release") == 2
    assert isinstance(talk.hear(done([2, 3]))[-1], Ended)
    assert talk.scheduler.used("a") == Resources()


def test_a_lost_node_may_end_a_run_that_it_was_given_more_of() -> None:
    talk = Talk("a")
    talk.begin(wide(6))
    for number in (1, 2):
        talk.hear(Started(key(5, number), 1.0))
        talk.hear(NodeLost("a", "it was killed"), NodeJoined(info("a")))
    talk.hear(Started(key(5, 3), 1.0))
    commands = talk.hear(NodeLost("a", "it was killed"))
    assert isinstance(ended := commands[-1], Ended)
    assert (ended.status, ended.function, ended.deaths) == ("failed", 5, 3)


def test_what_looks_for_a_small_value_on_a_lost_node_is_taken_back_and_costs_no_retry() -> None:
    dag = DAG().add(Function("p", list, node="a"), Function("c", list, args=["p"], node="b", max_retries=0))
    talk = Talk("a", "b")
    talk.begin(dag)
    talk.hear(done([0]))
    (stop,) = [command for command in talk.hear(NodeLost("a", "it was killed")) if isinstance(command, Stop)]
    assert (stop.id, stop.how) == (key(1), "recall")
    (again,) = starts(talk.hear(Failed(key(1), Failure(FailureKind.INPUT, "its node is gone"))))
    assert (again.id, again.sources) == (key(1, 2), ((key(0), HERE),))


@pytest.mark.parametrize(("begun", "ended"), [(1.7e308, 1.7e308), (-1.7e308, 1.7e308), (2e9, 1e9)])
def test_times_that_no_clock_shows_keep_no_node_from_work(begun: float, ended: float) -> None:
    talk = Talk("a")
    talk.begin(wide(9))
    talk.hear(replace(done([0, 1]), started=[begun] * 2, ended=[ended] * 2))
    talk.hear(Finished(key(2), begun, ended))
    assert isinstance(talk.hear(done(range(3, 9)))[-1], Ended)


def test_what_a_node_says_of_functions_that_are_not_there_is_left_out() -> None:
    talk = Talk("a")
    talk.begin(wide(2))
    assert talk.hear(ResultLost(key(2), "a"), Transferred(key(2), "b", "a", 1, 1.0, 2.0)) == []
    assert talk.hear(TransferredMany("run", "a", [0, 2], [1, 1], ["b"] * 2, [1] * 2, [1.0] * 2, [2.0] * 2)) == []


def test_a_run_that_is_over_is_kept_by_no_node() -> None:
    talk = Talk("a")
    talk.begin(wide(1).add(*(Function(i, list, args=[0]) for i in range(1, 4000))))
    assert talk.scheduler.nodes["a"].ahead
    talk.scheduler.cancel("run", 1.0)
    assert not talk.scheduler.nodes["a"].ahead


def test_what_was_told_to_stop_and_hears_first_that_its_input_will_not_come_is_cancelled() -> None:
    talk = Talk("a")
    talk.begin(chain(3))
    stopped = talk.scheduler.cancel("run", 1.0)
    assert [command.id for command in stopped if isinstance(command, Stop)] == [key(0), key(1), key(2)]
    commands = talk.hear(
        Cancelled(key(0)),
        Failed(key(1), Failure(FailureKind.INPUT, "it will not come")),
        Failed(key(2), Failure(FailureKind.INPUT, "it will not come")),
    )
    told = [command.name[-1] for command in commands if isinstance(command, Report)]
    assert told == ["cancel", "cancel", "cancel", "stop"]
    assert talk.states() == [State.CANCELLED] * 3


def test_what_is_recalled_from_a_draining_node_counts_as_never_tried() -> None:
    talk = Talk("a", "b")
    talk.begin(chain(2), allocator=lambda functions, nodes: {f.id: min(nodes) for f in functions}, max_retries=0)
    talk.scheduler.drain("a", 1.0)
    commands = talk.hear(Failed(key(1), Failure(FailureKind.INPUT, "it will not come")), Cancelled(key(0)))
    assert [(start.id, start.node) for start in starts(commands)] == [(key(0, 2), "b"), (key(1, 2), "b")]
    assert not [c for c in commands if isinstance(c, Report) and c.name[-1] in ("exception", "retry")]


@pytest.mark.parametrize(
    "end",
    [Finished(key(0), 10.0, 10.0), Failed(key(0), Failure(FailureKind.DIED, "it was killed"))],
    ids=["done", "dead"],
)
def test_what_was_recalled_is_skipped_when_what_it_needs_ends_as_cancelled(end: BackendEvent) -> None:
    talk = Talk("a", "b")
    talk.begin(
        chain(2), allocator=lambda functions, nodes: {f.id: max(nodes) if f.id else min(nodes) for f in functions}
    )
    talk.hear(Started(key(0), 10.0, 0))
    talk.scheduler.drain("b", 1.0)
    talk.scheduler.cancel("run", 1.0, 0)
    talk.hear(Cancelled(key(1)))
    commands = talk.hear(end)
    assert talk.states() == [State.CANCELLED, State.SKIPPED]
    assert any(isinstance(command, Ended) for command in commands)


def test_an_input_that_a_node_could_not_fetch_is_there_still() -> None:
    talk = Talk("a")
    talk.begin(DAG().add(Function("x", type="input"), Function("f", list, ["x"])))
    assert talk.hear(ResultLost(key(0, 0), HERE)) == []
    assert Ended("run", "done") in talk.hear(Finished(key(1), 10.0, 10.0))


def test_a_serializer_whose_consumer_ended_all_the_same_waits_for_no_node() -> None:
    talk = Talk("a", "b")
    load, serializer, use = range(3)
    dag = DAG().add(Function("load", list), Function("use", list, [Argument("load", serialize=list)]))
    talk.begin(
        dag, allocator=lambda functions, nodes: {f.id: max(nodes) if f.id == "use" else min(nodes) for f in functions}
    )
    talk.hear(Finished(key(load), 10.0, 10.0))
    talk.hear(Finished(key(serializer), 10.0, 10.0))
    assert [start.id for start in starts(talk.hear(NodeLost("a", "it was killed")))] == [key(load, 2)]
    talk.hear(Finished(key(use), 10.0, 10.0))
    talk.scheduler.drain("b", 1.0)
    talk.hear(Finished(key(load, 2), 10.0, 10.0))
    assert talk.states() == [State.DONE] * 3
    assert not talk.scheduler.progress("run").unfinished


def test_what_can_run_on_a_retiring_node_alone_goes_back_there() -> None:
    talk = Talk("a", "b")
    dag = DAG().add(Function(0, list, node="a"), Function(1, list), Function(2, list, [0], node="a"))
    talk.begin(dag, allocator=lambda functions, nodes: {f.id: min(nodes) for f in functions}, max_retries=0)
    talk.scheduler.retire("a", 1.0)
    commands = talk.hear(*(Cancelled(key(i)) for i in range(3)))
    assert {(start.id, start.node) for start in starts(commands)} == {
        (key(0, 2), "a"), (key(1, 2), "b"), (key(2, 2), "a"),
    }  # fmt: skip
    assert not talk.scheduler.is_idle("a")
    talk.hear(done([1], number=2), done([0, 2], number=2))
    assert talk.scheduler.is_idle("a")


def test_claims_that_are_told_never_exceed_what_a_node_has() -> None:
    talk = Talk("a")
    talk.begin(wide(3, cost={"cpu": 1}))
    began = [c for c in talk.hear(Started(key(0), 10.0)) if isinstance(c, Report)]
    assert [(c.name[-1], c.metadata.get("claimed")) for c in began] == [
        ("allocation", Resources({"cpu": 1})),
        ("start", None),
    ]
    commands = talk.hear(done([0, 1, 2]))
    told = [c.name[-1] if isinstance(c, Report) else type(c).__name__ for c in commands]
    assert told.index("release") < told.index("ReportFinished")
    (finished,) = [command for command in commands if isinstance(command, ReportFinished)]
    assert (finished.functions, finished.claimed) == ([1, 2], Resources())


def test_what_is_copied_after_the_end_of_a_run_is_not_told() -> None:
    talk = Talk("a", "b")
    talk.begin(wide(1))
    copied = TransferredMany("run", "b", [0], [1], ["a"], [5], [1.0], [2.0])
    assert any(isinstance(command, ReportTransferred) for command in talk.hear(copied))
    talk.hear(done([0]))
    assert talk.hear(copied) == []


class TestStragglers:
    """What waits on a slow node goes to one that has nothing to do."""

    @pytest.fixture
    def spans(self) -> dict[bool, float]:
        return {rebalances: self._makespan(rebalances) for rebalances in (False, True)}

    def _makespan(self, rebalances: bool) -> float:
        backend = SimulatedBackend(
            {"slow": {"cpu": 1}, "fast": {"cpu": 1}},
            duration=lambda attempt: 1.0 if attempt.node == "slow" else 0.01,
            keep_ledgers=True,
        )
        simulation = Simulation(backend)
        program = compile_program(wide(40).validate(), run="run")
        simulation.submit(program, RunOptions(allocator="load_balanced", rebalances=rebalances))
        simulation.run()
        assert simulation.ended["run"].status == "done"
        return backend.now

    def test_a_run_is_not_as_slow_as_its_slowest_node(self, spans: dict[bool, float]) -> None:
        assert spans[False] >= 20.0
        assert spans[True] < spans[False] / 3

    def test_moves_are_told(self) -> None:
        talk = Talk("a", "b")
        dag = DAG().add(*(Function(i, list) for i in range(8)), Function("pinned", list, node="a"))
        where = dict.fromkeys(range(8), "a") | {"pinned": "a"}
        talk.begin(dag, allocator=lambda functions, nodes: where, rebalances=True)
        commands = talk.hear(done([0], seconds=5.0))
        recalled = [
            command.id.function for command in commands if isinstance(command, Stop) and command.how == "recall"
        ]
        assert recalled == [5, 6, 7]
        assert talk.scheduler.progress("run").moving == dict.fromkeys(recalled, "b")
