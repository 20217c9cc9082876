import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handoff_lab.telemetry import AttemptRecord, Event, RunRecord
from handoff_lab.visualization import resource_utilization
from handoff_lab.visualization.data import Bar, plan_bars, run_bars


def test_utilisation_is_plain_data(run):
    data = resource_utilization(run)
    assert json.loads(json.dumps(data)) == data
    assert (data["run"], data["duration"]) == ("r1", 2.0)
    assert {node: list(of_it) for node, of_it in data["nodes"].items()} == {
        "alpha": ["cpu", "memory"],
        "beta": ["cpu"],
        "gpu-box": ["cpu", "gpu"],
    }


def test_claims_become_steps_with_their_peak_and_mean(run):
    nodes = resource_utilization(run)["nodes"]
    cpu = nodes["alpha"]["cpu"]
    assert cpu["claimed"] == [[0.0, 1.0], [0.5, 2.0], [1.5, 1.0], [2.0, 0.0]]
    assert (cpu["capability"], cpu["capabilities"], cpu["peak"]) == (2.0, [[0.0, 2.0]], 2.0)
    assert cpu["busy"] == pytest.approx((0.5 * 1 + 1.0 * 2 + 0.5 * 1) / (2.0 * 2))
    assert cpu["used"] == [[1.0, 1.5]]
    assert nodes["alpha"]["memory"]["used"] == [[1.0, 900.0]]
    assert nodes["gpu-box"]["gpu"]["busy"] == pytest.approx(0.5)
    assert nodes["gpu-box"]["cpu"]["peak"] == nodes["gpu-box"]["cpu"]["busy"] == 0.0
    assert nodes["gpu-box"]["gpu"]["used"] == []


def test_capabilities_may_change_and_nodes_may_go():
    record = RunRecord.from_events(
        [
            Event(("handoff", "run", "start"), 10.0, {}, {"run": "r", "capabilities": {"a": {"cpu": 2.0}}}),
            Event(("handoff", "node", "changed"), 12.0, {}, {"node": "a", "capabilities": {"cpu": 4.0}}),
            Event(("handoff", "node", "up"), 12.0, {}, {"node": "b", "capabilities": {"cpu": 1.0}}),
            Event(("handoff", "node", "down"), 14.0, {}, {"node": "b", "capabilities": {"cpu": 1.0}}),
            Event(("handoff", "run", "stop"), 16.0, {}, {"run": "r", "status": "done"}),
        ]
    )
    nodes = resource_utilization(record)["nodes"]
    assert nodes["a"]["cpu"]["capabilities"] == [[0.0, 2.0], [2.0, 4.0]]
    assert nodes["b"]["cpu"]["capabilities"] == [[2.0, 1.0], [4.0, 0.0]]
    assert (nodes["a"]["cpu"]["capability"], nodes["b"]["cpu"]["capability"]) == (4.0, 1.0)


def test_a_record_without_a_run_is_empty():
    assert resource_utilization(RunRecord()) == {"run": "", "duration": 0.0, "nodes": {}}


def test_bars_are_the_attempts_in_their_slots(record):
    bars = run_bars(record)
    assert [bar.number for bar in bars if bar.function == "blur"] == [1, 2]
    assert Bar("load", "alpha", 0, 0.0, 0.5) in bars
    assert {bar.status.value for bar in bars} == {"done", "failed"}


def test_what_runs_still_lasts_until_the_last_news():
    record = RunRecord(started=10.0, attempts=[AttemptRecord("f", 1, "a", 0, 11.0), AttemptRecord("g", 1, "a")])
    record.events.append(Event(("x",), 15.0))
    assert [(bar.function, bar.start, bar.end) for bar in run_bars(record)] == [("f", 1.0, 5.0)]


def test_attempts_that_share_a_slot_are_put_apart():
    spans = [(0.0, 2.0), (1.0, 3.0), (2.0, 4.0)]
    attempts = [AttemptRecord(n, 1, "a", 0, begin, end) for n, (begin, end) in enumerate(spans)]
    assert [bar.lane for bar in run_bars(RunRecord(started=0.0, attempts=attempts))] == [0, 1, 0]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 10), st.floats(0.01, 5)), max_size=30))
def test_bars_of_a_plan_never_overlap(rows):
    plan = SimpleNamespace(
        allocations={n: node for n, (node, _, _) in enumerate(rows)},
        start={n: begin for n, (_, begin, _) in enumerate(rows)},
        end={n: begin + lasting for n, (_, begin, lasting) in enumerate(rows)},
    )
    bars = plan_bars(plan)
    assert len(bars) == len(rows)
    for one in bars:
        for other in bars:
            if one is not other and (one.node, one.lane) == (other.node, other.lane):
                assert one.end <= other.start + 1e-6 or other.end <= one.start + 1e-6
