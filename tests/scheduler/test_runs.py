"""How runs go: order, retries, failures, cancelling, time limits, several at once."""

from __future__ import annotations

from typing import Any

import pytest

from handoff_lab._errors import AllocationError, RunError
from handoff_lab.graph import DAG, Function
from handoff_lab.messages import Attempt, AttemptId, Ended, Failure, FailureKind
from handoff_lab.scheduler import Program, RunOptions, State
from handoff_lab.scheduler.backoff import Backoff

EXCEPTION, DIED, NODE, TIMEOUT = FailureKind.EXCEPTION, FailureKind.DIED, FailureKind.NODE, FailureKind.TIMEOUT
DONE, FAILED, SKIPPED, CANCELLED = State.DONE, State.FAILED, State.SKIPPED, State.CANCELLED
ONE = {"n": {"cpu": 1}}
TWO = {"n": {"cpu": 2}, "m": {"cpu": 2}}


class TestHappyPath:
    def test_a_chain_runs_in_order(self, simulate: Any, chain: DAG) -> None:
        simulation = simulate(ONE)
        simulation.begin(chain)
        simulation.run()
        assert simulation.ended["run"] == Ended("run", "done")
        assert simulation.spans() == {"a": (0, 1), "b": (1, 2), "c": (2, 3)}
        simulation.check_end()

    def test_what_is_independent_runs_at_the_same_time(self, simulate: Any, diamond: DAG) -> None:
        simulation = simulate({"n": {"cpu": 2}})
        simulation.begin(diamond)
        simulation.run()
        assert simulation.spans() == {"top": (0, 1), "left": (1, 2), "right": (1, 2), "bottom": (2, 3)}

    def test_only_what_the_targets_need_is_run(self, simulate: Any, diamond: DAG) -> None:
        simulation = simulate(TWO)
        simulation.begin(diamond, targets=["left"])
        simulation.run()
        assert simulation.starts["run"] == ["top", "left"]

    def test_a_run_of_nothing_is_done_at_once(self, simulate: Any) -> None:
        simulation = simulate({})
        simulation.begin(DAG().add(Function("x", type="input")))
        assert simulation.ended["run"].status == "done"

    def test_given_results_are_not_made_again(self, simulate: Any, chain: DAG) -> None:
        simulation = simulate(ONE)
        simulation.begin(chain, "before", targets=["b"])
        simulation.run()
        kept = simulation.scheduler.holder("before", 1)
        simulation.begin(chain, "after", given={"b": kept})
        simulation.run()
        assert simulation.starts["after"] == ["c"]
        (cached,) = simulation.told("cached")
        assert cached.metadata == {"run": "after", "function": "b", "node": "n"}
        assert simulation.scheduler.progress("after").count(DONE) == 2
        simulation.check_end()

    def test_inputs_lie_with_the_coordinator(self, simulate: Any) -> None:
        simulation = simulate(ONE)
        simulation.begin(DAG().add(Function("x", type="input"), Function("f", list, args=["x"])))
        assert simulation.scheduler.holder("run", 0) == (AttemptId("run", 0, 0), "")
        simulation.run()
        assert simulation.scheduler.progress("run").count(DONE) == 1
        simulation.check_end()

    def test_lower_priority_numbers_go_first(self, simulate: Any) -> None:
        from handoff_lab.allocation import Allocation

        ids = ["a", "b", "c", "d"]
        order = dict(zip(ids, (3.0, 1.0, 2.0, 0.0), strict=True))
        simulation = simulate(ONE)
        simulation.begin(
            DAG().add(*(Function(id, list, cost={"cpu": 1}) for id in ids)),
            allocator=lambda functions, capabilities: Allocation(dict.fromkeys(ids, "n"), order),
        )
        simulation.run()
        assert simulation.starts["run"] == ["d", "b", "c", "a"]


class TestRetries:
    @pytest.mark.parametrize(("max_retries", "attempts"), [(0, 1), (1, 2), (5, 6)])
    def test_attempts_are_one_more_than_retries(self, simulate: Any, max_retries: int, attempts: int) -> None:
        simulation = simulate(ONE, fails={"f": [EXCEPTION] * 20})
        simulation.begin(DAG().add(Function("f", list)), max_retries=max_retries)
        simulation.run()
        assert simulation.attempts() == {"f": attempts}
        ended = simulation.ended["run"]
        assert (ended.status, ended.function, ended.attempts, ended.node) == ("failed", 0, attempts, "n")
        assert ended.failure.message == "exception of f"
        simulation.check_end()

    def test_a_function_says_itself_how_often(self, simulate: Any) -> None:
        simulation = simulate(ONE, fails={"often": [EXCEPTION] * 20, "never": [EXCEPTION] * 20})
        dag = DAG().add(Function("often", list, max_retries=4), Function("never", list, max_retries=0))
        simulation.begin(dag, max_retries=2, on_error="continue")
        simulation.run()
        assert simulation.attempts() == {"often": 5, "never": 1}

    def test_success_after_failures(self, simulate: Any, chain: DAG) -> None:
        simulation = simulate(ONE, fails={"b": [EXCEPTION, TIMEOUT, DIED]})
        simulation.begin(chain, max_retries=3)
        simulation.run()
        assert simulation.ended["run"].status == "done"
        assert simulation.attempts() == {"a": 1, "b": 4, "c": 1}
        assert simulation.told("run", "stop")[0].measurements["retries"] == 3

    def test_what_is_not_retryable_is_not_retried(self, simulate: Any) -> None:
        simulation = simulate(ONE, outcome=lambda attempt: Failure(EXCEPTION, "no", retryable=False))
        simulation.begin(DAG().add(Function("f", list)), max_retries=3)
        simulation.run()
        assert simulation.attempts() == {"f": 1}

    def test_a_retry_waits_its_delay(self, simulate: Any) -> None:
        simulation = simulate(ONE, fails={"f": [EXCEPTION, EXCEPTION]}, duration=1.0)
        simulation.begin(DAG().add(Function("f", list, retry_delay=10.0)))
        simulation.run()
        assert simulation.spans() == {"f": (22, 23)}
        assert [report.measurements["delay"] for report in simulation.told("retry")] == [10.0, 10.0]

    @pytest.mark.parametrize(
        ("retry_on", "attempts"), [(Exception, 2), (ValueError, 1), (TimeoutError, 2), ((KeyError, RunError), 2)]
    )
    def test_a_timeout_is_retried_if_its_exception_is(self, simulate: Any, retry_on: Any, attempts: int) -> None:
        simulation = simulate(ONE, fails={"f": [TIMEOUT]})
        simulation.begin(DAG().add(Function("f", list, timeout=1.0, retry_on=retry_on)))
        simulation.run()
        assert simulation.attempts() == {"f": attempts}
        simulation.check_end()

    @pytest.mark.parametrize("kind", [FailureKind.RESULT, FailureKind.INPUT])
    def test_what_lacks_room_for_values_waits_for_others_to_make_some(self, simulate: Any, kind: FailureKind) -> None:
        simulation = simulate(ONE, fails={"f": [kind, kind]})
        simulation.begin(DAG().add(Function("f", list)), backoff=Backoff(growth=2.0))
        simulation.run()
        assert simulation.spans() == {"f": (3.5, 4.5)}
        simulation.check_end()

    def test_a_lost_node_uses_up_no_retries(self, simulate: Any) -> None:
        simulation = simulate(ONE, fails={"f": [NODE, NODE]})
        simulation.begin(DAG().add(Function("f", list)), max_retries=0)
        simulation.run()
        assert simulation.ended["run"].status == "done"
        assert simulation.attempts() == {"f": 3}

    @pytest.mark.parametrize("deaths", [[DIED, DIED, DIED], [NODE, DIED, NODE]])
    def test_three_deaths_are_poison(self, simulate: Any, deaths: list[FailureKind]) -> None:
        simulation = simulate(ONE, fails={"f": deaths})
        simulation.begin(DAG().add(Function("f", list)), max_retries=100)
        simulation.run()
        assert simulation.attempts() == {"f": 3}
        assert "3 slots or nodes died under it" in simulation.ended["run"].failure.message

    def test_a_timeout_is_a_failure_like_others(self, simulate: Any) -> None:
        simulation = simulate(ONE, duration=5.0)
        simulation.begin(DAG().add(Function("f", list, timeout=2.0)), max_retries=1)
        simulation.run()
        assert simulation.ended["run"].failure.kind is TIMEOUT
        assert simulation.attempts() == {"f": 2}


class TestFailure:
    @pytest.fixture
    def fork(self) -> DAG:
        """``bad`` fails; ``child`` and ``grandchild`` need it; ``long`` and ``after`` do not."""
        return DAG().add(
            Function("bad", list),
            Function("long", list, cost={"cpu": 1}),
            Function("child", list, args=["bad"]),
            Function("grandchild", list, args=["child", "long"]),
            Function("after", list, args=["long"]),
        )

    def simulation(self, simulate: Any) -> Any:
        def seconds(attempt: Attempt) -> float:
            return 1.0 if attempt.label == "bad" else 5.0

        return simulate(TWO, fails={"bad": [EXCEPTION]}, duration=seconds)

    def test_stop_cancels_what_runs(self, simulate: Any, fork: DAG) -> None:
        simulation = self.simulation(simulate)
        simulation.begin(fork, max_retries=0, on_error="stop")
        simulation.run()
        assert simulation.told("run", "stop")[0].measurements["duration"] == 1
        assert simulation.states() == {
            "bad": FAILED, "long": CANCELLED, "child": SKIPPED, "grandchild": SKIPPED, "after": CANCELLED,
        }  # fmt: skip
        assert simulation.ended["run"].status == "failed"
        simulation.check_end()

    def test_continue_goes_on_with_what_does_not_need_it(self, simulate: Any, fork: DAG) -> None:
        simulation = self.simulation(simulate)
        simulation.begin(fork, max_retries=0, on_error="continue")
        simulation.run()
        assert simulation.states() == {
            "bad": FAILED, "long": DONE, "child": SKIPPED, "grandchild": SKIPPED, "after": DONE,
        }  # fmt: skip
        ended = simulation.ended["run"]
        assert (ended.status, ended.function, ended.failure.message) == ("failed", 0, "exception of bad")
        assert {report.metadata["because"] for report in simulation.told("skip")} == {"bad"}
        simulation.check_end()

    def test_the_first_failure_is_the_runs(self, simulate: Any) -> None:
        simulation = simulate(
            TWO,
            fails={"late": [EXCEPTION], "early": [EXCEPTION]},
            duration=lambda attempt: 3.0 if attempt.label == "late" else 1.0,
        )
        simulation.begin(DAG().add(Function("late", list), Function("early", list)), max_retries=0, on_error="continue")
        simulation.run()
        assert simulation.ended["run"].function == simulation.runs["run"].program.index["early"]
        assert set(simulation.states().values()) == {FAILED}

    def test_a_function_that_ends_before_it_can_be_stopped_is_done(self, simulate: Any) -> None:
        simulation = simulate(TWO, fails={"bad": [EXCEPTION]})
        simulation.begin(DAG().add(Function("bad", list), Function("good", list)), max_retries=0)
        simulation.run()
        assert simulation.states() == {"bad": FAILED, "good": DONE}
        simulation.check_end()


class TestCancel:
    def test_a_run(self, simulate: Any, diamond: DAG) -> None:
        simulation = simulate(TWO)
        simulation.begin(diamond)
        simulation.backend.at(1.5, lambda: simulation.cancel("run"))
        simulation.run()
        assert simulation.ended["run"] == Ended("run", "cancelled")
        assert simulation.states() == {"top": DONE, "left": CANCELLED, "right": CANCELLED, "bottom": CANCELLED}
        assert simulation.told("run", "stop")[0].measurements["duration"] == 1.5
        simulation.check_end()

    def test_twice_is_once(self, simulate: Any, diamond: DAG) -> None:
        simulation = simulate(TWO)
        simulation.begin(diamond)
        simulation.cancel("run")
        simulation.cancel("run")
        simulation.run()
        simulation.cancel("run")
        assert simulation.ended["run"].status == "cancelled"
        simulation.check_end()

    @pytest.mark.parametrize("time", [0.5, 1.5])  # before it starts, while it runs
    def test_a_function(self, simulate: Any, diamond: DAG, time: float) -> None:
        simulation = simulate(TWO)
        simulation.begin(diamond)
        left = simulation.runs["run"].program.index["left"]
        simulation.backend.at(time, lambda: simulation.cancel("run", left))
        simulation.run()
        assert simulation.states() == {"top": DONE, "left": CANCELLED, "right": DONE, "bottom": SKIPPED}
        assert simulation.ended["run"] == Ended("run", "cancelled")
        simulation.check_end()

    def test_a_function_that_is_done_stays_done(self, simulate: Any, chain: DAG) -> None:
        simulation = simulate(ONE)
        simulation.begin(chain)
        simulation.backend.at(1.5, lambda: simulation.cancel("run", 0))
        simulation.run()
        assert simulation.ended["run"].status == "done"

    def test_a_function_that_finishes_all_the_same_is_cancelled(self, simulate: Any, chain: DAG) -> None:
        simulation = simulate(ONE, lag=lambda node: 1.0)
        while not simulation.scheduler.nodes:
            simulation.backend.step()
        simulation.begin(chain)
        simulation.backend.at(2.5, lambda: simulation.cancel("run", 0))  # it has ended, but that is not known yet
        simulation.run()
        assert simulation.states() == {"a": CANCELLED, "b": SKIPPED, "c": SKIPPED}
        simulation.check_end()


class TestTimeout:
    def test_a_run_ends_when_its_time_is_up(self, simulate: Any, chain: DAG) -> None:
        simulation = simulate(ONE)
        simulation.begin(chain, timeout_s=1.5)
        simulation.run()
        assert simulation.ended["run"] == Ended("run", "failed", timeout_s=1.5)
        assert simulation.states() == {"a": DONE, "b": CANCELLED, "c": CANCELLED}
        simulation.check_end()

    def test_a_run_that_is_over_has_no_timeout(self, simulate: Any, chain: DAG) -> None:
        simulation = simulate(ONE)
        simulation.begin(chain, timeout_s=100)
        simulation.run()
        assert simulation.ended["run"].status == "done"
        simulation.check_end()


class TestSeveralRuns:
    def test_they_are_isolated(self, simulate: Any, chain: DAG) -> None:
        simulation = simulate(TWO, outcome=lambda attempt: (
            Failure(EXCEPTION, "no") if attempt.id.run == "one" and attempt.label == "b" else None
        ))  # fmt: skip
        simulation.begin(chain, "one", max_retries=0)
        simulation.begin(chain, "two", max_retries=0)
        simulation.run()
        assert simulation.ended["one"].status == "failed"
        assert simulation.ended["two"] == Ended("two", "done")
        assert {key.run for key in simulation.backend.results()} == {"one", "two"}
        simulation.forget("one")
        assert {key.run for key in simulation.backend.results()} == {"two"}
        del simulation.runs["one"]
        simulation.check_end()

    def test_cancelling_one_leaves_the_other(self, simulate: Any, diamond: DAG) -> None:
        simulation = simulate(ONE | {"m": {"cpu": 2}})
        simulation.begin(diamond, "one")
        simulation.begin(diamond, "two")
        simulation.backend.at(1.5, lambda: simulation.cancel("one"))
        simulation.run()
        assert (simulation.ended["one"].status, simulation.ended["two"].status) == ("cancelled", "done")
        simulation.check_end()

    def test_a_run_that_goes_on_is_not_forgotten(self, simulate: Any, chain: DAG) -> None:
        simulation = simulate(ONE)
        simulation.begin(chain)
        with pytest.raises(ValueError, match="not over"):
            simulation.forget("run")
        with pytest.raises(ValueError, match="already"):
            simulation.begin(chain)


class TestRefused:
    def test_what_no_node_can_hold_begins_nothing(self, simulate: Any) -> None:
        simulation = simulate(TWO)
        dag = DAG().add(Function("small", list), Function("big", list, cost={"gpu": 1}))
        with pytest.raises(AllocationError) as caught:
            simulation.begin(dag)
        assert caught.value.function == "big"
        assert not simulation.starts
        simulation.begin(dag, targets=["small"])  # the id is free again
        simulation.run()
        assert simulation.ended["run"].status == "done"

    def test_a_run_keeps_to_its_nodes(self, simulate: Any, diamond: DAG) -> None:
        simulation = simulate(TWO)
        simulation.begin(diamond, nodes=("m",))
        simulation.run()
        assert set(simulation.runs["run"].node) == {"m"}
        with pytest.raises(AllocationError, match="'x', which is not there"):
            simulation.begin(diamond, "other", nodes=("x",))


def test_max_concurrency_is_never_exceeded_and_always_used(simulate: Any) -> None:
    simulation = simulate({"n": {"cpu": 4}, "m": {"cpu": 4}})
    simulation.begin(DAG().add(*(Function(i, list, cost={"cpu": 1}) for i in range(9))), max_concurrency=3)
    simulation.run()
    assert sorted(start for start, _ in simulation.spans().values()) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    simulation.check_end()


def test_an_empty_program_is_done() -> None:
    from handoff_lab.scheduler import Scheduler

    commands = Scheduler().submit(Program("r", "dag", ()), RunOptions(), 0.0)
    assert commands[-1] == Ended("r", "done")
