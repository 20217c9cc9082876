"""Whatever happens, in whatever order: the invariants hold in every state, and every run ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handoff_lab._errors import AllocationError
from handoff_lab.backends.simulated import SimulatedBackend
from handoff_lab.backends.simulation import Simulation
from handoff_lab.graph import DAG, Argument, Function, collocated
from handoff_lab.messages import Attempt, BackendEvent, Command, Failure, FailureKind
from handoff_lab.resources import Resources, SimpleResourceTracker
from handoff_lab.scheduler import RunOptions, State, compile_program
from handoff_lab.scheduler.state import DEAD, DONE, IN_FLIGHT, READY, Progress

COSTS = ({}, {}, {"cpu": 1}, {"cpu": 2}, {"cpu": 0.5, "memory": 100}, {"gpu": 1}, {"memory": 700})
CAPABILITIES = ({"cpu": 2, "memory": 1000, "gpu": 1}, {"cpu": 1, "memory": 800}, {"cpu": 4, "memory": 400, "gpu": 2})
KINDS = (
    FailureKind.EXCEPTION, FailureKind.EXCEPTION, FailureKind.DIED, FailureKind.INPUT, FailureKind.NODE,
    FailureKind.TIMEOUT,
)  # fmt: skip
NAMES = ("n0", "n1", "n2")
times = st.sampled_from((0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.5, 7.0))


@st.composite
def dags(draw: st.DrawFn) -> DAG:
    count = draw(st.integers(1, 9))
    dag = DAG()
    regular: list[int] = []
    for i in range(count):
        above = draw(st.lists(st.integers(0, i - 1), unique=True, max_size=3)) if i else []
        serialize = draw(st.booleans())
        args = [Argument(p, serialize=list) if serialize and dag[p].type == "regular" else p for p in above]
        node = draw(st.sampled_from((None, None, None, None, "n0", *map(collocated, regular))))
        kind = "inline" if node is None and above and draw(st.integers(0, 7)) == 0 else "regular"
        dag.add(
            Function(
                i,
                list,
                args,
                type=kind,
                node=node,
                cost=draw(st.sampled_from(COSTS)) if kind == "regular" else None,
                max_retries=draw(st.sampled_from((None, None, 0, 2))),
                retry_delay=draw(st.sampled_from((0.0, 0.0, 0.7))),
                timeout=draw(st.sampled_from((None, None, None, 1.5))),
            )
        )
        if kind == "regular":
            regular.append(i)
    return dag


@st.composite
def options(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "allocator": draw(st.sampled_from(("first_available", "load_balanced", "cost_optimized", "time_optimized"))),
        "max_retries": draw(st.integers(0, 3)),
        "max_concurrency": draw(st.sampled_from((None, None, 1, 2))),
        "timeout_s": draw(st.sampled_from((None, None, None, 3.0))),
        "on_error": draw(st.sampled_from(("stop", "continue"))),
        "nodes": draw(st.sampled_from((None, None, None, ("n0",), ("n0", "n1")))),
        "wait_for_node_s": draw(st.sampled_from((0.0, 0.0, 2.0, 90.0))),
        "wait_for_capacity_s": draw(st.sampled_from((0.0, 0.0, 2.0, 90.0))),
    }


incidents = st.one_of(
    st.tuples(st.just("lose"), st.sampled_from(NAMES)),
    st.tuples(st.just("lose"), st.sampled_from(NAMES)),
    st.tuples(st.just("remove"), st.sampled_from(NAMES)),
    st.tuples(st.just("drain"), st.sampled_from(NAMES)),
    st.tuples(st.just("retire"), st.sampled_from(NAMES)),
    st.tuples(st.just("add"), st.sampled_from(NAMES)),
    st.tuples(st.just("change"), st.sampled_from(NAMES), st.sampled_from((*CAPABILITIES, {}))),
    st.tuples(st.just("cancel"), st.sampled_from(("r0", "r1"))),
    st.tuples(st.just("cancel function"), st.sampled_from(("r0", "r1")), st.integers(0, 8)),
    st.tuples(st.just("lose result"), st.integers(0, 5)),
    st.tuples(st.just("begin"), st.just("r1")),
)


class Incidents:
    """Carries out what Hypothesis thought of, as far as it makes sense at that time."""

    def __init__(self, simulation: Any, dag: DAG, options: Mapping[str, Any]) -> None:
        self._simulation = simulation
        self._dag = dag
        self._options = options

    def soon(self, delay: float, script: list[tuple[float, Any]]) -> None:
        at, now = self._simulation.backend.at, self._simulation.backend.now
        for time, incident in script:
            at(now + delay + time, lambda incident=incident: self(*incident))
        for name in NAMES:  # what was lowered comes back, or functions would wait for ever, as they should
            at(now + 50.0, lambda name=name: self("change", name, {"cpu": 4, "memory": 1000, "gpu": 2}))

    def __call__(self, what: str, *args: Any) -> None:
        simulation, backend = self._simulation, self._simulation.backend
        match what, *args:
            case "lose", name if name in backend.nodes():
                backend.lose_node(name, "it was killed")
            case "remove", name if name in backend.nodes():
                backend.remove_node(name)
            case "drain", name if name in simulation.scheduler.nodes:
                simulation.drain(name)
            case "retire", name if name in simulation.scheduler.nodes:
                simulation.retire(name)
            case "add", name if name not in backend.nodes():
                backend.add_node(name, CAPABILITIES[0], {})
            case "change", name, capabilities if name in backend.nodes():
                backend.set_capabilities(name, capabilities)
            case "cancel", run if run in simulation.runs:
                simulation.cancel(run)
            case "cancel function", run, i if run in simulation.runs and i in simulation.runs[run].program.index:
                simulation.cancel(run, simulation.runs[run].program.index[i])
            case "lose result", number if backend.results():
                results = sorted(backend.results())
                backend.lose_result(results[number % len(results)])
            case "begin", run if run not in simulation.runs:
                try:
                    simulation.begin(self._dag, run, **self._options)
                except AllocationError:
                    assert run not in simulation.scheduler._runs


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_invariants_hold_in_every_state(simulate: Any, data: st.DataObject) -> None:
    dag, other = data.draw(dags()), data.draw(dags())
    nodes = dict(zip(NAMES, data.draw(st.permutations(CAPABILITIES)), strict=True))
    lags = data.draw(st.lists(st.sampled_from((0.0, 0.0, 0.3, 1.1)), min_size=1, max_size=6))
    seconds = data.draw(st.lists(st.sampled_from((0.0, 0.5, 1.0, 2.0)), min_size=1, max_size=7))
    script = data.draw(st.dictionaries(st.tuples(st.integers(0, 8), st.integers(1, 4)), st.sampled_from(KINDS)))
    retryable = data.draw(st.booleans())
    heard = iter(range(10**9))

    def outcome(attempt: Attempt) -> Failure | None:
        kind = script.get((attempt.id.function, attempt.id.number))
        return None if kind is None else Failure(kind, "scripted", retryable=retryable or attempt.id.function % 2 == 0)

    simulation = simulate(
        nodes,
        tracker=SimpleResourceTracker() if data.draw(st.booleans()) else None,
        prefetch=data.draw(st.sampled_from((0, 1, 4))),
        duration=lambda attempt: seconds[(attempt.id.function + attempt.id.number) % len(seconds)],
        bandwidth=data.draw(st.sampled_from((None, 10.0))),
        nbytes=lambda key, consumer: 5.0 * (key.function % 3),
        lag=lambda node: lags[next(heard) % len(lags)],
        outcome=outcome,
        started=data.draw(st.booleans()),
    )
    happen = Incidents(simulation, other, data.draw(options()))
    happen.soon(1.2, data.draw(st.lists(st.tuples(times, incidents), max_size=6)))
    chosen = data.draw(options())
    while "n2" not in simulation.scheduler.nodes:
        simulation.backend.step()
    try:
        simulation.begin(dag, "r0", **chosen)
    except AllocationError:
        assert not simulation.scheduler._runs
    simulation.run()
    if data.draw(st.booleans()) and "r0" in simulation.runs and simulation.scheduler.nodes:
        begin_again(simulation, dag, data.draw(st.integers(0, len(dag.functions))), chosen)
        happen.soon(0.0, data.draw(st.lists(st.tuples(times, incidents), max_size=4)))
        simulation.run()
    simulation.check_end()


def begin_again(simulation: Any, dag: DAG, kept: int, options: Mapping[str, Any]) -> None:
    """Take over what some of the functions made, as far as it is there."""
    index = simulation.runs["r0"].program.index
    held = {id: simulation.scheduler.holder("r0", i) for id, i in index.items() if id < kept}
    try:
        simulation.begin(dag, "r2", given={id: holder for id, holder in held.items() if holder}, **options)
    except AllocationError:
        assert "r2" not in simulation.scheduler._runs


class HandedOver(Simulation):
    """A simulation over nodes that keep their own ledger, checked after every step."""

    def __init__(self, nodes: Mapping[str, Mapping[str, float]], **kinds: Any) -> None:
        self.runs: dict[str, Progress] = {}
        super().__init__(SimulatedBackend(nodes, keep_ledgers=True, **kinds), watch=self._check)

    def begin(self, dag: DAG, run: str = "r0", **kinds: Any) -> None:
        kinds.setdefault("allocator", "load_balanced")
        program = compile_program(dag.validate(), run=run)
        self.submit(program, RunOptions(**kinds))
        self.runs[run] = self.scheduler.progress(run)

    def _check(self, events: Sequence[BackendEvent], commands: Sequence[Command]) -> None:
        for run in self.scheduler._runs.values():
            self._check_run(run)
        for name, node in self.scheduler.nodes.items():
            here = [
                (run, i)
                for run in self.scheduler._runs.values()
                for i, state in enumerate(run.state)
                if state in IN_FLIGHT and run.node[i] == name
            ]
            assert node.in_flight == len(here)
            assert node.early == sum(run.early[i] for run, i in here)
            held = sum((run.program.functions[i].cost for run, i in here if i in run.holding), Resources())
            assert node.claimed == held

    def _check_run(self, run: Progress) -> None:
        for i, function in enumerate(run.program.functions):
            there = [run.state[p] == DONE and run.holder[p] is not None for p in function.inputs]
            assert run.missing[i] == there.count(False)
            assert run.awaited[i] == [bool(run.promised[p]) for p in function.inputs].count(False)
            if run.state[i] == READY:
                assert not run.awaited[i]
            if run.promised[i]:
                assert run.state[i] in IN_FLIGHT or run.source(i) is not None
            assert not run.early[i] or (run.missing[i] and run.state[i] in IN_FLIGHT)
        assert run.unfinished == sum(state not in (DONE, *DEAD) for state in run.state)

    def check_end(self) -> None:
        for name, run in self.runs.items():
            states = [State(state).name for state in run.state]
            assert name in self.ended, f"{name} hangs: {states}"
        for node in self.scheduler.nodes.values():
            assert (node.in_flight, node.early, node.claimed) == (0, 0, Resources())
        for name in list(self.runs):
            self.forget(name)
        assert not self.backend.results(), "results that nobody frees"


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_invariants_hold_where_nodes_keep_their_own_ledger(data: st.DataObject) -> None:
    dag, other = data.draw(dags()), data.draw(dags())
    nodes = dict(zip(NAMES, data.draw(st.permutations(CAPABILITIES)), strict=True))
    lags = data.draw(st.lists(st.sampled_from((0.0, 0.0, 0.3, 1.1)), min_size=1, max_size=6))
    seconds = data.draw(st.lists(st.sampled_from((0.0, 0.001, 0.5, 1.0)), min_size=1, max_size=7))
    script = data.draw(st.dictionaries(st.tuples(st.integers(0, 8), st.integers(1, 4)), st.sampled_from(KINDS)))
    heard = iter(range(10**9))

    def outcome(attempt: Attempt) -> Failure | None:
        kind = script.get((attempt.id.function, attempt.id.number))
        return None if kind is None else Failure(kind, "scripted", retryable=attempt.id.function % 2 == 0)

    simulation = HandedOver(
        nodes,
        duration=lambda attempt: seconds[(attempt.id.function + attempt.id.number) % len(seconds)],
        bandwidth=data.draw(st.sampled_from((None, 10.0))),
        nbytes=lambda key, consumer: 5.0 * (key.function % 3),
        lag=lambda node: lags[next(heard) % len(lags)],
        outcome=outcome,
        started=data.draw(st.booleans()),
    )
    happen = Incidents(simulation, other, data.draw(options()))
    happen.soon(1.2, data.draw(st.lists(st.tuples(times, incidents), max_size=6)))
    chosen = data.draw(options()) | {"rebalances": data.draw(st.booleans())}
    while "n2" not in simulation.scheduler.nodes:
        simulation.backend.step()
    try:
        simulation.begin(dag, "r0", **chosen)
    except AllocationError:
        assert not simulation.scheduler._runs
    simulation.run()
    simulation.check_end()
