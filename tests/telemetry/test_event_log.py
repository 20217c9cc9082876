import enum
import json
import logging
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handoff_lab.resources import Resources
from handoff_lab.telemetry import Event, RunLog, RunRecord, log_directory, read_log
from handoff_lab.telemetry.encoding import Encoder, Opaque, parse_line

atoms = (
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(max_size=20)
)
ids = st.recursive(
    atoms,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=6,
)
values = st.recursive(
    ids,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ids | st.text(), inner, max_size=3),
    max_leaves=8,
)


def through(event):
    return parse_line(Encoder().line(event))


def replayed(events):
    """The events as a log has them."""
    encoder = Encoder()
    return [parse_line(encoder.line(event)) for event in events]


@given(st.dictionaries(st.text(), values, max_size=4), st.floats(allow_nan=False))
def test_any_metadata_and_numbers_come_back(metadata, number):
    event = Event(("handoff", "run"), 1.5, {"n": number}, metadata)
    assert through(event) == event


@given(st.text(st.characters(codec=None)), values)
def test_a_line_is_one_line_of_ascii(text, value):
    line = Encoder().line(Event(("x",), 0.0, {}, {text: value}))
    assert line.isascii()
    assert len(line.splitlines()) == 1


@given(st.lists(ids, min_size=1, max_size=5, unique=True))
def test_a_record_is_the_same_after_the_log(names):
    costs = {name: Resources({"cpu": 1}) for name in names}
    events = [
        Event(
            ("handoff", "run", "start"),
            0.0,
            {},
            {"run": "r", "dag": "d", "costs": costs, "allocations": dict.fromkeys(names, "alpha")},
        )
    ]
    for name in names:
        about = {"run": "r", "function": name, "node": "alpha", "attempt": 1, "slot": 0}
        events.append(Event(("handoff", "execution", "function", "start"), 1.0, {"started": 1.0}, about))
        numbers = {"started": 1.0, "ended": 2.0, "duration": 1.0, "nbytes": 3}
        events.append(Event(("handoff", "execution", "function", "stop"), 2.0, numbers, {**about, "log": "é\n"}))
    again = RunRecord.from_events(replayed(events))
    assert again == RunRecord.from_events(events)
    assert list(again.functions) == names


class Colour(enum.Enum):
    RED = 1


@dataclass(frozen=True)
class Point:
    x: int


class Nasty:
    def __repr__(self):
        raise RuntimeError("no")


def test_values_of_unknown_classes_come_back_as_themselves_only():
    nasty = Nasty()
    event, other = replayed([Event(("x",), 0.0, {}, {"a": value}) for value in (Point(1), Point(2))])
    assert repr(event.metadata["a"]) == "Point(x=1)"
    assert event.metadata["a"] != other.metadata["a"]
    same = replayed([Event(("x",), 0.0, {}, {"ids": {Point(1): Point(1), Colour.RED: nasty}})])[0].metadata["ids"]
    assert [key == value for key, value in same.items()] == [True, False]
    assert "Nasty object" in repr(same[next(key for key in same if repr(key) == "<Colour.RED: 1>")])


def test_equal_names_of_different_things_stay_different():
    @dataclass(frozen=True)
    class Twin:
        n: int

        def __repr__(self):
            return "twin"

    found = replayed([Event(("x",), 0.0, {}, {"ids": [Twin(1), Twin(2), Twin(1), {"unhashable": Twin(2)}]})])
    one, two, three, four = found[0].metadata["ids"]
    assert one == three != two
    assert four["unhashable"] == two
    assert isinstance(one, Opaque)


def test_numbers_of_numpy_become_plain():
    event = through(Event(("x",), 0.0, {"n": np.float64(0.5)}, {"id": (np.int64(3), np.str_("a"))}))
    assert event.measurements == {"n": 0.5}
    assert event.metadata == {"id": (3, "a")}


def test_a_key_that_looks_like_a_tag_is_not_taken_for_one():
    metadata = {"a": {"$tuple": [1]}, "$opaque": 2}
    assert through(Event(("x",), 0.0, {}, metadata)).metadata == metadata


# -- files ------------------------------------------------------------------------


def test_a_log_reads_back(tmp_path):
    events = [Event(("handoff", "run", "start"), 1.0, {"functions": 1}, {"run": "r"}), Event(("x",), 2.0)]
    with RunLog("r", tmp_path) as log:
        for event in events:
            log.write(event)
    assert list(read_log(log.path)) == events
    assert RunRecord.from_log(log.path).id == "r"


def test_only_the_user_may_read_a_log(tmp_path):
    with RunLog("r", tmp_path / "runs") as log:
        assert stat.S_IMODE(log.path.stat().st_mode) == 0o600
        assert stat.S_IMODE(log.path.parent.stat().st_mode) & 0o077 == 0


@pytest.mark.parametrize("run", ["../../etc/passwd", "a/b", "über", ".."])
def test_no_run_id_leads_out_of_the_directory(tmp_path, run):
    with RunLog(run, tmp_path) as log:
        assert log.path.parent == tmp_path
        assert [path.name for path in tmp_path.iterdir()] == [log.path.name]


def test_the_oldest_logs_go(tmp_path):
    (tmp_path / "notes.txt").touch()
    for number in range(5):
        with RunLog(f"r{number}", tmp_path, keep=3) as log:
            pass
        os.utime(log.path, (number, number))
    RunLog("last", tmp_path, keep=3).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.jsonl", "notes.txt", "r3.jsonl", "r4.jsonl"]


def test_the_log_of_a_run_that_goes_on_stays(tmp_path):
    with RunLog("long", tmp_path) as log:
        os.utime(log.path, (0, 0))
        for number in range(3):
            RunLog(f"r{number}", tmp_path, keep=1).close()
        assert log.path.exists()
    RunLog("last", tmp_path, keep=1).close()
    assert not log.path.exists()


def test_the_log_of_a_new_run_is_the_newest_whatever_the_clock_says(tmp_path):
    with RunLog("of tomorrow", tmp_path) as log:
        pass
    os.utime(log.path, (time.time() + 1e5, time.time() + 1e5))
    RunLog("now", tmp_path, keep=1).close()
    assert [path.name for path in tmp_path.iterdir()] == ["now.jsonl"]


def test_two_processes_may_prune_at_once(tmp_path, monkeypatch):
    RunLog("old", tmp_path).close()
    scandir = os.scandir

    def and_then_it_goes(directory):
        entries = list(scandir(directory))
        (tmp_path / "old.jsonl").unlink()
        return entries

    monkeypatch.setattr(os, "scandir", and_then_it_goes)
    with RunLog("new", tmp_path, keep=1) as log:
        log.write(Event(("a",), 1.0))
    assert [event.name for event in read_log(log.path)] == [("a",)]


def test_an_event_is_on_the_disk_while_the_run_goes_on(tmp_path):
    with RunLog("r", tmp_path) as log:
        for name in "ab":
            log.write(Event((name,), 10.0))
        log.flush()
        assert [event.name for event in read_log(log.path)] == [("a",), ("b",)]


def test_a_line_cut_off_by_a_crash_is_left_out(tmp_path):
    with RunLog("r", tmp_path) as log:
        log.write(Event(("a",), 1.0))
        log.write(Event(("b",), 1.0))
    log.path.write_bytes(log.path.read_bytes()[:-5])
    assert [event.name for event in read_log(log.path)] == [("a",)]


@pytest.mark.parametrize("line", ["nonsense", "[1]", '["a", 1, {}]', "{}", '[3, 1.0, {"$tuple": 1}, {}]'])
def test_a_damaged_line_is_named(tmp_path, line):
    with RunLog("r", tmp_path) as log:
        log.write(Event(("a",), 1.0))
    with log.path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=r"r\.jsonl, line 3: not an event"):
        list(read_log(log.path))


@pytest.mark.parametrize("text", ["", "hello\n", json.dumps({"handoff_lab_log": 99}) + "\n"])
def test_another_file_is_no_log(tmp_path, text):
    path = tmp_path / "x.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match="is no log of a run"):
        list(read_log(path))


def test_a_directory_that_cannot_be_written_costs_the_log_only(tmp_path, caplog):
    (tmp_path / "file").touch()
    with caplog.at_level(logging.WARNING):
        log = RunLog("r", tmp_path / "file" / "runs")
    log.write(Event(("a",), 1.0))
    log.close()
    assert "goes on without its log" in caplog.text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_full_disk_ends_the_log_with_one_warning(tmp_path, caplog):
    (tmp_path / "r.jsonl").symlink_to("/dev/full")
    log = RunLog("r", tmp_path)
    with caplog.at_level(logging.WARNING):
        for number in range(3):
            log.write(Event(("handoff", "run", "stop"), float(number)))
        log.close()
    assert len(caplog.records) == 1


def test_where_logs_lie(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert log_directory() == tmp_path / "handoff_lab" / "runs"
    monkeypatch.setenv("XDG_STATE_HOME", "relative/is/ignored")
    assert log_directory() == Path.home() / ".local/state/handoff_lab/runs"
    monkeypatch.delenv("XDG_STATE_HOME")
    assert log_directory() == Path.home() / ".local/state/handoff_lab/runs"
