"""Thousands of nodes, millions of functions: what happens to a few is decided without a look at all the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from handoff_lab.backends.simulated import SimulatedBackend
from handoff_lab.backends.simulation import Simulation
from handoff_lab.graph import DAG, Function, collocated
from handoff_lab.messages import BackendEvent, Command, FinishedMany, NodeInfo, NodeJoined, NodeLost, Start, Stop
from handoff_lab.resources import Resources
from handoff_lab.scheduler import RunOptions, Scheduler, State, compile_program
from tests.work import work

GPU = {"gpu": 1}
FOREVER = 1e9


def wide(count: int, **options: Any) -> DAG:
    return DAG("wide").add(*(Function(i, list, **options) for i in range(count)))


def joined(*names: str, cpu: int = 1) -> list[BackendEvent]:
    return [NodeJoined(NodeInfo(name, {"cpu": cpu}, cpu, keeps_ledger=True)) for name in names]


def begin(scheduler: Scheduler, dag: DAG, **options: Any) -> list[Command]:
    options.setdefault("allocator", "load_balanced")
    return scheduler.submit(compile_program(dag.validate(), run="run"), RunOptions(**options), 0.0)


def done(functions: Sequence[int]) -> FinishedMany:
    n = len(functions)
    times, nothing = [0.0] * n, [0] * n
    return FinishedMany("run", functions, [1] * n, times, times, nothing, [(b"",)] * n, nothing, [None] * n, [""] * n)


def two_on_each_but(last: str) -> Any:
    """An allocator that puts two functions on each node, and the rest on one."""

    def allocate(functions: Sequence[Function], nodes: Mapping[str, Resources]) -> dict[Hashable, str]:
        few = [name for name in sorted(nodes) if name != last for _ in range(2)]
        return {f.id: few[place] if place < len(few) else last for place, f in enumerate(functions)}

    return allocate


class TestALoss:
    def _work(self, functions: int) -> int:
        scheduler = Scheduler()
        scheduler.handle(joined("a", "b", "rest"), 0.0)
        begin(scheduler, wide(functions), allocator=two_on_each_but("rest"))
        scheduler.handle([NodeLost("a", "gone")], 1.0)  # the first looks through all, once
        return work(lambda: scheduler.handle([NodeLost("b", "gone")], 2.0))

    def test_costs_what_the_node_had(self) -> None:
        assert self._work(2_000) < 1.5 * self._work(200)

    def test_goes_to_those_that_have_the_least_to_do(self) -> None:
        names = [f"n{i:03}" for i in range(200)]
        scheduler = Scheduler()
        scheduler.handle(joined(*names), 0.0)
        begin(scheduler, wide(1_000), rebalances=True)
        for name in names[::20]:
            scheduler.handle([NodeLost(name, "gone")], 1.0)
        found = Counter(scheduler.progress("run").node)
        assert set(found) == set(names) - set(names[::20])
        assert set(found.values()) <= {5, 6}

    def test_finds_what_has_moved_there_meanwhile(self) -> None:
        scheduler = Scheduler()
        scheduler.handle(joined("a", "b", "c"), 0.0)
        begin(scheduler, wide(30))
        for name in ("a", "b"):
            scheduler.handle([NodeLost(name, "gone")], 1.0)
        assert set(scheduler.progress("run").node) == {"c"}
        scheduler.handle([NodeLost("c", "gone"), *joined("a")], 2.0)
        assert set(scheduler.progress("run").node) == {"a"}


class TestAJoin:
    def _work(self, functions: int) -> int:
        scheduler = Scheduler()
        begin(scheduler, wide(functions, cost=GPU), wait_for_capacity_s=FOREVER)
        scheduler.handle(joined("a"), 1.0)
        return work(lambda: scheduler.handle(joined("b"), 2.0))

    def test_costs_nothing_for_what_it_cannot_hold(self) -> None:
        assert self._work(1_000) < 1.2 * self._work(10)

    def test_brings_together_what_waits_together(self) -> None:
        """A member of a group that would fit on the node does not go there alone."""
        dag = DAG().add(Function("large", list, cost={"cpu": 8}), Function("small", list, node=collocated("large")))
        scheduler = Scheduler()
        begin(scheduler, dag, wait_for_capacity_s=FOREVER)
        scheduler.handle(joined("little"), 1.0)
        assert scheduler.progress("run").node == [None, None]
        scheduler.handle(joined("big", cpu=8), 2.0)
        assert scheduler.progress("run").node == ["big", "big"]


class TestAHerd:
    def test_shares_what_waits_before_the_first_function_has_ended(self) -> None:
        scheduler = Scheduler()
        begin(scheduler, wide(100), rebalances=True, wait_for_capacity_s=FOREVER)
        first = scheduler.handle(joined("n0"), 1.0)
        assert {command.node for command in first if isinstance(command, Start)} == {"n0"}
        scheduler.handle(joined(*(f"n{i}" for i in range(1, 10))), 1.1)
        commands = scheduler.handle([], 3.0)  # what it was given began two seconds ago, and none is over
        moving = Counter(scheduler.progress("run").moving.values())
        assert moving == {f"n{i}": 10 for i in range(1, 10)}
        assert sum(isinstance(command, Stop) for command in commands) == 90

    def test_leaves_pinned_functions_where_they_are(self) -> None:
        scheduler = Scheduler()
        begin(scheduler, wide(100, node="n0"), rebalances=True, wait_for_node_s=FOREVER)
        scheduler.handle(joined("n0", "n1"), 1.0)
        assert not any(isinstance(command, Stop) for command in scheduler.handle([], 3.0))
        assert scheduler.progress("run").moving == {}

    def test_takes_what_fits(self) -> None:
        dag = wide(20, cost={"cpu": 4}).add(*(Function(f"small-{i}", list) for i in range(20)))
        scheduler = Scheduler()
        scheduler.handle(joined("big", cpu=4), 0.0)
        begin(scheduler, dag, rebalances=True)
        scheduler.handle(joined("small"), 0.1)
        scheduler.handle([], 2.0)
        progress = scheduler.progress("run")
        assert progress.moving
        assert all(progress.program.functions[i].cost == {} for i in progress.moving)

    def test_ends_with_every_function_done_once(self) -> None:
        backend = SimulatedBackend({}, duration=1.0, keep_ledgers=True)
        simulation = Simulation(backend)
        program = compile_program(wide(400), run="run")
        simulation.submit(program, RunOptions("load_balanced", rebalances=True, wait_for_capacity_s=FOREVER))
        for i in range(40):
            backend.at(i / 40, lambda i=i: backend.add_node(f"n{i}", {"cpu": 1}, {}))
        simulation.run()
        assert simulation.ended["run"].status == "done"
        assert len(simulation.finished) == 400
        ended = [event.ended for event in simulation.finished.values()]
        assert max(ended) < 100.0  # one node alone takes 400


def test_results_come_from_where_they_were_made_last() -> None:
    scheduler = Scheduler()
    scheduler.handle(joined("a", "b"), 0.0)
    begin(scheduler, wide(4), allocator="load_balanced")
    progress = scheduler.progress("run")
    on_a = [i for i, node in enumerate(progress.node) if node == "a"]
    scheduler.handle([done(on_a)], 1.0)
    assert {key.function for key in scheduler.results_on("a")} == set()  # the coordinator has them too
    scheduler.handle([NodeLost("a", "gone")], 2.0)
    assert [progress.state[i] for i in on_a] == [State.DONE, State.DONE]
    assert scheduler.results_on("b") == []
