"""Which runs of a killed coordinator the next one takes up: all that it can, and what it cannot is told."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import handoff_lab as hl
from handoff_lab.coordinator.request import Request, prepare
from handoff_lab.coordinator.state import RunState
from handoff_lab.detached.following import Scribe
from handoff_lab.detached.journal import Journal, Order
from handoff_lab.detached.outline import outline
from handoff_lab.detached.place import Place
from handoff_lab.detached.protocol import pack_parts
from handoff_lab.detached.restoring import Record, read_runs
from handoff_lab.messages import Ended
from handoff_lab.scheduler import RunOptions
from handoff_lab.telemetry.events import RUN_START, Event
from handoff_lab.telemetry.record import RunRecord


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    return tmp_path / "project" / "logs"


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    place = Place(tmp_path / "night")
    place.path.mkdir(mode=0o700)
    return Journal(place)


def begin(journal: Journal, logs: Path, options: object = None) -> RunState:
    """A run as a coordinator writes it down; its log is open."""
    request = Request.make(hl.DAG("d").add(hl.Function("f", int)), None)
    state = prepare(request, pickle=True, by_value=(), given={}).state
    state.log_directory = logs
    given = pickle.dumps(options or RunOptions())
    journal.enter(state.id, Order(outline(state), given, pack_parts({}, {}), b""))
    Scribe(state, journal).begin()
    state.apply(Event(RUN_START, 1.0, {}, {"run": state.id, "dag": "d", "costs": {"f": {}}}))
    return state


def kill(state: RunState) -> None:
    """What its process wrote stays; its end is not heard of."""
    assert state.log is not None
    state.log.close()


def read(journal: Journal, logs: Path) -> dict[str, Record]:
    records = {record.state.id: record for record in read_runs(journal, str(logs))}
    for record in records.values():
        if record.state.log is not None:
            kill(record.state)
    return records


class NeedsAFile:
    """As a policy whose module opens a file when it is imported."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return open, ("/nowhere/at/all",)


@pytest.mark.parametrize("was_over", [False, True])
def test_a_run_whose_log_directory_is_gone_is_taken_up_and_its_log_is_there_again(
    journal: Journal, logs: Path, was_over: bool
) -> None:
    state = begin(journal, logs)
    if was_over:
        state.finish(Ended(state.id, "done"))
    else:
        kill(state)
    assert state.log is not None
    shutil.rmtree(logs.parent)
    record = read(journal, logs)[state.id]
    assert list(record.state.record.events) == list(state.record.events)
    assert record.state.end == state.end
    assert RunRecord.from_log(state.log.path).id == state.id
    assert logs.stat().st_mode & 0o777 == 0o700
    assert list(read(journal, logs)) == [state.id]


def test_a_run_whose_policy_misses_a_file_is_left_out_with_a_warning_and_kept(
    journal: Journal, logs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lost, other = begin(journal, logs, NeedsAFile()), begin(journal, logs)
    for state in (lost, other):
        kill(state)
    assert list(read(journal, logs)) == [other.id]
    assert f"run {lost.id} is lost" in caplog.text
    assert set(journal.runs()) == {lost.id, other.id}


def test_a_run_that_has_no_log_is_forgotten_with_a_warning(
    journal: Journal, logs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gone, other = begin(journal, logs), begin(journal, logs)
    for state in (gone, other):
        kill(state)
    assert gone.log is not None
    gone.log.path.unlink()
    (log,) = journal._place.path.glob(f"run-{gone.id}/log")
    log.unlink()
    assert list(read(journal, logs)) == [other.id]
    assert f"run {gone.id} is forgotten: it did not begin, or its log is gone" in caplog.text
    assert list(journal.runs()) == [other.id]
