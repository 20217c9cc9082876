"""A batch is the events that it stands for: in records, in logs, in the order of what happened."""

import json
import pickle
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handoff_lab.messages import ReportFinished, ReportQueued, ReportTransferred
from handoff_lab.resources import Resources
from handoff_lab.telemetry import Event, FunctionRecord, RunLog, RunRecord, TransferRecord, read_log
from handoff_lab.telemetry.batch_lines import LineReader, LineWriter
from handoff_lab.telemetry.batches import finished_batch, queued_batch, transferred_batch

FUNCTION = ("handoff", "execution", "function")
IDS = ["a", ("b", 1), 3, "d", "given", None]
RUN = {"run": "r"}
CPU = Resources({"cpu": 1})
START = Event(
    ("handoff", "run", "start"),
    100.0,
    {"functions": 5},
    {**RUN, "dag": "d", "allocations": dict.fromkeys(IDS[:4], "alpha"), "costs": dict.fromkeys(IDS[:4], CPU)},
)
times = st.integers(0, 40).map(lambda n: 100.0 + n / 4)
numbers = st.integers(0, len(IDS) - 1)
costs = st.sampled_from([Resources(), CPU, Resources({"cpu": 0.1, "memory": 300})])


def finished(rows, node="alpha", claimed=None, ids=IDS):
    """Rows of function, attempt, started, ended, bytes, slot, peak, log, cost."""
    columns = zip(*sorted(rows, key=lambda row: row[3]), strict=True)
    functions, attempts, started, ended, nbytes, slots, peaks, logs, held = map(list, columns)
    command = ReportFinished(
        "r", node, functions, attempts, started, ended, nbytes, slots, peaks, logs, held, claimed or {}, {"cpu": 4.0}
    )
    return finished_batch(command, ids)


def row(function=0, attempt=1, begin=101.0, end=102.0, nbytes=8, slot=0, peak=None, log="", cost=CPU):
    return function, attempt, begin, end, nbytes, slot, peak, log, cost


@st.composite
def finished_batches(draw):
    rows = []
    for function in draw(st.lists(numbers, min_size=1, max_size=6, unique=True)):
        begin, end = sorted(draw(st.tuples(times, times)))
        more = draw(
            st.tuples(
                st.integers(0, 2**40), st.integers(0, 3), st.none() | st.integers(0, 2**40), st.text(max_size=3), costs
            )
        )
        rows.append((function, draw(st.integers(1, 2)), begin, end, *more))
    return finished(rows, draw(st.sampled_from(["alpha", "beta"])), draw(costs))


queued_batches = st.builds(
    lambda functions, node, time: queued_batch(ReportQueued("r", functions, [node] * len(functions)), IDS, time),
    st.lists(numbers, min_size=1, max_size=6),
    st.sampled_from(["alpha", "beta"]),
    times,
)


def transferred(rows, target="beta"):
    """Rows of function, source, bytes, started, ended."""
    return transferred_batch(ReportTransferred("r", target, *map(list, zip(*rows, strict=True))), IDS)


transferred_batches = st.builds(
    transferred,
    st.lists(st.tuples(numbers, st.sampled_from(["alpha", "gamma"]), st.integers(0, 2**40), times, times), min_size=1),
    st.sampled_from(["alpha", "beta"]),
)


def single(what, **more):
    def made(number, attempt, time):
        facts = {**RUN, "function": IDS[number], "node": "beta", "attempt": attempt, **more}
        return Event((*FUNCTION, what), time, {"started": time}, facts)

    return st.builds(made, numbers, st.integers(1, 2), times)


singles = st.one_of(
    single("start", slot=1),
    single("exception", slot=1, error="no"),
    single("retry", reason="no"),
    single("cancel"),
    single("log", text="x"),
    single("move", source="alpha", target="beta", reason="lost"),
    single("cached"),
)
some_batches = finished_batches() | queued_batches | transferred_batches
stories = st.lists(some_batches | singles, max_size=8).map(lambda story: [START, *story])


def one_by_one(story):
    return [event for part in story for event in part.events()]


@given(stories)
def test_a_record_of_batches_is_that_of_their_events(story):
    record, plain = RunRecord.from_events(story), RunRecord.from_events(one_by_one(story))
    assert record == plain
    assert list(record.functions) == list(plain.functions)
    assert list(record.events) == one_by_one(story)


@given(stories)
def test_what_is_told_without_records_is_what_the_records_say(story):
    record = RunRecord.from_events(story)
    said = dict(record.functions.statuses()), record.functions.nodes(), record.counts()
    functions = list(record.functions.values())
    assert said == (dict(record.functions.statuses()), record.functions.nodes(), record.counts())
    assert said[0] == {f.id: f.status for f in functions}
    assert said[1] == {f.id: f.node for f in functions if f.node is not None}
    assert sum(said[2].values()) == len(functions) == len(record.functions)


@given(stories, st.data())
def test_records_that_were_looked_at_go_on(story, data):
    record, late = RunRecord(), RunRecord.from_events(story)
    held = {}
    for part in story:
        record.apply(part)
        for id in data.draw(st.sets(st.sampled_from(list(record.functions)))):
            held[id] = record.functions[id]
        data.draw(st.sampled_from([list, len]))(record.attempts)
    assert record == late
    assert all(record.functions[id] is function for id, function in held.items())


@given(stories)
def test_a_log_of_batches_reads_back(story):
    writer, reader = LineWriter(), LineReader()
    lines = "".join(map(writer.lines, story)).splitlines()
    assert all(line.isascii() for line in lines)
    parts = [part for line in lines if (part := reader.part(line)) is not None]
    assert one_by_one(parts) == one_by_one(story)
    assert list(map(type, parts)) == list(map(type, story))
    assert RunRecord.from_events(parts) == RunRecord.from_events(story)


def test_each_transfer_has_an_event_and_a_record():
    batch = transferred([(1, "alpha", 7, 101.0, 101.5), (0, "gamma", 9, 101.0, 101.25)])
    numbers = {"nbytes": 9, "duration": 0.25, "started": 101.0, "ended": 101.25}
    facts = {"run": "r", "function": "a", "source": "gamma", "target": "beta"}
    assert batch.events()[1] == Event(("handoff", "transfer", "stop"), 101.25, numbers, facts)
    transfers = RunRecord.from_events([batch, *batch.events()]).transfers
    told = [
        TransferRecord(("b", 1), "alpha", "beta", 7, 101.0, 101.5),
        TransferRecord("a", "gamma", "beta", 9, 101.0, 101.25),
    ]
    assert transfers == told * 2
    assert (len(transfers), transfers[1], transfers[-2:], transfers.nbytes) == (4, told[1], told, 32)


@pytest.mark.parametrize("is_expanded", [False, True])
def test_a_function_was_queued_before_it_began(is_expanded):
    """Its node may know that the inputs are there before the coordinator does."""
    story = [
        START,
        queued_batch(ReportQueued("r", [0, 1], ["alpha"] * 2), IDS, 101.5),
        finished([row(), row(1, 1, 102.0)]),
    ]
    functions = RunRecord.from_events(one_by_one(story) if is_expanded else story).functions
    assert [(functions[id].queued, functions[id].started) for id in IDS[:2]] == [(101.0, 101.0), (101.5, 102.0)]


@given(finished_batches())
def test_events_of_a_batch_are_in_the_order_of_what_happened(batch):
    events = batch.events()
    assert len(events) == batch.event_count
    assert all(before.time <= after.time for before, after in pairwise(events))
    for k, number in enumerate(batch.functions):
        about = [e.name[-1] for e in events if e.metadata["function"] == batch.ids[number]]
        assert about == (["allocation", "start", "stop", "release"] if batch.costs[k] else ["start", "stop"])


@given(finished_batches())
def test_claims_come_back_to_what_others_hold(batch):
    claims = list(batch.claims())
    told = [e.metadata["claimed"] for e in batch.events() if e.name[1] == "resource"]
    assert [claimed for _, _, claimed in claims] == told
    assert not claims or claims[-1][2] == batch.claimed
    assert all(name in {"cpu", "memory"} and amount >= 0 for claimed in told for name, amount in claimed.items())


def test_one_slot_never_holds_two_claims():
    """What ends gives its room before the next takes it, though the clock says the same."""
    batch = finished([row(0, begin=1.0, end=2.0), row(1, begin=2.0, end=2.0), row(2, begin=2.0, end=3.0)])
    assert [claimed["cpu"] for _, _, claimed in batch.claims()] == [1, 0, 1, 0, 1, 0]


def test_claims_of_batches_are_in_the_order_of_time():
    record = RunRecord.from_events([START, finished([row(begin=105.0, end=106.0)]), finished([row(1)], "beta")])
    assert [(time, node) for time, node, _ in record.claims] == [
        (101.0, "beta"),
        (102.0, "beta"),
        (105.0, "alpha"),
        (106.0, "alpha"),
    ]


def test_events_can_be_read_like_a_list():
    story = [START, finished([row(0), row(1, begin=102.0, end=103.0)]), Event(("x",), 104.0)]
    record, plain = RunRecord.from_events(story), one_by_one(story)
    assert len(record.events) == len(plain) == 10
    assert [record.events[i] for i in range(-10, 10)] == plain + plain
    assert record.events[2:5] == plain[2:5]
    assert record.last_time == 104.0
    with pytest.raises(IndexError):
        record.events[10]


def test_a_record_does_not_expand_batches_of_another_run():
    record = RunRecord(id="another")
    record.apply(finished([row()]))
    assert (len(record.events), len(record.functions), len(record.claims)) == (0, 0, 0)


def test_a_record_goes_to_other_processes():
    record = RunRecord.from_events([START, finished([row(i) for i in range(4)])])
    assert pickle.loads(pickle.dumps(record)) == record


def test_a_record_of_someone_s_own_can_be_put_in():
    record = RunRecord.from_events([START, finished([row()])])
    record.functions["a"] = FunctionRecord("a", node="gamma")
    record.functions["new"] = FunctionRecord("new")
    assert (record.functions["a"].node, list(record.functions)[-1]) == ("gamma", "new")
    assert record.counts() == {"waiting": 5}


# -- files ---------------------------------------------------------------------------


def test_a_log_takes_a_line_for_each_batch(tmp_path):
    story = [START, finished([row(i) for i in range(4)]), finished([row(4)])]
    with RunLog("r", tmp_path) as log:
        for part in story:
            log.write(part)
    assert len(log.path.read_text().splitlines()) == 1 + len(story) + 1
    assert list(read_log(log.path)) == one_by_one(story)
    assert RunRecord.from_log(log.path) == RunRecord.from_events(story)


def test_a_log_of_the_first_version_is_read(tmp_path):
    path = tmp_path / "old.jsonl"
    path.write_text('{"handoff_lab_log": 1}\n[["x"],1.5,{},{"ids":{"$tuple":["a"]}}]\n')
    assert list(read_log(path)) == [Event(("x",), 1.5, {}, {"ids": ("a",)})]


@pytest.mark.parametrize(
    "damage",
    [
        lambda facts: facts["functions"].append(99),
        lambda facts: facts["functions"].append(1),
        lambda facts: facts.pop("ended"),
        lambda facts: facts.update(started="AAAA"),
        lambda facts: facts.update(functions=[-1]),
        lambda facts: facts.update(functions=[]),
        lambda facts: facts.update(functions=[2**70]),
    ],
)
def test_a_damaged_batch_is_refused_with_its_line(tmp_path, damage):
    with RunLog("r", tmp_path) as log:
        log.write(finished([row()]))
    *before, last = log.path.read_text().splitlines()
    facts = json.loads(last)
    damage(facts["finished"])
    log.path.write_text("\n".join([*before, json.dumps(facts), ""]))
    with pytest.raises(ValueError, match="line 3"):
        list(read_log(log.path))


def test_a_line_that_is_neither_event_nor_batch_is_refused(tmp_path):
    with RunLog("r", tmp_path) as log:
        log.write(START)
    log.path.write_text(log.path.read_text() + "5\n")
    with pytest.raises(ValueError, match="line 3"):
        list(read_log(log.path))


def test_a_resource_may_have_any_name(tmp_path):
    held = Resources({"$set": 1})
    batch = finished([row(cost=held)], claimed=held)
    with RunLog("r", tmp_path) as log:
        log.write(batch)
    assert list(read_log(log.path)) == batch.events()


def test_many_keys_of_few_values_come_back_in_order(tmp_path):
    nodes = {(f"f{i}", i): ("alpha", "beta")[i % 2] for i in range(500)}
    event = Event(("x",), 1.0, {}, {"nodes": nodes, "costs": dict.fromkeys(nodes, Resources({"cpu": 1}))})
    with RunLog("r", tmp_path) as log:
        log.write(event)
    (again,) = read_log(log.path)
    assert again == event
    assert list(again.metadata["nodes"]) == list(nodes)
