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
from handoff_lab.scheduler import Past, Program, RunOptions, Scheduler, State, compile_program
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
