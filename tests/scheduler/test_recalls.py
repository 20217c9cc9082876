"""Attempts that are taken back from nodes that keep their own ledger, too late or in time."""

from __future__ import annotations

from handoff_lab.graph import DAG, Function
from handoff_lab.messages import (
    AttemptId,
    BackendEvent,
    Cancelled,
    Command,
    Ended,
    Finished,
    NodeChanged,
    NodeInfo,
    NodeJoined,
    NodeLost,
    Report,
    ReportQueued,
    Start,
    Started,
    Stop,
)
from handoff_lab.scheduler import RunOptions, Scheduler, State, compile_program


class Talk:
    """A scheduler that gave ``f`` to node n, and was told to drain that."""

    def __init__(self) -> None:
        self.scheduler = Scheduler()
        self.hear(*(NodeJoined(NodeInfo(name, {"cpu": 1}, 1, keeps_ledger=True)) for name in "nm"))
        program = compile_program(DAG().add(Function("f", list, cost={"cpu": 1})), run="run")
        self.scheduler.submit(program, RunOptions(allocator=lambda functions, nodes: {"f": max(nodes)}), 0.0)
        self.told = self.scheduler.drain("n", 1.0)

    def hear(self, *events: BackendEvent) -> list[Command]:
        self.told = self.scheduler.handle(events, 1.0)
        return [command for command in self.told if not isinstance(command, Report | ReportQueued)]

    def reports(self) -> list[str]:
        return [command.name[-1] for command in self.told if isinstance(command, Report)]

    @property
    def state(self) -> State:
        return self.scheduler.state("run", 0)


FIRST, SECOND = AttemptId("run", 0, 1), AttemptId("run", 0, 2)


def test_what_comes_back_in_time_goes_elsewhere() -> None:
    talk = Talk()
    assert Stop(FIRST, "recall") in talk.told
    (start,) = talk.hear(Cancelled(FIRST))
    assert isinstance(start, Start)
    assert (start.id, start.node) == (SECOND, "m")
    assert talk.scheduler.progress("run").attempt(0) == 1


def test_what_had_begun_is_told_of_and_runs_to_its_end() -> None:
    talk = Talk()
    assert talk.hear(Started(FIRST, 5.0)) == []
    assert talk.reports() == ["allocation", "start"]
    assert talk.state is State.RUNNING
    assert talk.scheduler.used("n") == {"cpu": 1}
    assert talk.hear(Finished(FIRST, 5.0, 6.0))[-1] == Ended("run", "done")
    assert talk.reports().count("start") == 0
    assert talk.scheduler.used("n") == {}


def test_what_had_begun_is_interrupted_when_the_run_is_cancelled() -> None:
    talk = Talk()
    commands = talk.scheduler.cancel("run", 2.0)
    assert Stop(FIRST, "interrupt") in commands
    assert talk.hear(Cancelled(FIRST))[-1] == Ended("run", "cancelled")


def test_what_had_begun_is_tried_again_when_its_node_dies_under_it() -> None:
    talk = Talk()
    talk.hear(Started(FIRST, 5.0))
    (start,) = talk.hear(NodeLost("n", "SIGKILL"))
    assert isinstance(start, Start)
    assert (start.id, start.node) == (SECOND, "m")
    progress = talk.scheduler.progress("run")
    assert (progress.attempt(0), progress.deaths) == (2, {0: 1})


def test_what_waits_for_something_that_ran_on_a_lost_node_was_never_tried() -> None:
    scheduler = Scheduler()
    scheduler.handle([NodeJoined(NodeInfo(name, {"cpu": 4}, 4, keeps_ledger=True)) for name in "nm"], 0.0)
    dag = DAG().add(Function("a", list), Function("b", list, ["a"]), Function("c", list, ["b"]))
    options = RunOptions(allocator=lambda functions, nodes: dict.fromkeys("abc", max(nodes)))
    scheduler.submit(compile_program(dag, run="run"), options, 0.0)
    scheduler.handle([Started(FIRST, 0.0)], 0.5)
    scheduler.handle([NodeLost("n", "SIGKILL")], 1.0)
    progress = scheduler.progress("run")
    assert [progress.attempt(i) for i in range(3)] == [2, 1, 1]


def test_what_a_node_cannot_hold_any_more_comes_back_and_goes_elsewhere() -> None:
    scheduler = Scheduler()
    scheduler.handle([NodeJoined(NodeInfo(name, {"cpu": 2}, 2, keeps_ledger=True)) for name in "nm"], 0.0)
    program = compile_program(DAG().add(Function("f", list, cost={"cpu": 2})), run="run")
    scheduler.submit(program, RunOptions(allocator=lambda functions, nodes: {"f": max(nodes)}), 0.0)
    assert Stop(FIRST, "recall") in scheduler.handle([NodeChanged("n", {"cpu": 1}, 1)], 1.0)
    commands = scheduler.handle([Cancelled(FIRST)], 2.0)
    assert [(start.id, start.node) for start in commands if isinstance(start, Start)] == [(SECOND, "m")]
