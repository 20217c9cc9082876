import pytest

from handoff_lab.telemetry import AttemptRecord, Event, RunRecord, TransferRecord

RUN = {"run": "r1"}


def make(*name, time=1.0, numbers=None, **facts):
    return Event(("handoff", *name), time, numbers or {}, {**RUN, **facts})


def function(what, id="f", attempt=1, node="alpha", time=1.0, numbers=None, **facts):
    about = {"function": id, **facts}
    if what in ("start", "stop", "exception", "retry", "log", "cancel"):
        about["attempt"] = attempt
    return make("execution", "function", what, time=time, numbers=numbers, node=node, **about)


def started(at=1.0, slot=2, **options):
    return function("start", time=at, numbers={"started": at}, slot=slot, **options)


def stopped(begin=1.0, end=3.0, **options):
    numbers = {"started": begin, "ended": end, "duration": end - begin, "nbytes": 80, "peak_memory": 9.0}
    return function("stop", time=end, numbers=numbers, slot=2, log="all of it", **options)


def failed(begin=1.0, end=2.0, **options):
    numbers = {"started": begin, "ended": end, "duration": end - begin}
    story = {"kind": "exception", "error": "no", "type": "ValueError", "traceback": "Traceback", "log": ""}
    return function("exception", time=end, numbers=numbers, slot=2, **story, **options)


@pytest.fixture
def begun():
    costs = {"g": {"cpu": 1}, "f": {"cpu": 2}}
    return make(
        "run",
        "start",
        time=0.5,
        numbers={"functions": 2},
        dag="d",
        strategy="s",
        costs=costs,
        allocations={"f": "alpha", "g": "beta"},
        capabilities={"alpha": {"cpu": 4}, "beta": {"cpu": 1}},
    )


def record_of(*events):
    return RunRecord.from_events(events)


def test_a_run_begins_with_all_functions_waiting_in_the_order_of_the_dag(begun):
    record = record_of(begun)
    assert (record.id, record.dag_id, record.status, record.strategy) == ("r1", "d", "running", "s")
    assert (record.started, record.ended, record.duration) == (0.5, None, None)
    assert [(f.id, f.status, f.node) for f in record.functions.values()] == [
        ("g", "waiting", "beta"),
        ("f", "waiting", "alpha"),
    ]
    assert record.capabilities == {"alpha": {"cpu": 4}, "beta": {"cpu": 1}}
    assert record.costs == {"g": {"cpu": 1}, "f": {"cpu": 2}}


def test_a_function_goes_from_queued_to_done(begun):
    record = record_of(begun)
    f = record.functions["f"]
    seen = []
    for event in (function("queued", time=0.7), started(), function("log", text="some"), stopped()):
        record.apply(event)
        seen.append((f.status.value, f.log))
    assert seen == [("queued", ""), ("running", ""), ("running", "some"), ("done", "all of it")]
    assert (f.queued, f.started, f.ended, f.duration) == (0.7, 1.0, 3.0, 2.0)
    assert (f.slot, f.nbytes, f.peak_memory, f.attempts) == (2, 80, 9, 1)
    assert record.attempts == [AttemptRecord("f", 1, "alpha", 2, 1.0, 3.0, "done")]
    assert record.counts() == {"waiting": 1, "done": 1}


def test_a_retry_keeps_the_story_in_the_attempts_and_forgets_the_error(begun):
    record = record_of(begun, started(), failed())
    f = record.functions["f"]
    assert (f.status, f.error, f.error_type, f.traceback) == ("failed", "no", "ValueError", "Traceback")
    record.apply(function("retry", attempt=2, reason="no", numbers={"delay": 0.1}, time=2.0))
    assert f.status == "retrying"
    record.apply(started(at=4.0, attempt=2))
    record.apply(stopped(begin=4.0, end=5.0, attempt=2))
    assert (f.status, f.error, f.traceback, f.attempts, f.started) == ("done", None, None, 2, 4.0)
    assert [(a.number, a.status.value, a.error) for a in record.attempts] == [(1, "failed", "no"), (2, "done", None)]


def test_an_end_that_comes_before_its_start_stands(begun):
    record = record_of(begun, stopped(), started())
    assert record.functions["f"].status == "done"
    assert record.functions["f"].duration == 2.0
    assert [a.status.value for a in record.attempts] == ["done"]


def test_events_of_a_run_that_was_never_announced_still_tell_what_they_can():
    record = record_of(stopped())
    assert (record.id, record.functions["f"].status) == ("r1", "done")


@pytest.mark.parametrize(
    ("event", "status"),
    [
        (function("cached"), "cached"),
        (function("skip", because="g"), "skipped"),
        (function("cancel", attempt=0), "cancelled"),
    ],
)
def test_a_function_may_end_without_an_attempt(begun, event, status):
    record = record_of(begun, event)
    assert record.functions["f"].status == status
    assert record.attempts == []
    assert record.functions["f"].because == ("g" if status == "skipped" else None)


def test_a_cancelled_function_that_waited_to_be_tried_again_keeps_the_times_of_its_attempt(begun):
    record = record_of(begun, started(), failed(), function("retry", attempt=2), function("cancel", time=9.0))
    assert record.functions["f"].status == "cancelled"
    assert record.functions["f"].ended == 2.0
    assert [(a.status.value, a.ended) for a in record.attempts] == [("failed", 2.0)]


def test_a_running_function_that_is_cancelled_ends_its_attempt(begun):
    record = record_of(begun, started(), function("cancel", numbers={"started": 1.0, "ended": 1.5}))
    assert record.functions["f"].status == "cancelled"
    assert [(a.status.value, a.ended) for a in record.attempts] == [("cancelled", 1.5)]


def test_a_function_moves_away_from_a_lost_node(begun):
    lost = {"source": "alpha", "target": "beta", "reason": "alpha was lost"}
    record = record_of(begun, started(), function("move", time=2.0, **lost))
    assert (record.functions["f"].status, record.functions["f"].node) == ("waiting", "beta")
    assert [(a.node, a.status.value, a.ended, a.error) for a in record.attempts] == [
        ("alpha", "failed", 2.0, "alpha was lost")
    ]
    assert record.recomputed == 0


def test_a_result_that_was_lost_is_recomputed_once(begun):
    lost = {"source": "alpha", "target": "beta", "reason": "alpha was lost"}
    again = [function("move", **lost), function("queued", node="beta"), started(at=4.0, attempt=2, node="beta")]
    record = record_of(begun, started(), stopped(), *again)
    assert record.recomputed == 1
    assert record.functions["f"].status == "running"
    assert [a.status.value for a in record.attempts] == ["done", "running"]


def test_claims_loads_transfers_and_nodes_are_kept_in_order(begun):
    record = record_of(
        begun,
        make("resource", "allocation", node="alpha", claimed={"cpu": 2}, function="f", attempt=1),
        Event(
            ("handoff", "resource", "utilization"),
            1.5,
            {"cpu_percent": 150.0, "memory": 1e9},
            {"node": "alpha", "claimed": {}, "capabilities": {}},
        ),
        make("resource", "release", time=2.0, node="alpha", claimed={"cpu": 0}, function="f", attempt=1),
        make(
            "transfer",
            "stop",
            numbers={"nbytes": 7, "duration": 1.0, "started": 2.0, "ended": 3.0},
            function="f",
            source="alpha",
            target="beta",
        ),
        Event(("handoff", "node", "changed"), 4.0, {}, {"node": "beta", "capabilities": {"cpu": 3}}),
        Event(("handoff", "node", "down"), 5.0, {}, {"node": "beta", "capabilities": {}, "reason": "killed"}),
    )
    assert record.claims == [(1.0, "alpha", {"cpu": 2}), (2.0, "alpha", {"cpu": 0})]
    assert record.loads == [(1.5, "alpha", 150.0, 1e9)]
    assert record.transfers == [TransferRecord("f", "alpha", "beta", 7, 2.0, 3.0)]
    assert record.node_events == [(4.0, "beta", "changed", ""), (5.0, "beta", "down", "killed")]
    assert record.capabilities["beta"] == {"cpu": 3}


def test_the_run_stops(begun):
    record = record_of(begun, make("run", "stop", time=4.5, dag="d", status="failed"))
    assert (record.status, record.ended, record.duration, record.last_time) == ("failed", 4.5, 4.0, 4.5)


def test_events_of_another_run_and_unknown_ones_change_nothing_but_the_list(begun):
    record = record_of(begun)
    other = Event(("handoff", "run", "stop"), 9.0, {}, {"run": "r2", "status": "failed"})
    record.apply(other)
    assert record.status == "running"
    assert other not in record.events
    record.apply(make("run", "sang"))
    assert [event.name[-1] for event in record.events] == ["start", "sang"]


def test_what_losses_cost_is_counted_in_seconds(begun):
    """The attempts after the first loss, those that failed among them; not one that still goes on."""
    record = record_of(begun, started(), stopped())
    assert (record.recomputed, record.recomputed_seconds, record.summary()) == (0, 0.0, "1 waiting, 1 done")
    again = {"attempt": 2, "node": "beta"}
    for event in (function("move", source="alpha", target="beta", reason="lost"), started(at=4.0, **again)):
        record.apply(event)
    assert (record.recomputed, record.recomputed_seconds) == (1, 0.0)
    third = {"attempt": 3, "node": "beta"}
    for event in (failed(4.0, 5.5, **again), started(at=6.0, **third), stopped(6.0, 8.0, **third)):
        record.apply(event)
    assert (record.recomputed, record.recomputed_seconds) == (1, 3.5)
    assert record.summary() == "1 waiting, 1 done, 1 recomputed in 3.50 s"
    for event in (started(at=9.0, attempt=4), stopped(9.0, 10.0, attempt=4)):  # the news of its start comes first
        record.apply(event)
    assert (record.recomputed, record.recomputed_seconds) == (2, 4.5)
    assert RunRecord.from_events(record.events) == record


def test_a_function_without_a_node_waits(begun):
    record = record_of(begun, function("queued"), function("wait", awaited="node 'alpha'"))
    assert record.functions["f"].status == "waiting"
