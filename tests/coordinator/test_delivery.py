"""Records, logs and ends arrive whatever handlers and stores raise."""

import asyncio
import threading

import pytest

from handoff_lab import telemetry
from handoff_lab.coordinator.delivery import FUNCTION_STOP, Delivery
from handoff_lab.coordinator.state import RunState
from handoff_lab.graph import DAG, Function
from handoff_lab.messages import Ended
from handoff_lab.telemetry import Event, RunRecord, read_log
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
        assert run.over.wait(5)
    finally:
        telemetry.detach(error)
    assert run.record.counts() == {"done": 3}


def test_a_store_that_raises_costs_no_event(delivery, run):
    def full(function):
        raise asyncio.CancelledError

    run.publish = full
    delivery.events([([run], event) for event in EVENTS])
    delivery.end(run, Ended("r", "done"))
    assert run.over.wait(5)
    assert run.record.counts() == {"done": 3}


def test_one_who_waits_and_raises_keeps_no_other_waiting(delivery, run):
    def closed():
        raise RuntimeError("Event loop is closed")

    told = threading.Event()
    run.when_over(closed)
    run.when_over(told.set)
    delivery.end(run, Ended("r", "done"))
    assert told.wait(5)


def test_what_was_delivered_is_in_the_log_though_the_run_goes_on(delivery, run):
    delivery.events([([run], event) for event in EVENTS[:2]])
    delivery.close()
    assert list(read_log(run.log.path)) == EVENTS[:2]
    run.finish(Ended("r", "cancelled"))
