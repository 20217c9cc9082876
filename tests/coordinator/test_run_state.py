"""Listeners of a run hear each event once it is in the record, and none can hurt the run."""

import pytest

from handoff_lab.coordinator.state import RunState
from handoff_lab.graph import DAG
from handoff_lab.messages import Ended
from handoff_lab.telemetry import Event, RunRecord
from handoff_lab.telemetry.batches import QueuedBatch

QUEUED = Event(("handoff", "execution", "function", "queued"), 1.0, {}, {"run": "r", "function": "a", "node": "n"})


@pytest.fixture
def run(tmp_path):
    return RunState("r", DAG("d"), None, None, RunRecord(id="r", dag_id="d"), log_directory=tmp_path)


def test_a_listener_hears_an_event_that_is_in_the_record(run):
    heard = []
    run.subscribe(lambda event: heard.append((event, run.record.counts())))
    run.apply(QUEUED)
    assert heard == [(QUEUED, {"queued": 1})]


def test_a_listener_that_unsubscribed_hears_no_more(run):
    heard, also = [], []
    end = run.subscribe(heard.append)
    run.subscribe(also.append)
    run.apply(QUEUED)
    end()
    end()
    run.apply(QUEUED)
    assert (len(heard), len(also)) == (1, 2)


def test_a_listener_that_raises_costs_the_others_nothing(run, caplog):
    def bad(event):
        raise KeyboardInterrupt

    heard = []
    run.subscribe(bad)
    run.subscribe(heard.append)
    run.apply(QUEUED)
    assert heard == [QUEUED]
    assert "a listener of run r failed at handoff.execution.function.queued" in caplog.text


BATCH = QueuedBatch("r", ["a", "b", "c"], 1.0, [0, 1, 2], ["n"] * 3)


def test_who_wants_single_events_gets_those_of_a_batch_until_they_end_it(run):
    heard = []

    def hear(event):
        heard.append(event)
        if len(heard) == 2:
            end()

    end = run.subscribe_to_each(hear)
    run.apply(BATCH)
    run.apply(QUEUED)
    assert heard == BATCH.events()[:2]


def test_one_event_that_a_listener_cannot_take_keeps_none_of_the_batch_from_it(run, caplog):
    heard = []

    def hear(event):
        heard.append(event)
        raise ValueError

    run.subscribe_to_each(hear)
    run.apply(BATCH)
    assert heard == BATCH.events()
    assert caplog.text.count("a listener of run r failed") == 3


def test_a_run_that_is_over_keeps_no_listener(run):
    class Listener:
        def hear(self, event):
            pass

    run.subscribe(Listener().hear)
    run.finish(Ended("r", "done"))
    assert run._listeners == ()


def test_a_run_that_was_over_before_keeps_none_either(run):
    run.finish(Ended("r", "done"))
    run.subscribe(print)()
    run.subscribe(print)
    assert run._listeners == ()


def test_who_takes_back_is_not_told_of_the_end(run):
    told = []
    back = run.when_over(lambda: told.append("taken back"))
    run.when_over(lambda: told.append("kept"))
    back()
    run.finish(Ended("r", "done"))
    back()
    assert told == ["kept"]


def test_one_who_waits_and_is_interrupted_leaves_nothing_behind(run):
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.wait_for(interrupted, 60.0)
    assert run._watchers == 0
