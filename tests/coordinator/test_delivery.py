"""Records, logs and ends arrive whatever handlers and stores raise."""

import asyncio
import threading

import pytest

from handoff_lab import telemetry
from handoff_lab.coordinator.delivery import FUNCTION_STOP, Delivery
from handoff_lab.coordinator.state import RunState
from handoff_lab.graph import DAG, Function
from handoff_lab.messages import Ended, ReportFinished, ReportQueued
from handoff_lab.telemetry import Event, RunRecord, read_log
from handoff_lab.telemetry.batches import FinishedBatch, finished_batch, queued_batch
from handoff_lab.telemetry.events import RUN_START

IDS = ["a", "b", "c"]
EVENTS = [Event(RUN_START, 1.0, {"functions": 3}, {"run": "r", "dag": "d", "allocations": dict.fromkeys(IDS, "n")})] + [
    Event(FUNCTION_STOP, 1.1, {"duration": 1.0}, {"run": "r", "function": id, "node": "n", "attempt": 1}) for id in IDS
]


@pytest.fixture
def delivery():
    made = Delivery("test")
    yield made
    made.close()


@pytest.fixture
def run(tmp_path):
    dag = DAG("d").add(*(Function(id, list) for id in IDS))
    return RunState("r", dag, None, None, RunRecord(id="r", dag_id="d"), log_directory=tmp_path)


class Unspeakable(Exception):
    def __repr__(self):
        raise ValueError("no words")


@pytest.mark.parametrize("error", [asyncio.CancelledError(), Unspeakable(), KeyboardInterrupt()])
def test_a_handler_that_raises_costs_no_event_and_no_end(delivery, run, error):
    def bad(*_):
        raise error

    telemetry.attach(error, ("handoff", "run"), bad)
    try:
        delivery.events([([run], event) for event in EVENTS])
        delivery.end(run, Ended("r", "done"))
        assert run.over.wait(60)
    finally:
        telemetry.detach(error)
    assert run.record.counts() == {"done": 3}


def test_a_store_that_raises_costs_no_event(delivery, run):
    def full(function):
        raise asyncio.CancelledError

    run.publish = full
    delivery.events([([run], event) for event in EVENTS])
    delivery.end(run, Ended("r", "done"))
    assert run.over.wait(60)
    assert run.record.counts() == {"done": 3}


def test_one_who_waits_and_raises_keeps_no_other_waiting(delivery, run):
    def closed():
        raise RuntimeError("Event loop is closed")

    told = threading.Event()
    run.when_over(closed)
    run.when_over(told.set)
    delivery.end(run, Ended("r", "done"))
    assert told.wait(60)


def test_what_was_delivered_is_in_the_log_though_the_run_goes_on(delivery, run):
    delivery.events([([run], event) for event in EVENTS[:2]])
    delivery.close()
    assert list(read_log(run.log.path)) == EVENTS[:2]
    run.finish(Ended("r", "cancelled"))


# -- many at once -----------------------------------------------------------------


@pytest.fixture
def batches():
    times = [1.0, 2.0, 3.0], [2.0, 3.0, 4.0]
    columns = [2, 0, 1], [1, 1, 1], *times, [8, 8, 8], [0, 0, 0], [None, None, None], ["", "", ""], [{"cpu": 1.0}] * 3
    return [
        queued_batch(ReportQueued("r", [0, 1, 2], ["n"] * 3), IDS, 1.0),
        finished_batch(ReportFinished("r", "n", *columns, {}, {"cpu": 1.0}), IDS),
    ]


def delivered(delivery, run, parts):
    delivery.events([([run], part) for part in parts])
    delivery.end(run, Ended("r", "done"))
    assert run.over.wait(60)


def test_handlers_hear_each_event_of_a_batch_that_they_attached_to(delivery, run, batches):
    heard = []
    name = ("handoff", "execution", "function", "stop")
    telemetry.attach("test", name, lambda event, numbers, facts, _: heard.append((event, numbers["time"], facts)))
    try:
        delivered(delivery, run, [EVENTS[0], *batches])
    finally:
        telemetry.detach("test")
    assert [(event, time, facts["function"]) for event, time, facts in heard] == [
        (name, 2.0, "c"),
        (name, 3.0, "a"),
        (name, 4.0, "b"),
    ]


def test_nobody_attached_and_nothing_is_expanded(delivery, run, batches, monkeypatch):
    monkeypatch.setattr(FinishedBatch, "events", lambda batch: pytest.fail("it was expanded"))
    telemetry.attach("test", ("handoff", "run"), lambda *_: None)
    try:
        delivered(delivery, run, [EVENTS[0], *batches])
    finally:
        telemetry.detach("test")
    assert run.record.counts() == {"done": 3}


def test_a_store_hears_of_each_function_of_a_batch(delivery, run, batches):
    published = []
    run.publish = published.append
    delivered(delivery, run, [EVENTS[0], *batches])
    assert published == ["c", "a", "b"]


def test_a_batch_is_one_call_for_those_who_watch_and_in_the_log(delivery, run, batches):
    heard = []
    run.subscribe(heard.append)
    delivered(delivery, run, [EVENTS[0], *batches])
    assert heard == [EVENTS[0], *batches]
    assert RunRecord.from_log(run.log.path).functions == run.record.functions
