"""A simulation whose every answer is checked."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import pytest

from handoff_lab.backends.simulated import SimulatedBackend
from handoff_lab.backends.simulation import Simulation
from handoff_lab.graph import DAG, Function
from handoff_lab.messages import (
    Attempt,
    AttemptId,
    BackendEvent,
    Cancelled,
    Command,
    Ended,
    Failed,
    Failure,
    FailureKind,
    Finished,
    NodeLost,
    Report,
    Start,
    Stop,
)
from handoff_lab.resources import Resources, ResourceTracker
from handoff_lab.scheduler import RunOptions, State, compile_program
from handoff_lab.scheduler.state import DEAD, DONE, IN_FLIGHT, PENDING, READY, WAITING, Progress

NOTHING = Resources()


class CheckedSimulation(Simulation):
    """Checks what must hold in every state, from the outside where it can be seen there."""

    def __init__(self, backend: SimulatedBackend, tracker: ResourceTracker | None = None, prefetch: int = 4) -> None:
        self.runs: dict[str, Progress] = {}
        self._dags: dict[str, DAG] = {}
        self.starts: dict[str, list[Hashable]] = defaultdict(list)
        self.prefetch = prefetch
        self._in_flight: dict[AttemptId, str] = {}
        self._ends: Counter[tuple[str, Hashable]] = Counter()
        self._recomputed: Counter[str] = Counter()
        super().__init__(backend, tracker=tracker, prefetch=prefetch, watch=self._check)

    # -- for tests ---------------------------------------------------------------------

    def begin(self, dag: DAG, run: str = "run", targets: Iterable[Hashable] | None = None, **options: Any) -> None:
        options.setdefault("allocator", "load_balanced")
        given = options.pop("given", {})
        program = compile_program(dag.validate(), targets, run=run, given=given)
        self._dags[run] = dag.copy()
        self.submit(program, RunOptions(**options))
        self.runs[run] = self.scheduler.progress(run)

    def states(self, run: str = "run") -> dict[Hashable, State]:
        progress = self.runs[run]
        return {id: State(progress.state[i]) for id, i in progress.program.index.items()}

    def attempts(self, run: str = "run") -> dict[Hashable, int]:
        return Counter(self.starts[run])

    def spans(self, run: str = "run") -> dict[Hashable, tuple[float, float]]:
        functions = self.runs[run].program.functions
        return {functions[id.function].id: (e.started, e.ended) for id, e in self.finished.items() if id.run == run}

    def told(self, *name: str) -> list[Report]:
        return [report for _, report in self.reports if report.name[-len(name) :] == name]

    # -- checks ------------------------------------------------------------------------

    def _check(self, events: Sequence[BackendEvent], commands: Sequence[Command]) -> None:
        known = set(self._in_flight)  # what one event of a batch stops may end with a later one
        for event in events:
            self._note_event(event)
        for command in commands:
            assert not isinstance(command, Stop) or command.id in known
            self._note_command(command)
        for run in self.scheduler._runs.values():
            self._check_run(run)
        self._check_nodes()

    def _note_event(self, event: BackendEvent) -> None:
        if isinstance(event, Finished | Failed | Cancelled):
            self._in_flight.pop(event.id, None)
        elif isinstance(event, NodeLost):
            self._in_flight = {id: node for id, node in self._in_flight.items() if node != event.name}

    def _note_command(self, command: Command) -> None:
        match command:
            case Start(id, node, sources):
                run = self.scheduler.progress(id.run)
                function = run.program.functions[id.function]
                assert id.run not in self.ended
                assert id.number == self.starts[id.run].count(function.id) + 1
                assert node in self.scheduler.nodes
                assert len(sources) == len(function.inputs)
                self.starts[id.run].append(function.id)
                self._in_flight[id] = node
                if function.function is not None:
                    self._check_place(run, function.function, node)
                slots = self.scheduler.nodes[node].slots
                here = list(self._in_flight.values()).count(node)
                assert here <= slots + (0 if function.cost else self.prefetch)
            case Ended(run):
                assert run not in self.ended
                assert not any(id.run == run for id in self._in_flight)
            case Report(("handoff", "execution", "function", ("stop" | "skip" | "cancel")), _, metadata):
                self._ends[metadata["run"], metadata["function"]] += 1
            case _:
                pass

    def _check_place(self, run: Progress, function: Function, node: str) -> None:
        """Pins and collocations are obeyed, as far as nodes are there that are not being drained."""
        dag, index = self._dags[run.id], run.program.index
        roots = dag.collocation_groups()
        root = roots.get(function.id, function.id)
        pin = dag[root].node
        assert pin is None or node == pin
        together = [index[id] for id, above in roots.items() if above == root and id in index]
        for i in together:
            is_there = run.state[i] in IN_FLIGHT or (run.state[i] == DONE and run.holder[i] is not None)
            where = run.holder[i] if run.state[i] == DONE else run.node[i]
            assert not is_there or where not in self.scheduler._ledger.open or where == node

    def _check_run(self, run: Progress) -> None:
        functions = run.program.functions
        for i, function in enumerate(functions):
            there = [run.state[p] == DONE and run.holder[p] is not None for p in function.inputs]
            assert run.missing[i] == there.count(False)
            assert (run.state[i] in IN_FLIGHT) == (AttemptId(run.id, i, run.number[i]) in self._in_flight)
            if run.state[i] == READY:
                assert all(there)
                assert self.scheduler._ledger.home(run, i) is not None
                self._check_is_held_back(run, i)
            if run.state[i] == WAITING:
                assert not all(there) or self._waits_for_node(run, i), (
                    f"{function.id!r} could start: {self.states(run.id)}"
                )
                assert not any(run.state[p] in DEAD for p in function.inputs)
        assert run.unfinished == sum(state in (*PENDING, *IN_FLIGHT) for state in run.state)
        assert (run.status == "running") == bool(run.unfinished)
        in_flight = [id for id in self._in_flight if id.run == run.id and not run.is_hidden(id.function)]
        assert run.in_flight == len(in_flight)
        assert run.in_flight <= (run.options.max_concurrency or run.in_flight)

    def _waits_for_node(self, run: Progress, i: int) -> bool:
        """Itself, or what it serializes for."""
        return i in run.waits or run.program.functions[i].toward in run.waits

    def _check_is_held_back(self, run: Progress, i: int) -> None:
        """What is ready does not wait without a reason."""
        node = self.scheduler.nodes[run.node[i] or ""]
        function = run.program.functions[i]
        limit = run.options.max_concurrency
        at_limit = limit is not None and run.in_flight >= limit and function.beside is None
        full = node.in_flight >= node.slots
        room = self.scheduler.available(node.name, function.cost) if function.cost else True
        assert at_limit or full or not room, "it could start"

    def _check_nodes(self) -> None:
        for name, node in self.scheduler.nodes.items():
            here = [id for id, place in self._in_flight.items() if place == name]
            assert node.in_flight == len(here)
            claims = sum((self._cost(id) for id in here), NOTHING)
            assert node.claimed == claims
            waiting = [
                i
                for run in self.scheduler._runs.values()
                for i, state in enumerate(run.state)
                if state == READY and run.node[i] == name and run.program.functions[i].cost
            ]
            assert node.costed >= len(waiting)

    def _cost(self, id: AttemptId) -> Resources:
        return self.scheduler.progress(id.run).program.functions[id.function].cost

    def check_end(self) -> None:
        """After `run`: everything is over and nothing is held."""
        for name, run in self.runs.items():
            assert name in self.ended, f"{name} hangs: {self.states(name)}"
            assert run.status == self.ended[name].status
            assert set(run.state) <= {DONE, *DEAD}
            for id in run.program.index:
                recomputed = run.recomputed
                assert self._ends[name, id] <= 1 + recomputed
        assert not self._in_flight
        for node in self.scheduler.nodes.values():
            assert node.claimed == NOTHING
            assert (node.in_flight, node.costed, len(node.refused), len(node.misfits)) == (0, 0, 0, 0)
        for name in list(self.runs):
            self.forget(name)
        assert not self.backend.results(), "results that nobody frees"


Simulate = Callable[..., CheckedSimulation]


@pytest.fixture
def simulate() -> Simulate:
    """Makes a checked simulation; ``nodes`` are capabilities by name, the rest is `SimulatedBackend`'s."""

    def make(
        nodes: Mapping[str, Mapping[str, float]],
        *,
        tracker: ResourceTracker | None = None,
        prefetch: int = 4,
        fails: Mapping[Hashable, Sequence[FailureKind | None]] | None = None,
        **options: Any,
    ) -> CheckedSimulation:
        """``fails`` lists, by function, what becomes of its attempts; None, or beyond the end: a success."""
        if fails is not None:
            options["outcome"] = outcome(fails)
        return CheckedSimulation(SimulatedBackend(nodes, **options), tracker, prefetch)

    return make


def outcome(fails: Mapping[Hashable, Sequence[FailureKind | None]]) -> Callable[[Attempt], Failure | None]:
    def decide(attempt: Attempt) -> Failure | None:
        script = fails.get(attempt.label, ())
        kind = script[attempt.id.number - 1] if attempt.id.number <= len(script) else None
        return None if kind is None else Failure(kind, f"{kind.value} of {attempt.label}", "ValueError")

    return decide


@pytest.fixture
def chain() -> DAG:
    """a → b → c."""
    return DAG("chain").add(Function("a", list), Function("b", list, args=["a"]), Function("c", list, args=["b"]))


@pytest.fixture
def diamond() -> DAG:
    """A source, two that need it, one that needs both."""
    return DAG("diamond").add(
        Function("top", list),
        Function("left", list, args=["top"], cost={"cpu": 1}),
        Function("right", list, args=["top"], cost={"cpu": 1}),
        Function("bottom", list, args=["left", "right"], cost={"cpu": 2}),
    )
