"""What batches tell is shown as their events would be, and no records are made for it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handoff_lab import DAG, Function
from handoff_lab.messages import ReportFinished, ReportQueued, ReportTransferred
from handoff_lab.resources import Resources
from handoff_lab.telemetry import Event, RunRecord
from handoff_lab.telemetry.batches import finished_batch, queued_batch, transferred_batch
from handoff_lab.telemetry.table import FunctionTable
from handoff_lab.widgets.state import LiveState

IDS = ["unseen", "a", "b", "c", "d"]  # the first is none of the graph's
CPU = Resources({"cpu": 1})
CAPABILITIES = {"alpha": Resources({"cpu": 2}), "beta": Resources({"cpu": 2})}
START = Event(
    ("handoff", "run", "start"),
    100.0,
    {"functions": 4},
    {
        "run": "r",
        "dag": "d",
        "capabilities": CAPABILITIES,
        "allocations": {id: ("alpha", "beta")[i % 2] for i, id in enumerate(IDS)},
        "costs": dict.fromkeys(IDS, CPU),
    },
)
nodes = st.sampled_from(["alpha", "beta"])
numbers = st.integers(0, len(IDS) - 1)
times = st.integers(0, 9999).map(lambda n: 100.0 + n / 997)


def graph():
    needs = {"c": ["a"], "d": ["a", "b"]}
    return DAG("d").add(*(Function(id, list, needs.get(id, [])) for id in IDS[1:]))


def finished(functions, node, begin, took=0.5, attempt=1, peak=None):
    count = len(functions)
    times = [[at + i for i in range(count)] for at in (begin, begin + took)]
    same = [[one] * count for one in (8, 1, peak, "", CPU)]
    columns = [functions, [attempt] * count, *times, *same]
    return finished_batch(ReportFinished("r", node, *columns, {}, CAPABILITIES[node]), IDS)


def queued(functions, node, time):
    return queued_batch(ReportQueued("r", functions, [node] * len(functions)), IDS, time)


def transferred(functions, source, target, begin, took):
    count = len(functions)
    columns = [source] * count, [5] * count, [begin] * count, [begin + took + i for i in range(count)]
    return transferred_batch(ReportTransferred("r", target, functions, *columns), IDS)


def single(what, number, node, time, attempt, **facts):
    facts = {"run": "r", "function": IDS[number], "node": node, "attempt": attempt, "slot": 0, **facts}
    return Event(("handoff", "execution", "function", what), time, {"started": time}, facts)


def transfer(number, source, target, time):
    facts = {"run": "r", "function": IDS[number], "source": source, "target": target}
    return Event(("handoff", "transfer", "stop"), time, {"nbytes": 5, "started": time, "ended": time + 1}, facts)


some = st.lists(numbers, min_size=1, max_size=5, unique=True)
attempts = st.integers(1, 2)
parts = st.one_of(
    st.builds(finished, some, nodes, times, st.floats(0, 2), attempts, st.none() | st.integers(0, 99)),
    st.builds(queued, some, nodes, times),
    st.builds(single, st.sampled_from(["start", "retry", "cancel"]), numbers, nodes, times, attempts),
    st.builds(single, st.just("exception"), numbers, nodes, times, attempts, error=st.just("no")),
    st.builds(single, st.just("move"), numbers, nodes, times, attempts, source=nodes, target=nodes),
    st.builds(transferred, some, nodes, nodes, times, st.floats(0, 2)),
    st.builds(transfer, numbers, nodes, nodes, times),
)


def shown(live):
    state = {**live.snapshot(1.0), "seq": 0}
    return {**state, "earlier": sorted(state["earlier"]), "transfers": sorted(state["transfers"])}


def statuses_after(before, patch):
    after = list(before)
    changed = (patch or {}).get("functions", {"at": [], "status": ""})
    for at, letter in zip(changed["at"], changed["status"], strict=True):
        after[at] = letter
    return "".join(after)


@given(st.lists(st.tuples(parts, st.booleans()), max_size=8))
def test_batches_are_shown_as_their_events(story):
    record, plain = RunRecord(), RunRecord()
    live, other = LiveState("k", graph(), record), LiveState("k", graph(), plain)
    status = "wwww"
    for part, is_told in [(START, False), *story, (Event(("x",), 1.0), True)]:
        record.apply(part)
        for event in part.events():
            plain.apply(event)
        if is_told:
            status = statuses_after(status, live.patch(1.0, None))
            other.patch(1.0, None)
            assert shown(live) == shown(other)
            assert live.snapshot(1.0)["status"] == status


def test_functions_that_simply_run_need_no_records(monkeypatch):
    monkeypatch.setattr(FunctionTable, "__getitem__", lambda table, key: pytest.fail("its record was made"))
    record = RunRecord.from_events([START])
    live = LiveState("k", graph(), record)
    live.patch(0.0, None)
    for batch, letters in ((queued([1, 2, 3], "alpha", 101.0), "qqqw"), (finished([2, 1], "alpha", 102.0), "ddqw")):
        record.apply(batch)
        patch = live.patch(1.0, None)
        assert live.snapshot(1.0)["status"] == letters
    assert patch["functions"]["at"] == [0, 1]
    record.apply(transferred([1, 2], "beta", "alpha", 102.5, 0.25))
    patch = live.patch(1.0, None)
    assert (patch["functions"]["at"], patch["functions"]["transfer"]) == ([2, 3], [0.25, 1.5])
    assert live.patch(1.0, None) is None
