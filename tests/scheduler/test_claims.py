"""Claims: held while a function runs and no longer, never above what a node has, shared by all runs."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handoff_lab.graph import DAG, Function, collocated
from handoff_lab.messages import Attempt, FailureKind
from handoff_lab.resources import Resources, SimpleResourceTracker
from handoff_lab.scheduler import State

CPU = {"cpu": 1}


def independent(count: int, **options: Any) -> DAG:
    return DAG().add(*(Function(i, list, **options) for i in range(count)))


def test_three_of_two_cpus_in_a_row_fit_four(simulate: Any) -> None:
    simulation = simulate({"n": {"cpu": 4}})
    dag = DAG().add(
        Function("a", list, cost={"cpu": 2}),
        Function("b", list, args=["a"], cost={"cpu": 2}),
        Function("c", list, args=["b"], cost={"cpu": 2}),
    )
    simulation.begin(dag)
    simulation.run()
    assert simulation.spans() == {"a": (0, 1), "b": (1, 2), "c": (2, 3)}
    simulation.check_end()


def test_what_does_not_fit_waits(simulate: Any) -> None:
    simulation = simulate({"n": {"cpu": 4}})
    simulation.begin(independent(3, cost={"cpu": 2}))
    simulation.run()
    assert sorted(simulation.spans().values()) == [(0, 1), (0, 1), (1, 2)]


@pytest.mark.parametrize("ending", ["done", "failed", "cancelled"])
def test_everything_is_given_back(simulate: Any, ending: str) -> None:
    tracker = SimpleResourceTracker()
    fails = {"2": [FailureKind.EXCEPTION]} if ending == "failed" else {}
    simulation = simulate({"n": {"cpu": 2, "gpu": 1}}, tracker=tracker, fails=fails)
    simulation.begin(independent(6, cost={"cpu": 1, "gpu": 0.25}), max_retries=0)
    if ending == "cancelled":
        simulation.backend.at(1.5, lambda: simulation.cancel("run"))
    simulation.run()
    assert simulation.ended["run"].status == ending
    assert tracker.used("n") == Resources()
    simulation.check_end()


def test_a_later_function_that_fits_may_pass_one_that_does_not(simulate: Any) -> None:
    simulation = simulate({"n": {"cpu": 3}}, duration=lambda attempt: 3.0 if attempt.label == "first" else 1.0)
    simulation.begin(
        DAG().add(
            Function("first", list, cost={"cpu": 2}),
            Function("large", list, cost={"cpu": 2}),
            Function("small", list, cost={"cpu": 1}),
        )
    )
    simulation.run()
    assert simulation.spans() == {"first": (0, 3), "small": (0, 1), "large": (3, 4)}


def test_functions_that_all_cost_something_else(simulate: Any) -> None:
    """More lanes than are looked at while a node is busy."""
    count = 120
    simulation = simulate({"n": {"cpu": 4, "memory": 1000}})
    simulation.begin(DAG().add(*(Function(i, list, cost={"memory": 300 + i}) for i in range(count))))
    simulation.run()
    assert len(simulation.spans()) == count
    assert max(end for _, end in simulation.spans().values()) == 11 + 44  # three of up to 333 MB fit, then two
    simulation.check_end()


def test_what_becomes_ready_later_may_be_more_urgent(simulate: Any) -> None:
    """Functions of another cost are ordered with it too."""
    simulation = simulate({"n": {"cpu": 1}})
    dag = DAG().add(
        Function("gate", list, cost=CPU),
        Function("urgent", list, ["gate"], cost={"cpu": 0.75}),
        Function("late", list, cost={"cpu": 0.75}),
        Function("middle", list, cost=CPU),
    )
    simulation.begin(dag, allocator=_in_order("gate", "urgent", "middle", "late"))
    simulation.run()
    assert simulation.starts["run"] == ["gate", "urgent", "middle", "late"]


def test_costless_functions_run_ahead_but_hold_nothing(simulate: Any) -> None:
    simulation = simulate({"n": CPU}, prefetch=3)
    simulation.begin(independent(10))
    assert simulation.scheduler.in_flight("n") == 4
    assert simulation.scheduler.used("n") == Resources()
    simulation.run()
    simulation.check_end()


def test_costless_functions_do_not_run_ahead_of_waiting_claims(simulate: Any) -> None:
    """A stream of functions without cost must not keep one with a cost from its turn."""
    simulation = simulate({"n": CPU})
    dag = DAG().add(
        Function("gate", list), *(Function(i, list) for i in range(20)), Function("costed", list, ["gate"], cost=CPU)
    )
    simulation.begin(dag, allocator=_in_order("gate", "costed", *range(20)))
    simulation.run()
    start, _ = simulation.spans()["costed"]
    assert start <= 1 + 1 + 4  # after the gate, and what was in the node's queue already
    simulation.check_end()


def test_two_runs_share_one_ledger(simulate: Any) -> None:
    simulation = simulate({"n": {"cpu": 2}})
    simulation.begin(independent(4, cost=CPU), "one")
    simulation.begin(independent(4, cost=CPU), "two")
    simulation.run()
    starts = sorted(start for run in ("one", "two") for start, _ in simulation.spans(run).values())
    assert starts == [0, 0, 1, 1, 2, 2, 3, 3]
    simulation.check_end()


def test_collocated_functions_run_on_one_node(simulate: Any) -> None:
    simulation = simulate({"n": {"cpu": 2}, "m": {"cpu": 2}})
    dag = independent(4, cost=CPU)
    dag.add(Function("near", list, node=collocated(3), cost={"cpu": 2}), Function("pinned", list, node="m"))
    simulation.begin(dag)
    simulation.run()
    run = simulation.runs["run"]
    assert run.node[run.program.index["near"]] == run.node[run.program.index[3]]
    assert run.node[run.program.index["pinned"]] == "m"
    simulation.check_end()


ALPHA_AND_BETA = {"alpha": {"cpu": 2}, "beta": {"cpu": 2}}


class TestPartnersThatDoNotRun:
    """A collocation holds with what lies there already, and with the pin of what isn't run."""

    def test_its_pin_holds(self, simulate: Any) -> None:
        simulation = simulate(ALPHA_AND_BETA)
        dag = DAG().add(
            Function("x", list, node="beta"),
            Function("between", list, node=collocated("x")),
            Function("y", list, node=collocated("between")),
        )
        simulation.begin(dag, targets=["y"], allocator="first_available")
        simulation.run()
        assert simulation.runs["run"].node == ["beta"]
        simulation.check_end()

    def test_it_still_binds_others_together(self, simulate: Any) -> None:
        simulation = simulate(ALPHA_AND_BETA)
        dag = DAG().add(
            Function("x", list),
            Function("between", list, node=collocated("x")),
            *(Function(i, list, node=collocated(by), cost={"cpu": 2}) for i, by in enumerate(("x", "between") * 2)),
        )
        simulation.begin(dag, targets=range(4), allocator="load_balanced")
        simulation.run()
        assert len(set(simulation.runs["run"].node)) == 1
        simulation.check_end()

    @pytest.mark.parametrize("args", [["x"], []])
    def test_its_kept_result_holds(self, simulate: Any, args: list[str]) -> None:
        simulation = simulate(ALPHA_AND_BETA)
        dag = DAG().add(Function("x", list), Function("y", list, args, node=collocated("x")))
        simulation.begin(dag, "before", allocator=lambda functions, nodes: {"x": "beta", "y": "beta"})
        simulation.run()
        simulation.begin(dag, given={"x": simulation.scheduler.holder("before", 0)}, allocator="first_available")
        simulation.run()
        assert simulation.starts["run"] == ["y"]
        assert simulation.runs["run"].node[-1] == "beta"
        simulation.check_end()

    def test_a_kept_result_that_is_lost_binds_nobody(self, simulate: Any) -> None:
        simulation = simulate(ALPHA_AND_BETA, duration=3.0)
        dag = DAG().add(Function("x", list), Function("y", list, ["x"], node=collocated("x")))
        simulation.begin(dag, "before", allocator=lambda functions, nodes: {"x": "beta", "y": "beta"})
        simulation.run()
        simulation.begin(dag, given={"x": simulation.scheduler.holder("before", 0)}, allocator="first_available")
        simulation.backend.at(7.0, lambda: simulation.backend.lose_node("beta", "SIGKILL"))
        simulation.run()
        assert simulation.ended["run"].status == "done"
        assert simulation.starts["run"] == ["y", "x", "y"]
        assert simulation.runs["run"].node == ["alpha", "alpha"]
        simulation.check_end()

    def test_a_lost_pin_is_not_forgotten_by_the_group(self, simulate: Any) -> None:
        simulation = simulate(ALPHA_AND_BETA, duration=lambda attempt: 1.0 if attempt.label == "x" else 5.0)
        dag = DAG().add(Function("x", list, node="beta"), Function("y", list, node=collocated("x")))
        simulation.begin(dag, on_error="continue")
        simulation.backend.at(2.0, lambda: simulation.backend.lose_node("beta", "SIGKILL"))
        simulation.run()
        assert simulation.states()["y"] is State.FAILED
        assert "to which it is pinned" in simulation.ended["run"].failure.message
        simulation.check_end()


class TestCapabilitiesThatChange:
    def test_more_starts_what_waits(self, simulate: Any) -> None:
        simulation = simulate({"n": {"cpu": 1, "gpu": 1}}, duration=4.0)
        simulation.begin(independent(2, cost={"gpu": 1}))
        simulation.backend.at(1.0, lambda: simulation.backend.set_capabilities("n", {"cpu": 2, "gpu": 2}))
        simulation.run()
        assert sorted(simulation.spans().values()) == [(0, 4), (1, 5)]
        simulation.check_end()

    def test_less_than_is_claimed_starts_nothing_and_ends_nothing(self, simulate: Any) -> None:
        simulation = simulate({"n": {"cpu": 3}}, duration=2.0)
        simulation.begin(independent(5, cost=CPU))
        simulation.backend.at(1.0, lambda: simulation.backend.set_capabilities("n", CPU))
        simulation.run()
        assert sorted(simulation.spans().values()) == [(0, 2), (0, 2), (0, 2), (2, 4), (4, 6)]
        simulation.check_end()

    def test_what_is_too_large_now_lets_others_pass_and_waits(self, simulate: Any) -> None:
        simulation = simulate({"n": {"cpu": 2}})
        simulation.begin(
            DAG().add(
                Function("first", list, cost={"cpu": 2}),
                Function("large", list, cost={"cpu": 2}),
                Function("small", list, cost=CPU),
            )
        )
        simulation.backend.at(0.5, lambda: simulation.backend.set_capabilities("n", CPU))
        simulation.backend.at(9.0, lambda: simulation.backend.set_capabilities("n", {"cpu": 2}))
        simulation.run()
        assert simulation.spans() == {"first": (0, 1), "small": (1, 2), "large": (9, 10)}
        simulation.check_end()

    def test_what_is_too_large_now_goes_to_a_node_that_can_hold_it(self, simulate: Any) -> None:
        simulation = simulate({"n": {"cpu": 4}, "m": {"cpu": 2}})
        dag = DAG().add(
            Function("first", list, cost={"cpu": 4}),
            Function("large", list, cost={"cpu": 2}),
            Function("pinned", list, cost={"cpu": 2}, node="n"),
            Function("after", list, ["first"], cost={"cpu": 2}),
            Function("small", list, cost=CPU),
        )
        simulation.begin(dag, allocator=lambda functions, nodes: dict.fromkeys([f.id for f in functions], max(nodes)))
        simulation.backend.at(0.5, lambda: simulation.backend.set_capabilities("n", CPU))
        simulation.backend.at(9.0, lambda: simulation.backend.set_capabilities("n", {"cpu": 2}))
        simulation.run()
        assert simulation.spans() == {
            "first": (0, 1), "large": (0.5, 1.5), "small": (1, 2), "after": (1.5, 2.5), "pinned": (9, 10),
        }  # fmt: skip
        simulation.check_end()


class OneAtATime:
    """A tracker of a user's: one function at a time, on whichever node."""

    def __init__(self) -> None:
        self.registered: dict[str, Resources] = {}
        self.held: list[tuple[str, Resources]] = []

    def register(self, node: str, capabilities: Resources) -> None:
        self.registered[node] = capabilities

    def available(self, node: str, cost: Resources) -> bool:
        return not self.held

    def request(self, node: str, cost: Resources) -> bool:
        if self.held:
            return False
        self.held.append((node, cost))
        return True

    def release(self, node: str, cost: Resources) -> None:
        self.held.remove((node, cost))


class TestTrackerOfTheUsers:
    def test_it_decides(self, simulate: Any) -> None:
        tracker = OneAtATime()
        simulation = simulate({"n": {"cpu": 2}, "m": {"cpu": 2}}, tracker=tracker)
        simulation.begin(independent(6, cost=CPU))
        simulation.run()
        assert sorted(start for start, _ in simulation.spans().values()) == [0, 1, 2, 3, 4, 5]
        assert {*simulation.runs["run"].node} == {"n", "m"}
        assert tracker.registered == {"n": Resources({"cpu": 2}), "m": Resources({"cpu": 2})}
        simulation.check_end()

    def test_an_idle_node_is_searched_to_the_end(self, simulate: Any) -> None:
        """Nothing that runs there would have it looked at again."""

        class Picky(SimpleResourceTracker):
            def request(self, node: str, cost: Any) -> bool:
                return (cost["cpu"] == 0.5 or bool(finished())) and super().request(node, cost)

        simulation = simulate({"n": {"cpu": 1}}, tracker=Picky())

        def finished() -> Any:
            return simulation.finished

        dag = DAG().add(*(Function(i, list, cost={"cpu": 1 - i / 100}) for i in range(51)))
        simulation.begin(dag)
        simulation.run()
        assert simulation.starts["run"][0] == 50
        simulation.check_end()

    def test_it_breaks(self, simulate: Any) -> None:
        class Broken(OneAtATime):
            def request(self, node: str, cost: Resources) -> bool:
                if cost["cpu"] == 2:
                    raise OSError("no ledger")
                return super().request(node, cost)

        simulation = simulate({"n": {"cpu": 2}}, tracker=Broken())
        dag = independent(2, cost=CPU).add(Function("bad", list, cost={"cpu": 2}), Function("child", list, ["bad"]))
        simulation.begin(dag, on_error="continue")
        simulation.run()
        states = simulation.states()
        assert (states["bad"], states["child"], states[0], states[1]) == (
            State.FAILED, State.SKIPPED, State.DONE, State.DONE,
        )  # fmt: skip
        assert simulation.ended["run"].failure.message == "the resource tracker raised OSError: no ledger"
        simulation.check_end()

    def test_it_breaks_on_release(self, simulate: Any, caplog: pytest.LogCaptureFixture) -> None:
        class Broken(SimpleResourceTracker):
            def release(self, node: str, cost: Any) -> None:
                super().release(node, cost)
                raise OSError("no ledger")

        simulation = simulate({"n": CPU}, tracker=Broken())
        simulation.begin(independent(2, cost=CPU))
        with caplog.at_level(logging.ERROR):
            simulation.run()
        assert simulation.ended["run"].status == "done"
        assert "could not release" in caplog.text
        simulation.check_end()

    def test_what_it_refused_for_a_reason_of_its_own_is_asked_for_again(self, simulate: Any) -> None:
        class Licence(SimpleResourceTracker):
            def available(self, node: str, cost: Any) -> bool:
                return simulation.backend.now >= 20 and super().available(node, cost)

            def request(self, node: str, cost: Any) -> bool:
                asked.append(simulation.backend.now)
                return self.available(node, cost) and super().request(node, cost)

        asked: list[float] = []
        simulation = simulate({"n": CPU}, tracker=Licence())
        simulation.begin(independent(1, cost=CPU))
        simulation.run()
        assert asked == [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
        assert simulation.spans() == {0: (31.5, 32.5)}
        simulation.check_end()

    def test_it_is_not_asked_again_while_the_node_is_full(self, simulate: Any) -> None:
        simulation = simulate({"n": {"cpu": 2, "gpu": 1}}, tracker=SimpleResourceTracker(), duration=9.0)
        simulation.begin(independent(2, cost={"gpu": 1}))
        moments = []
        while simulation.backend.step():
            moments.append(simulation.backend.now)
        assert set(moments) == {0.0, 9.0, 18.0}
        simulation.check_end()

    def test_it_refuses_to_register_twice(self, simulate: Any, caplog: pytest.LogCaptureFixture) -> None:
        class Strict(SimpleResourceTracker):
            def register(self, node: str, capabilities: Any) -> None:
                if node in self._capabilities:
                    raise ValueError("registered already")
                super().register(node, capabilities)

        simulation = simulate({"n": CPU, "m": CPU}, tracker=Strict(), duration=4.0)
        simulation.begin(independent(2, cost=CPU))
        simulation.backend.at(1.0, lambda: simulation.backend.set_capabilities("m", {"cpu": 2}))
        simulation.backend.at(2.0, lambda: simulation.backend.lose_node("n", "SIGKILL"))
        with caplog.at_level(logging.ERROR):
            simulation.run()
        assert simulation.ended["run"].status == "done"
        assert simulation.scheduler.capabilities("m") == {"cpu": 2}
        assert caplog.text.count("could not register") == 2
        simulation.check_end()

    def test_a_run_that_could_not_begin_leaves_nothing_behind(self, simulate: Any) -> None:
        class Interrupted(SimpleResourceTracker):
            asked = 0

            def request(self, node: str, cost: Any) -> bool:
                self.asked += 1
                if self.asked == 3:
                    raise KeyboardInterrupt
                return super().request(node, cost)

        tracker = Interrupted()
        simulation = simulate({"n": {"cpu": 4}}, tracker=tracker)
        simulation.begin(independent(1, cost=CPU), "before")
        with pytest.raises(KeyboardInterrupt):
            simulation.begin(independent(4, cost=CPU), "broken", timeout_s=5.0)
        assert tracker.used("n") == simulation.scheduler.used("n") == Resources(CPU)
        simulation.begin(independent(4, cost=CPU), "broken")
        simulation.run()
        assert {name: ended.status for name, ended in simulation.ended.items()} == {"before": "done", "broken": "done"}
        simulation.check_end()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    costs=st.lists(st.sampled_from((0.5, 1, 1.5, 2)), min_size=1, max_size=12),
    seconds=st.lists(st.sampled_from((1.0, 2.0, 3.0)), min_size=1, max_size=5),
)
def test_a_node_is_never_idle_without_a_reason(simulate: Any, costs: list[float], seconds: list[float]) -> None:
    def duration(attempt: Attempt) -> float:
        return seconds[attempt.id.function % len(seconds)]

    simulation = simulate({"n": {"cpu": 2}}, duration=duration)
    simulation.begin(DAG().add(*(Function(i, list, cost={"cpu": cost}) for i, cost in enumerate(costs))))
    simulation.run()
    simulation.check_end()
    work = sum(cost * seconds[i % len(seconds)] for i, cost in enumerate(costs))
    longest = max(seconds[i % len(seconds)] for i in range(len(costs)))
    assert max(end for _, end in simulation.spans().values()) <= 2 * work / 2 + longest  # Graham's bound


def _in_order(*ids: Any) -> Any:
    from handoff_lab.allocation import Allocation

    return lambda functions, capabilities: Allocation(
        dict.fromkeys(ids, next(iter(capabilities))), {id: float(place) for place, id in enumerate(ids)}
    )
