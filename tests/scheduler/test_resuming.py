"""A run is taken up by another scheduler wherever the first one stopped: what nodes hold is not made again."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from hypothesis import given
from hypothesis import strategies as st

from handoff_lab.graph import DAG, Argument, Function
from handoff_lab.messages import (
    HERE,
    AttemptId,
    Command,
    Ended,
    Failed,
    Failure,
    FailureKind,
    Finished,
    NodeInfo,
    NodeJoined,
    Report,
    ReportFinished,
    Start,
    Started,
    Stop,
)
from handoff_lab.resources import Resources
from handoff_lab.scheduler import Past, Program, RunOptions, Scheduler, State, Tried, compile_program
from handoff_lab.scheduler.state import FinalFailure

NODES = ("alpha", "beta", "gamma")


def branching() -> Program:
    dag = DAG("branching").add(
        Function("n", type="input"),
        Function("xs", lambda n: n, args=["n"], cost={"cpu": 1}),
        Function("ys", lambda n: n, args=["n"]),
        Function("sum", lambda xs, ys: xs, args=[Argument("xs", serialize=str), "ys"], cost={"cpu": 1}),
    )
    return compile_program(dag, run="r")


def random_program(rng: random.Random) -> Program:
    dag = DAG("random")
    for i in range(rng.randint(1, 14)):
        needs = [_argument(rng, f"f{j}") for j in rng.sample(range(i), min(i, rng.randrange(4)))]
        dag.add(Function(f"f{i}", print, args=needs, cost={"cpu": 1} if rng.random() < 0.5 else None))
    return compile_program(dag, run="r")


def _argument(rng: random.Random, id: str) -> Argument:
    return Argument(id, serialize=str if rng.random() < 0.2 else None)


class Nodes:
    """Run what they are given, in any order; they keep results and go on when their coordinator is gone."""

    def __init__(self, names: Iterable[str], rng: random.Random) -> None:
        self.there = set(names)
        self.waiting: dict[AttemptId, Start] = {}
        self.running: dict[AttemptId, Start] = {}
        self.made: dict[AttemptId, tuple[str, Finished]] = {}
        self.starts: list[AttemptId] = []
        self._random = rng

    def obey(self, commands: Iterable[Command]) -> None:
        for command in commands:
            if isinstance(command, Start):
                self.starts.append(command.id)
                if command.id not in self.running and command.id not in self.made:
                    self.waiting[command.id] = command
            elif isinstance(command, Stop):
                self.waiting.pop(command.id, None)

    def step(self) -> Started | Finished | None:
        """Something that happens, or nothing."""
        ready = [id for id, start in self.waiting.items() if all(self._has(source) for source in start.sources)]
        choice = self._random.choice([*ready, *self.running]) if ready or self.running else None
        if choice is None:
            return None
        if choice in self.waiting:
            self.running[choice] = self.waiting.pop(choice)
            return Started(choice, 1.0)
        node = self.running.pop(choice).node
        event = Finished(choice, 1.0, 2.0)
        self.made[choice] = node, event
        return event

    def _has(self, source: tuple[AttemptId, str]) -> bool:
        return source[1] == HERE or source[0] in self.made

    def lose(self, names: Iterable[str]) -> None:
        self.there -= set(names)
        self.running = {id: start for id, start in self.running.items() if start.node in self.there}
        self.made = {id: made for id, made in self.made.items() if made[0] in self.there}

    def keep(self, adopted: Iterable[AttemptId]) -> None:
        """What no coordinator knows of ends; what waits was given by the one that is gone."""
        self.running = {id: start for id, start in self.running.items() if id in set(adopted)}
        self.waiting.clear()


def scheduler_with(nodes: Iterable[str]) -> Scheduler:
    scheduler = Scheduler()
    for name in sorted(nodes):
        scheduler.handle([NodeJoined(NodeInfo(name, {"cpu": 2.0}, 2, keeps_ledger=True))], 0.0)
    return scheduler


def finish(scheduler: Scheduler, nodes: Nodes, commands: Sequence[Command]) -> Ended:
    nodes.obey(commands)
    while True:
        for command in commands:
            if isinstance(command, Ended):
                return command
        event = nodes.step()
        assert event is not None, "it hangs"
        commands = scheduler.handle([event], 9.0)
        nodes.obey(commands)


def past_of(before: Scheduler, program: Program, nodes: Nodes) -> Past:
    """What the log and the nodes say."""
    progress = before.progress(program.run)
    made: dict[int, tuple[str, Finished]] = {}
    for id, (node, event) in sorted(nodes.made.items()):
        made[id.function] = node, event
    count = range(len(program.functions))
    return Past(
        generation=1,
        nodes={i: place for i in count if (place := progress.node[i])},
        attempts={i: progress.attempt(i) for i in count if progress.state[i] in (State.RUNNING, State.DONE)},
        done={i for i in count if progress.state[i] == State.DONE and program.functions[i].function is not None},
        begun={i for i in count if progress.state[i] == State.RUNNING},
        made=made,
        running={id.function: (start.node, Started(id, 1.0)) for id, start in nodes.running.items()},
        present={(id, node) for id, (node, _) in nodes.made.items()},
    )


@given(st.randoms(use_true_random=False), st.integers(0, 40), st.integers(0, 3), st.integers(0, 2))
def test_taken_up_anywhere_it_ends_well_and_makes_nothing_twice(
    rng: random.Random, steps: int, untold: int, lost: int
) -> None:
    program = random_program(rng)
    nodes = Nodes(NODES, rng)
    before = scheduler_with(NODES)
    nodes.obey(before.submit(program, RunOptions("load_balanced"), 0.0))
    for _ in range(steps):
        event = nodes.step()
        if event is not None:
            nodes.obey(before.handle([event], 1.0))
    for _ in range(untold):  # what is done after the coordinator was killed
        nodes.step()
    nodes.lose(rng.sample(NODES, lost))
    if before.progress("r").status != "running":
        return
    past = past_of(before, program, nodes)
    held = {i for i in past.made if not before.progress("r").is_hidden(i)}
    went_on = set(nodes.running)

    after = scheduler_with(nodes.there)
    commands = after.resume(program, RunOptions("load_balanced"), past, 5.0)
    nodes.starts.clear()
    nodes.keep(went_on & {command.id for command in commands if isinstance(command, Start)})
    end = finish(after, nodes, commands)

    assert end.status == "done"
    assert held.isdisjoint(id.function for id in nodes.starts)
    assert all(after.holder("r", target) is not None for target in program.targets)
    assert len(set(nodes.starts)) == len(nodes.starts)
    assert {name: (after.used(name), after.in_flight(name)) for name in nodes.there} == dict.fromkeys(
        nodes.there, (Resources(), 0)
    )


def test_a_result_of_which_nothing_was_told_is_told_now() -> None:
    program = branching()
    finished = Finished(AttemptId("r", program.index["ys"], 1), 3.0, 4.0, nbytes=7)
    past = Past(1, nodes=dict.fromkeys(range(1, 5), "alpha"), made={program.index["ys"]: ("alpha", finished)})
    commands = scheduler_with(["alpha"]).resume(program, RunOptions(), past, 5.0)
    (told,) = [c for c in commands if isinstance(c, Report) and c.name[-2:] == ("function", "stop")]
    assert told.metadata["function"] == "ys"
    assert told.metadata["attempt"] == 1
    assert told.measurements["nbytes"] == 7
    assert not any(isinstance(command, ReportFinished) for command in commands)


def test_what_failed_stays_failed_and_what_needs_it_skipped() -> None:
    program = branching()
    xs, ys, total = (program.index[id] for id in ("xs", "ys", "sum"))
    failure = FinalFailure(1, 0, "alpha", Failure(FailureKind.EXCEPTION, "no"))
    past = Past(1, nodes={ys: "alpha"}, dead={xs: State.FAILED, total: State.SKIPPED}, failures={xs: failure})
    scheduler = scheduler_with(["alpha"])
    nodes = Nodes(["alpha"], random.Random(0))
    end = finish(scheduler, nodes, scheduler.resume(program, RunOptions(on_error="continue"), past, 5.0))
    assert (end.status, end.function) == ("failed", xs)
    assert {id.function for id in nodes.starts} == {ys}


def test_a_run_that_is_over_has_its_results_and_starts_nothing() -> None:
    program = branching()
    ys = program.index["ys"]
    past = Past(1, status="cancelled", done={ys}, made={ys: ("alpha", Finished(AttemptId("r", ys, 3), 3.0, 4.0))})
    scheduler = scheduler_with(["alpha"])
    assert scheduler.resume(program, RunOptions(), past, 5.0) == []
    assert scheduler.is_over("r")
    assert scheduler.holder("r", ys) == (AttemptId("r", ys, 3), "alpha")


def test_the_time_of_a_run_goes_on() -> None:
    program = branching()
    scheduler = scheduler_with(["alpha"])
    scheduler.resume(program, RunOptions(timeout_s=10.0), Past(1, elapsed_s=8.0), 100.0)
    assert not any(isinstance(command, Stop) for command in scheduler.wake(101.9))
    assert any(isinstance(command, Stop) for command in scheduler.wake(102.1))


def single() -> Program:
    return compile_program(DAG("single").add(Function("try", lambda: 1)), run="r")


def pair() -> Program:
    dag = DAG("pair").add(Function("try", lambda: 1), Function("use", lambda x: x, args=["try"]))
    return compile_program(dag, run="r")


def starts(commands: Iterable[Command]) -> list[AttemptId]:
    return [command.id for command in commands if isinstance(command, Start)]


def told(commands: Iterable[Command], what: str) -> list[Report]:
    return [command for command in commands if isinstance(command, Report) and command.name[-1] == what]


def fail_again_and_again(scheduler: Scheduler, commands: list[Command], kind: FailureKind) -> tuple[int, Ended]:
    """How often it was tried, and the end."""
    count = 0
    while ids := starts(commands):
        (id,) = ids
        count += 1
        commands = scheduler.handle([Started(id, 1.0), Failed(id, Failure(kind, "no"))], 6.0)
    (end,) = [command for command in commands if isinstance(command, Ended)]
    return count, end


def test_retries_that_were_used_up_count_on() -> None:
    scheduler = scheduler_with(["alpha"])
    past = Past(1, nodes={0: "alpha"}, attempts={0: 4}, tried={0: Tried(retries=4, deaths=0)})
    commands = scheduler.resume(single(), RunOptions(max_retries=5), past, 5.0)
    count, end = fail_again_and_again(scheduler, commands, FailureKind.EXCEPTION)
    assert (count, end.attempts) == (2, 6)


def test_an_attempt_of_whose_start_nothing_was_told_is_the_next_one() -> None:
    id = AttemptId("r", 0, 2)
    past = Past(
        1, nodes={0: "alpha"}, attempts={0: 1}, tried={0: Tried(1, 0)}, running={0: ("alpha", Started(id, 1.0))}
    )
    scheduler = scheduler_with(["alpha"])
    assert starts(scheduler.resume(single(), RunOptions(), past, 5.0)) == [id]
    commands = scheduler.handle([Started(id, 1.0)], 6.0)
    assert [report.metadata["attempt"] for report in told(commands, "start")] == [2]
    past = Past(1, nodes={0: "alpha"}, attempts={0: 1}, made={0: ("alpha", Finished(id, 3.0, 4.0))})
    commands = scheduler_with(["alpha"]).resume(single(), RunOptions(), past, 5.0)
    assert told(commands, "stop")[0].metadata["attempt"] == 2


def test_deaths_count_on() -> None:
    scheduler = scheduler_with(["alpha"])
    past = Past(1, nodes={0: "alpha"}, attempts={0: 1}, tried={0: Tried(retries=1, deaths=1)})
    commands = scheduler.resume(single(), RunOptions(max_retries=9), past, 5.0)
    count, end = fail_again_and_again(scheduler, commands, FailureKind.DIED)
    assert (count, end.attempts, end.deaths) == (2, 3, 3)


def test_attempts_that_failed_unheard_count() -> None:
    for is_last in False, True:
        failures = [Failed(AttemptId("r", 0, i), Failure(FailureKind.EXCEPTION, "no"), 1.0, 2.0) for i in (2, 3)]
        past = Past(1, nodes={0: "alpha"}, attempts={0: 2}, begun={0}, tried={0: Tried(1, 0)}, unheard={0: failures})
        scheduler = scheduler_with(["alpha"])
        commands = scheduler.resume(single(), RunOptions(max_retries=3 if not is_last else 2), past, 5.0)
        assert [exception.metadata["attempt"] for exception in told(commands, "exception")] == [2, 3]
        assert len(told(commands, "retry")) == (1 if is_last else 2)
        assert bool(starts(commands)) == (not is_last)
        ends = [command for command in commands if isinstance(command, Ended)]
        assert [(end.status, end.attempts) for end in ends] == ([("failed", 3)] if is_last else [])


def test_what_waits_to_be_tried_again_waits_for_the_rest_of_its_time() -> None:
    scheduler = scheduler_with(["alpha"])
    past = Past(1, nodes={0: "alpha", 1: "alpha"}, attempts={0: 1}, tried={0: Tried(1, 0, wait_s=7.0)})
    assert not starts(scheduler.resume(pair(), RunOptions(), past, 5.0))
    assert not starts(scheduler.wake(11.9))
    assert [id.function for id in starts(scheduler.wake(12.1))][:1] == [0]


def test_a_failure_that_was_not_told_yet_is_told_and_what_needs_it_is_skipped() -> None:
    failure = FinalFailure(2, 0, "alpha", Failure(FailureKind.EXCEPTION, "no"))
    past = Past(
        1, nodes={0: "alpha", 1: "alpha"}, attempts={0: 1}, dead={0: State.FAILED}, failures={0: failure}, untold=[0]
    )
    commands = scheduler_with(["alpha"]).resume(pair(), RunOptions(on_error="continue"), past, 5.0)
    (exception,) = told(commands, "exception")
    assert (exception.metadata["function"], exception.metadata["attempt"]) == ("try", 2)
    assert [report.metadata["function"] for report in told(commands, "skip")] == ["use"]
    (end,) = [command for command in commands if isinstance(command, Ended)]
    assert (end.status, end.function, end.attempts) == ("failed", 0, 2)


def test_what_was_to_be_cancelled_is_cancelled_and_nothing_starts() -> None:
    for cancelled, gone in ([None], "cancel"), ([1], "cancel"), ([0], "skip"):
        nodes = {0: "alpha", 1: "alpha"}
        began = {0: ("alpha", Started(AttemptId("r", 0, 1), 1.0))}
        past = Past(1, nodes=nodes, attempts={0: 1}, begun={0}, running=began, cancelled=cancelled)
        commands = scheduler_with(["alpha"]).resume(pair(), RunOptions(), past, 5.0)
        assert "use" in [report.metadata["function"] for report in told(commands, gone)]
        assert bool(starts(commands)) == (cancelled == [1])  # what runs goes on: it is the next attempt
        assert [command.status for command in commands if isinstance(command, Ended)] == (
            [] if cancelled == [1] else ["cancelled"]
        )


def test_a_result_of_a_function_that_is_over_otherwise_changes_nothing() -> None:
    made = {0: ("alpha", Finished(AttemptId("r", 0, 1), 3.0, 4.0))}
    dead = {0: State.CANCELLED, 1: State.SKIPPED}
    scheduler = scheduler_with(["alpha"])
    commands = scheduler.resume(pair(), RunOptions(), Past(1, nodes={0: "alpha"}, dead=dead, made=made), 5.0)
    assert not told(commands, "stop")[1:]  # but the run's
    assert [command.status for command in commands if isinstance(command, Ended)] == ["cancelled"]
