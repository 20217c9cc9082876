"""A run with everything in it: a retry, a failure, a skip, transfers, three nodes, ids that try to break out."""

import shutil
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from handoff_lab import DAG, Argument, Function, Plan, Resources, collocated
from handoff_lab.telemetry import Event, RunRecord
from handoff_lab.visualization import layout

BREAKOUT, MARKUP = '"];evil [label=<b>', "<img src=x onerror=alert(1)>"
FUNCTION = ("handoff", "execution", "function")
NODES = {"alpha": {"cpu": 2.0, "memory": 4000.0}, "beta": {"cpu": 4.0}, "gpu-box": {"cpu": 2.0, "gpu": 1.0}}
PLACES = {"load": "alpha", "blur": "beta", "tone": "alpha", BREAKOUT: "gpu-box", MARKUP: "beta", "agg": "alpha"}
PLACES |= {"report": "beta"}
# function, attempt, slot, begin, end, how it ended
ATTEMPTS = [
    ("load", 1, 0, 0.0, 0.5, "stop"),
    ("tone", 1, 0, 0.5, 1.5, "stop"),
    ("blur", 1, 0, 0.5, 0.8, "exception"),
    ("blur", 2, 0, 1.0, 1.5, "stop"),
    (BREAKOUT, 1, 0, 0.5, 1.5, "stop"),
    (MARKUP, 1, 1, 0.5, 1.0, "stop"),
    ("agg", 1, 0, 1.5, 2.0, "exception"),
]


@pytest.fixture(autouse=True, scope="session")
def patience_with_dot() -> Iterator[None]:
    """A busy machine may give dot no time for seconds; a picture without it is another."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "_TIMEOUT_S", 60)
        yield


def load(path):
    """Read the image.

    Only the first line is shown.
    """


def shrink(value, source, target):
    return value


def make_dag():
    return DAG("image <pipeline>").add(
        Function("path", type="input"),
        Function("scale", lambda: 2, type="inline"),
        Function("load", load, ["path"], cost={"cpu": 1, "memory": "500MB"}, node="alpha"),
        Function("blur", max, [Argument("load", serialize=shrink), "scale"], cost={"cpu": 2}),
        Function("tone", max, [Argument("load", deserialize=shrink)], cost={"cpu": 2}, node=collocated("load")),
        Function(BREAKOUT, max, ["load"], cost={"gpu": 1}, group="colour & tone"),
        Function(MARKUP, max, ["load"], cost={"cpu": 1}, group="colour & tone"),
        Function("agg", max, ["blur", "tone", BREAKOUT, MARKUP], cost={"cpu": 1}),
        Function("report", max, ["agg"]),
    )


def make_events(dag):
    costs = {id: function.cost for id, function in dag.functions.items() if id in PLACES}
    facts = {"dag": dag.name, "strategy": "load_balanced", "costs": costs, "allocations": PLACES}
    yield Event(("handoff", "run", "start"), 100.0, {"functions": 7}, {"run": "r1", "capabilities": NODES, **facts})
    moments = [(begin, 1, row) for row in ATTEMPTS for begin in [row[3]]] + [(row[4], 0, row) for row in ATTEMPTS]
    claimed = {node: dict.fromkeys(has, 0.0) for node, has in NODES.items()}
    for moment, begins, (id, number, slot, begin, end, how) in sorted(moments, key=lambda m: m[:2]):
        node = PLACES[id]
        about = {"run": "r1", "function": id, "node": node, "attempt": number, "slot": slot}
        for resource, amount in costs[id].items():
            claimed[node][resource] += amount if begins else -amount
        claim = {**about, "claimed": dict(claimed[node]), "capabilities": NODES[node]}
        yield Event(("handoff", "resource", "allocation" if begins else "release"), 100 + moment, costs[id], claim)
        if begins:
            yield Event((*FUNCTION, "start"), 100 + moment, {"started": 100 + begin}, about)
            continue
        numbers = {"started": 100 + begin, "ended": 100 + end, "duration": end - begin, "nbytes": 5_000_000}
        story = {"kind": "exception", "error": f"no {MARKUP}", "type": "ValueError", "traceback": f"File {MARKUP}"}
        yield Event((*FUNCTION, how), 100 + moment, numbers, {**about, "log": f"wrote {MARKUP}", **story})
    crossing = {"nbytes": 5e6, "duration": 0.1, "started": 100.5, "ended": 100.6}
    yield Event(
        ("handoff", "transfer", "stop"),
        100.6,
        crossing,
        {"run": "r1", "function": "load", "source": "alpha", "target": "beta"},
    )
    load = {"node": "alpha", "claimed": {}, "capabilities": NODES["alpha"]}
    yield Event(("handoff", "resource", "utilization"), 101.0, {"cpu_percent": 150.0, "memory": 900e6}, load)
    yield Event((*FUNCTION, "skip"), 102.0, {}, {"run": "r1", "function": "report", "because": "agg"})
    yield Event(
        ("handoff", "run", "stop"), 102.0, {"duration": 2.0}, {"run": "r1", "dag": dag.name, "status": "failed"}
    )


@pytest.fixture(scope="session")
def dag():
    return make_dag()


@pytest.fixture(scope="session")
def record(dag):
    return RunRecord.from_events(make_events(dag))


@pytest.fixture(scope="session")
def plan(dag):
    start = {"load": 0.0, "blur": 0.4, "tone": 0.4, BREAKOUT: 0.4, MARKUP: 0.4, "agg": 1.4, "report": 1.8}
    end = {"load": 0.4, "blur": 0.8, "tone": 1.4, BREAKOUT: 1.2, MARKUP: 0.9, "agg": 1.8, "report": 1.9}
    nodes = {node: Resources(has) for node, has in NODES.items()}
    return Plan.from_times(dag, PLACES, start, end, nodes)


@pytest.fixture(scope="session")
def run(dag, record, plan):
    return SimpleNamespace(dag=dag, record=record, plan=plan)


@pytest.fixture
def without_graphviz(monkeypatch):
    """As on a machine with neither ``dot`` nor pygraphviz."""
    from handoff_lab.visualization import layout

    monkeypatch.setattr(layout, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
