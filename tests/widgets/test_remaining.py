"""The estimate of a run's end comes to the truth."""

import pytest

from handoff_lab import DAG, Function
from handoff_lab.scheduler import RunOptions, compile_program
from handoff_lab.telemetry import Event, RunRecord
from handoff_lab.telemetry.events import FUNCTION_START, FUNCTION_STOP
from handoff_lab.testing import SimulatedBackend, Simulation
from handoff_lab.widgets.remaining import Forecast


def work(xs):
    return xs


def graph(duration=None):
    """Load 2 s, 40 times 1 s, then 3 s, on 4 slots: 15 s."""
    parts = [Function(f"part{i}", work, ["load"], cost={"cpu": 1}, duration=duration(1.0)) for i in range(40)]
    return DAG("d").add(
        Function("load", list, cost={"cpu": 1}, duration=duration(2.0)),
        *parts,
        Function("merge", lambda *parts: parts, [part.id for part in parts], cost={"cpu": 1}, duration=duration(3.0)),
    )


def records(dag):
    """The record of a simulated run at each moment at which something happened, and the end."""
    program = compile_program(dag, run="r")
    true = {"load": 2.0, "merge": 3.0}
    backend = SimulatedBackend(
        {"alpha": {"cpu": 4}}, duration=lambda attempt: true.get(program.functions[attempt.id.function].id, 1.0)
    )
    simulation = Simulation(backend)
    simulation.submit(program, RunOptions(allocator="first_available"))
    simulation.run()
    record = RunRecord()
    end = simulation.reports[-1][0]
    for i, (moment, report) in enumerate(simulation.reports):
        record.apply(Event(report.name, moment, report.measurements, report.metadata))
        if i + 1 == len(simulation.reports) or simulation.reports[i + 1][0] > moment:
            yield record, moment, end


def nothing(seconds):
    return None


def errors(forecast, history, since=0.0):
    """How wrong the forecast is, by moment."""
    found = {}
    for record, moment, end in history:
        left = forecast.seconds_left(record, moment)
        if moment > since:
            found[moment] = left - (end - moment)
    return found


def test_nothing_is_known_before_anything_is_done():
    dag = graph(nothing)
    record, moment, _ = next(records(dag))
    assert moment < 2.0
    assert Forecast(dag).seconds_left(record, moment) is None


def test_without_durations_the_estimate_converges():
    dag = graph(nothing)
    wrong = errors(Forecast(dag), records(dag), since=2.5)
    assert len(wrong) > 5
    assert all(abs(error) < 2.5 for error in wrong.values())  # nobody knows yet how long `merge` takes
    assert wrong[max(wrong)] == pytest.approx(0.0, abs=0.01)


def test_with_durations_and_a_plan_the_end_is_known_from_the_start():
    dag = graph(float)
    wrong = errors(Forecast(dag, slots=4), records(dag))
    assert all(abs(error) < 0.1 for error in wrong.values())


def test_durations_that_were_half_the_truth_are_corrected_by_those_that_are_done():
    dag = graph(lambda seconds: seconds / 2)
    wrong = errors(Forecast(dag), records(dag), since=2.5)
    assert all(abs(error) < 0.1 for error in wrong.values())


def test_what_runs_for_longer_than_it_should_is_not_over_at_once():
    dag = graph(float)
    for record, moment, _ in records(dag):
        if record.functions["load"].status == "running":
            assert Forecast(dag).seconds_left(record, moment + 10.0) > 41.0
            return
    pytest.fail("it never ran")


def begun(dag, *, done=(), running):
    """The record of a run in which some are done, after 1 s each, and others have run since 0."""
    about = {"run": "r", "attempt": 0, "node": "a", "slot": 0}
    ended = {"started": 0.0, "ended": 1.0, "duration": 1.0}
    start = Event(("handoff", "run", "start"), 0.0, {}, {"run": "r", "costs": {id: {} for id in dag.functions}})
    starts = [Event(FUNCTION_START, 0.0, {"started": 0.0}, {**about, "function": id}) for id in (*done, *running)]
    stops = [Event(FUNCTION_STOP, 1.0, ended, {**about, "function": id}) for id in done]
    return RunRecord.from_events([start, *starts, *stops])


def test_a_run_that_has_not_begun_is_not_nearly_done():
    assert Forecast(graph(nothing)).seconds_left(RunRecord(), 1.0) is None


def test_nobody_knows_how_long_the_first_of_all_takes():
    dag = DAG("d").add(Function("nap", list))
    record = begun(dag, running=["nap"])
    assert record.functions["nap"].status == "running"
    assert Forecast(dag).seconds_left(record, 200.0) is None


@pytest.mark.parametrize("code", [list, work])
def test_what_runs_for_longer_than_others_took_may_take_any_time(code):
    dag = DAG("d").add(Function("a", work, ["b"]), Function("b", list), Function("c", code, ["b"]))
    record = begun(dag, done=["b", "a"], running=["c"])
    assert record.functions["b"].status == "done"
    forecast = Forecast(dag)
    assert forecast.seconds_left(record, 0.25) == 0.75
    assert forecast.seconds_left(record, 1.05) == pytest.approx(0.105)
    assert forecast.seconds_left(record, 1.2) is None


def test_a_chain_takes_its_time_whatever_the_slots():
    chain = [Function("c0", list, duration=5.0)] + [Function(f"c{i}", len, [f"c{i - 1}"], duration=5.0) for i in (1, 2)]
    dag = DAG("d").add(*chain)
    record = RunRecord.from_events(
        [Event(("handoff", "run", "start"), 0.0, {}, {"run": "r", "dag": "d", "costs": {f.id: {} for f in chain}})]
    )
    assert Forecast(dag, slots=8).seconds_left(record, 0.0) == 15.0


def test_a_run_that_is_over_takes_no_time():
    assert Forecast(DAG("d")).seconds_left(RunRecord(), 1.0) == 0.0
