"""The catalogue of events: which are told, with which facts."""

from __future__ import annotations

from typing import Any

from handoff_lab.graph import DAG, Function
from handoff_lab.messages import (
    AttemptId,
    Failed,
    Failure,
    FailureKind,
    Finished,
    GpuLoad,
    GpuUse,
    NodeChanged,
    NodeInfo,
    NodeJoined,
    NodeLoad,
    Report,
    Started,
    Transferred,
    Wrote,
)
from handoff_lab.resources import Resources
from handoff_lab.scheduler import RunOptions, Scheduler, compile_program

ONE = Resources({"cpu": 1})
ATTEMPT = {"run": "r", "function": ("load", 1), "node": "n", "attempt": 1}
KEY = AttemptId("r", 0, 1)


def test_nodes_are_listed_by_name() -> None:
    scheduler = Scheduler()
    scheduler.handle([NodeJoined(NodeInfo(name, {"cpu": 1}, 1)) for name in ("b", "c", "a")], 0.0)
    seen: list[str] = []

    def allocate(functions: Any, capabilities: Any) -> dict[Any, str]:
        seen.extend(capabilities)
        return {function.id: "c" for function in functions}

    program = compile_program(DAG().add(Function("f", list)), run="r")
    (_, _, started), *_ = _reports(scheduler.submit(program, RunOptions(allocator=allocate), 0.0))
    assert seen == list(started["capabilities"]) == ["a", "b", "c"]


class TestOneFunction:
    """A run of one function with a cost, told step by step."""

    def setup_method(self) -> None:
        self.scheduler = Scheduler()
        self.up = self.tell(NodeJoined(NodeInfo("n", {"cpu": 2}, 2)))
        dag = DAG("d").add(Function(("load", 1), list, cost={"cpu": 1}))
        options = RunOptions(allocator="load_balanced", strategy="load_balanced")
        self.begun = _reports(self.scheduler.submit(compile_program(dag, run="r"), options, 10.0))

    def tell(self, *events: Any) -> list[tuple[tuple[str, ...], Any, Any]]:
        return _reports(self.scheduler.handle(events, 12.0))

    def test_begin(self) -> None:
        both = {"claimed": ONE, "capabilities": Resources({"cpu": 2})}
        assert self.begun == [
            (
                ("run", "start"),
                {"functions": 1},
                {
                    "run": "r",
                    "dag": "d",
                    "allocations": {("load", 1): "n"},
                    "capabilities": {"n": Resources({"cpu": 2})},
                    "costs": {("load", 1): ONE},
                    "strategy": "load_balanced",
                },
            ),
            (("execution", "function", "queued"), {}, {"run": "r", "function": ("load", 1), "node": "n"}),
            (("resource", "allocation"), {"cpu": 1}, {**ATTEMPT, **both}),
        ]

    def test_success(self) -> None:
        assert self.tell(Started(KEY, 100.0, slot=1)) == [
            (("execution", "function", "start"), {"started": 100.0}, {**ATTEMPT, "slot": 1})
        ]
        told = self.tell(Finished(KEY, 100.0, 103.5, nbytes=8, slot=1, peak_memory=99, log="hello"))
        measured = {"started": 100.0, "ended": 103.5, "duration": 3.5, "nbytes": 8, "peak_memory": 99}
        assert told == [
            (("resource", "release"), {"cpu": 1}, {**ATTEMPT, "claimed": {}, "capabilities": {"cpu": 2}}),
            (("execution", "function", "stop"), measured, {**ATTEMPT, "slot": 1, "log": "hello"}),
            (
                ("run", "stop"),
                {"duration": 2.0, "done": 1, "failed": 0, "skipped": 0, "cancelled": 0, "retries": 0},
                {"run": "r", "dag": "d", "status": "done"},
            ),
        ]

    def test_a_start_that_was_left_out_is_told_before_the_stop(self) -> None:
        told = self.tell(Finished(KEY, 100.0, 101.0))
        assert [name[-1] for name, _, _ in told] == ["release", "start", "stop", "stop"]

    def test_failure_and_retry(self) -> None:
        failure = Failure(FailureKind.EXCEPTION, "bad\nvery bad", "ValueError", "Traceback ...")
        told = self.tell(Failed(KEY, failure, 100.0, 101.0, slot=1, log="out"))[1:3]
        facts = {"kind": "exception", "error": "bad", "type": "ValueError", "traceback": "Traceback ...", "log": "out"}
        assert told == [
            (
                ("execution", "function", "exception"),
                {"started": 100.0, "ended": 101.0, "duration": 1.0},
                {**ATTEMPT, "slot": 1, **facts},
            ),
            (("execution", "function", "retry"), {"delay": 0.0}, {**ATTEMPT, "attempt": 2, "reason": "bad"}),
        ]

    def test_cancel(self) -> None:
        self.scheduler.cancel("r", 11.0)
        told = self.tell(Failed(KEY, Failure(FailureKind.DIED, "killed"), 100.0, 101.0))
        assert (("execution", "function", "cancel"), {"started": 100.0, "ended": 101.0}, ATTEMPT) in told

    def test_live_output(self) -> None:
        assert self.tell(Wrote(KEY, "half way")) == [
            (("execution", "function", "log"), {}, {**ATTEMPT, "text": "half way"})
        ]

    def test_transfers(self) -> None:
        assert self.tell(Transferred(KEY, "n", "m", 1000, 5.0, 7.0)) == [
            (
                ("transfer", "stop"),
                {"nbytes": 1000, "duration": 2.0, "started": 5.0, "ended": 7.0},
                {"run": "r", "function": ("load", 1), "source": "n", "target": "m"},
            )
        ]
        assert self.tell(Transferred(AttemptId("gone", 0, 1), "n", "m", 1, 0, 0)) == []

    def test_nodes(self) -> None:
        assert self.up == [(("node", "up"), {}, {"node": "n", "capabilities": {"cpu": 2}})]
        assert self.tell(NodeLoad("n", 150.0, 10**9)) == [
            (
                ("resource", "utilization"),
                {"cpu_percent": 150.0, "memory": 10**9},
                {"node": "n", "claimed": ONE, "capabilities": {"cpu": 2}},
            )
        ]
        assert self.tell(NodeChanged("n", {"cpu": 3}, 3)) == [
            (("node", "changed"), {}, {"node": "n", "capabilities": {"cpu": 3}})
        ]
        assert self.tell(NodeLoad("x", 1.0, 1), NodeChanged("x", {}, 1)) == []

    def test_gpus_and_what_uses_them(self) -> None:
        strangers = [GpuUse(AttemptId(*id), 1.0, 1) for id in (("gone", 0, 1), ("r", 99, 1), ("r", KEY.function, 7))]
        uses = (GpuUse(KEY, None, 10**9), *strangers)
        load = NodeLoad("n", 1.0, 1, (GpuLoad("2", 50.0, 3, 9, uses), GpuLoad("3", None, 4, 9)))
        ((_, measurements, metadata),) = self.tell(load)
        assert (measurements["gpu_percent"], measurements["gpu_memory"]) == (50.0, 7)
        use = {"run": "r", "function": ("load", 1), "attempt": 1, "percent": None, "memory": 10**9}
        assert metadata["gpus"] == [
            {"gpu": "2", "percent": 50.0, "memory": 3, "total": 9, "functions": [use]},
            {"gpu": "3", "percent": None, "memory": 4, "total": 9, "functions": []},
        ]

    def test_a_node_that_drains(self) -> None:
        facts = {"node": "n", "capabilities": {"cpu": 2}}
        assert (("node", "changed"), {}, {**facts, "draining": True}) in _reports(self.scheduler.drain("n", 1.0))
        changed = {"node": "n", "capabilities": {"cpu": 3}, "draining": True}
        assert self.tell(NodeChanged("n", {"cpu": 3}, 3)) == [(("node", "changed"), {}, changed)]
        assert (("node", "changed"), {}, {"node": "n", "capabilities": {"cpu": 3}}) in _reports(
            self.scheduler.undrain("n", 1.0)
        )


def _reports(commands: Any) -> list[tuple[tuple[str, ...], Any, Any]]:
    reports = [command for command in commands if isinstance(command, Report)]
    assert all(report.name[0] == "handoff" for report in reports)
    return [(report.name[1:], report.measurements, report.metadata) for report in reports]


def test_every_name_is_in_the_catalogue(simulate: Any) -> None:
    from handoff_lab.telemetry import events

    catalogue = {value for value in vars(events).values() if isinstance(value, tuple)}
    simulation = simulate({"n": {"cpu": 2}, "m": {"cpu": 2}}, fails={"a": [FailureKind.EXCEPTION]})
    dag = DAG().add(
        Function("a", list, cost={"cpu": 1}), Function("b", list, ["a"], node="n"), Function("c", list, ["b"])
    )
    simulation.begin(dag, on_error="continue")
    simulation.backend.at(2.5, lambda: simulation.backend.lose_node("n", "SIGKILL"))
    simulation.run()
    assert {report.name for _, report in simulation.reports} <= catalogue
