"""A store with a limit: what is over it goes to disk, is still read, and leaves nothing behind."""

from __future__ import annotations

import errno
import gc
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from handoff_lab.messages import AttemptId
from handoff_lab.store import spilling
from handoff_lab.store.payload import Frames
from handoff_lab.store.segments import Segment, SegmentMaker
from handoff_lab.store.spilling import SpillingStore, spill_directory

pytestmark = pytest.mark.usefixtures("brief_collections")

NBYTES = 800_000
LIMIT = 2_000_000  # two values and a bit


def open_descriptors() -> int:
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


def key(number: int) -> AttemptId:
    return AttemptId("run", number, 1)


def value(number: int) -> Frames:
    maker = SegmentMaker()
    frames = Frames(maker.share(Frames.dump(np.full(NBYTES // 8, float(number))).buffers))
    maker.release()
    return frames


def segment_of(frames: Frames | None) -> Segment:
    assert frames is not None
    segment = frames.parts[-1]
    assert isinstance(segment, Segment)
    return segment


class Place:
    """A store, and the calls that come to its thread."""

    def __init__(self, directory: Path, limit: int = LIMIT) -> None:
        self.calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.store = SpillingStore(limit, self.calls.put, directory)
        self.told = 0
        self.store.on_room(self._told)

    def call(self) -> None:
        self.calls.get(timeout=60)()

    def is_memory(self, number: int) -> bool:
        return segment_of(self.store.get(key(number))).is_memory

    def _told(self) -> None:
        self.told += 1


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    before = open_descriptors()
    place = Place(tmp_path)
    yield place
    place.store.close()
    place.store.free([key(number) for number in range(20)])
    while not place.calls.empty():
        place.call()
    assert open_descriptors() == before
    assert not list(tmp_path.iterdir())


def test_below_the_limit_all_stays_in_memory(place: Place) -> None:
    for number in range(2):
        place.store.put(key(number), value(number))
    assert place.is_memory(0)
    assert place.is_memory(1)
    assert not place.store.is_full


def test_over_the_limit_the_least_recently_used_goes(place: Place) -> None:
    for number in range(2):
        place.store.put(key(number), value(number))
    place.store.get(key(0))
    place.store.put(key(2), value(2))
    place.call()
    assert [place.is_memory(number) for number in range(3)] == [True, False, True]
    assert place.store.in_memory < LIMIT < place.store.nbytes


def test_what_is_on_disk_is_read_as_before(place: Place) -> None:
    for number in range(6):
        place.store.put(key(number), value(number))
    for _ in range(4):
        place.call()
    for number in range(6):
        array = place.store.get(key(number)).load()
        assert (array == number).all()
        assert not array.flags.writeable


def test_those_who_had_the_value_before_go_on_with_the_file(place: Place) -> None:
    held = value(0)
    place.store.put(key(0), held)
    array = held.load()
    fd = segment_of(held).fd
    for number in range(1, 4):
        place.store.put(key(number), value(number))
    for _ in range(2):
        place.call()
    assert segment_of(held).fd == fd
    assert not segment_of(held).is_memory
    assert (held.load() == array).all()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(fd, b"it is read-only")


def test_it_is_full_until_what_is_too_much_is_written(place: Place) -> None:
    for number in range(2):
        place.store.put(key(number), value(number))
    assert not place.store.is_full
    place.store.put(key(2), value(2))
    assert (place.store.is_full, place.told) == (True, 0)
    place.call()
    assert (place.store.is_full, place.told) == (False, 1)


def test_a_value_that_is_freed_on_its_way_makes_room(place: Place) -> None:
    for number in range(3):
        place.store.put(key(number), value(number))
    place.store.free([key(0)])
    assert (place.store.is_full, place.told) == (False, 1)
    place.call()
    assert (place.store.on_disk, len(place.store)) == (0, 2)


def test_counts_are_nothing_when_all_is_freed(place: Place) -> None:
    for number in range(5):
        place.store.put(key(number), value(number))
    for _ in range(3):
        place.call()
    place.store.free([key(number) for number in range(5)])
    assert (place.store.nbytes, place.store.on_disk, place.store.in_memory) == (0, 0, 0)


def test_counts_are_nothing_when_the_run_is_forgotten(place: Place) -> None:
    for number in range(5):
        place.store.put(key(number), value(number))
    for _ in range(2):
        place.call()
    place.store.forget(key(0).run)
    place.call()
    assert (place.store.nbytes, place.store.on_disk, place.store.in_memory, len(place.store)) == (0, 0, 0, 0)
    assert not place.store.is_full


def test_a_value_that_comes_on_disk_takes_no_memory(place: Place, tmp_path: Path) -> None:
    other = Place(tmp_path, limit=0)
    other.store.put(key(0), value(0))
    other.call()
    place.store.put(key(0), other.store.get(key(0)))
    assert place.store.on_disk == NBYTES
    assert place.store.in_memory < 1000
    other.store.close()


def test_a_value_that_comes_twice_counts_once(place: Place) -> None:
    for _ in range(5):
        place.store.put(key(0), value(0))
    assert place.store.in_memory < LIMIT


def test_without_a_disk_values_stay_in_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = Place(tmp_path / "nowhere")
    for number in range(4):
        place.store.put(key(number), value(number))
    for _ in range(2):
        place.call()
    assert place.is_memory(0)
    assert not place.store.is_full
    assert "stays in memory" in caplog.text
    place.store.close()


def test_small_values_stay_in_memory(place: Place) -> None:
    for number in range(10):
        place.store.put(key(number), Frames((bytes(LIMIT),)))
    assert not place.store.is_full
    assert place.calls.empty()


def test_the_place_is_that_of_temporary_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert spill_directory() == tmp_path
    monkeypatch.delenv("TMPDIR")
    assert os.access(spill_directory(), os.W_OK)


def test_what_is_shorter_than_it_says_stays_in_memory(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    short = segment_of(value(0))
    place.store.put(key(0), Frames((b"", Segment(os.dup(short.fd), [2 * LIMIT]))))
    place.call()
    assert place.is_memory(0)
    assert not place.store.is_full
    assert "shorter" in caplog.text
    caplog.clear()  # the error in it has the segment


# -- a disk that takes no more ----------------------------------------------------


@pytest.fixture
def stuck(tmp_path: Path) -> Iterator[Place]:
    """Two values in a store for one, and no disk."""
    place = Place(tmp_path / "disk", limit=1_000_000)
    for number in range(2):
        place.store.put(key(number), value(number))
    place.call()
    yield place
    place.store.close()
    while not place.calls.empty():
        place.call()


def test_it_is_told_once_where_nothing_goes(stuck: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(2, 5):
        stuck.store.put(key(number), value(number))
    assert stuck.calls.empty()
    (record,) = [*caplog.get_records("setup"), *caplog.records]
    assert f"nothing goes to {tmp_path / 'disk'}: [Errno 2]" in record.getMessage()
    assert all(stuck.is_memory(number) for number in range(5))


def test_there_is_no_place_for_more_than_the_limit_then(stuck: Place, tmp_path: Path) -> None:
    reason = stuck.store.refusal(value(2))
    assert "may hold 1 MB of results in memory" in reason
    assert str(tmp_path / "disk") in reason
    assert (stuck.store.is_stuck, stuck.store.is_full) == (True, False)
    stuck.store.free([key(0), key(1)])
    assert not stuck.store.refusal(value(2))


def test_what_is_on_disk_already_has_a_place(stuck: Place, tmp_path: Path) -> None:
    other = Place(tmp_path, limit=0)
    other.store.put(key(0), value(0))
    other.call()
    spilled = other.store.get(key(0))
    assert spilled is not None
    assert not stuck.store.refusal(spilled)
    other.store.close()


def test_where_no_thread_can_be_started_values_stay_until_one_can(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for number in range(3):
            place.store.put(key(number), value(number))
        place.call()
    assert "can't start new thread" in caplog.text
    assert all(place.is_memory(number) for number in range(3))
    later = time.monotonic() + spilling.RETRY_S
    monkeypatch.setattr(spilling.time, "monotonic", lambda: later)
    place.store.put(key(3), value(3))
    place.call()
    assert not place.is_memory(0)


def test_it_is_tried_again_after_a_while(stuck: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "disk").mkdir()
    assert stuck.store.refusal(value(2))
    assert stuck.calls.empty()
    later = time.monotonic() + spilling.RETRY_S
    monkeypatch.setattr(spilling.time, "monotonic", lambda: later)
    assert stuck.store.refusal(value(2))
    stuck.call()
    assert not stuck.store.is_stuck
    assert not stuck.store.refusal(value(2))
    assert not stuck.is_memory(0)


def test_it_is_tried_again_below_the_limit_too(stuck: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck.store.free([key(0)])
    (tmp_path / "disk").mkdir()
    later = time.monotonic() + spilling.RETRY_S
    monkeypatch.setattr(spilling.time, "monotonic", lambda: later)
    assert stuck.store.refusal(value(2))
    stuck.call()
    assert not stuck.store.refusal(value(2))


def test_a_disk_that_was_full_is_tried_again_as_soon_as_it_has_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    room = [NBYTES // 2]
    monkeypatch.setattr(spilling.shutil, "disk_usage", lambda _: SimpleNamespace(free=room[0]))
    with monkeypatch.context() as patch:
        patch.setattr(spilling.os, "sendfile", full)
        place = Place(tmp_path, limit=1_000_000)
        for number in range(2):
            place.store.put(key(number), value(number))
        place.call()
    soon = time.monotonic() + spilling.SOON_S
    monkeypatch.setattr(spilling.time, "monotonic", lambda: soon)
    assert "No space left" in place.store.refusal(value(2))
    assert place.calls.empty()
    room[0] = 2 * NBYTES
    assert place.store.refusal(value(2))
    place.call()
    assert not place.store.refusal(value(2))
    place.store.close()
    while not place.calls.empty():
        place.call()


def test_below_the_limit_nothing_is_refused(place: Place) -> None:
    assert not place.store.is_stuck
    assert not place.store.refusal(value(0))
