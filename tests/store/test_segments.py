"""Segments: what is written is read, nothing that is read is written again, and no descriptor stays."""

from __future__ import annotations

import errno
import gc
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handoff_lab.store import segments
from handoff_lab.store.payload import Frames
from handoff_lab.store.segments import KEPT, KEPT_BYTES, SHARED_FROM, Draft, Segment, SegmentMaker, is_crowded

pytestmark = pytest.mark.usefixtures("brief_collections")

LARGE = bytes(range(256)) * (SHARED_FROM // 256)


def open_descriptors() -> int:
    gc.collect()  # what earlier tests left
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def maker() -> Iterator[SegmentMaker]:
    before = open_descriptors()
    maker = SegmentMaker()
    yield maker
    maker.release()
    assert open_descriptors() == before


def segment_of(maker: SegmentMaker, *buffers: bytes) -> Segment:
    _, segment = maker.share([b"head", *buffers])
    assert isinstance(segment, Segment)
    return segment


def inode(segment: Segment) -> int:
    return os.fstat(segment.fd).st_ino


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_what_is_written_is_read(more: list[bytes]) -> None:
    maker = SegmentMaker()
    parts = maker.share([b"head", *more, LARGE])
    maker.release()
    assert [bytes(buffer) for buffer in Frames(parts).buffers] == [b"head", *more, LARGE]
    assert Frames(parts).nbytes == 4 + sum(map(len, more)) + len(LARGE)


def test_an_array_is_loaded_over_the_segment_and_cannot_be_written(maker: SegmentMaker) -> None:
    frames = Frames(maker.share(Frames.dump(np.arange(100_000)).buffers))
    one, other = frames.load(), frames.load()
    del frames
    assert (one == np.arange(100_000)).all()
    assert not one.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        other[0] = 1


def test_small_values_stay_as_they_are(maker: SegmentMaker) -> None:
    parts = (b"head", LARGE[:-1])
    assert maker.share(parts) == parts
    assert maker.is_empty


def test_a_segment_is_used_again_once_nobody_reads_it(maker: SegmentMaker) -> None:
    first = segment_of(maker, LARGE)
    used = inode(first)
    assert inode(segment_of(maker, LARGE)) != used  # open
    (data,) = first.buffers()
    del first
    assert inode(segment_of(maker, LARGE)) != used  # mapped
    assert data == LARGE
    data.release()
    again = {inode(segment_of(maker, LARGE)) for _ in range(3)}
    assert used in again


def test_a_segment_that_another_process_maps_is_left_alone(maker: SegmentMaker) -> None:
    segment = segment_of(maker, LARGE)
    used = inode(segment)
    (data,) = segment.buffers()
    asked, told = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(asked[0], 1)
        os.write(told[1], bytes(data[:3]))
        os._exit(0)
    del segment
    data.release()
    assert inode(segment_of(maker, b"x" * SHARED_FROM)) != used
    os.write(asked[1], b"!")
    assert os.read(told[0], 3) == LARGE[:3]
    os.waitpid(pid, 0)
    kept = [segment_of(maker, LARGE) for _ in range(2)]
    assert used in map(inode, kept)
    for fd in (*asked, *told):
        os.close(fd)


def test_what_is_kept_is_bounded(maker: SegmentMaker) -> None:
    before = open_descriptors()
    values = [segment_of(maker, LARGE) for _ in range(KEPT + 5)]
    assert open_descriptors() - before == KEPT + len(values)
    values.clear()
    assert open_descriptors() - before == KEPT


def test_what_is_larger_than_all_that_may_be_kept_is_not_kept(
    maker: SegmentMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert KEPT_BYTES > 0
    monkeypatch.setattr(segments, "KEPT_BYTES", len(LARGE) - 1)
    assert bytes(segment_of(maker, LARGE).buffers()[0]) == LARGE
    assert maker.is_empty


def test_a_reader_keeps_its_data_when_the_maker_keeps_nothing(maker: SegmentMaker) -> None:
    segment = segment_of(maker, LARGE)
    maker.release()
    assert bytes(segment.buffers()[0]) == LARGE


def test_when_descriptors_are_short_values_are_bytes(maker: SegmentMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    value = Frames((b"head", segment_of(maker, LARGE)))
    assert value.settled() is value
    monkeypatch.setattr(segments, "_SPARE", 1.0)
    assert is_crowded()
    assert maker.share([b"head", LARGE]) == (b"head", LARGE)
    assert not any(isinstance(part, Segment) for part in value.settled().parts)
    assert value.settled().buffers == value.buffers == [b"head", LARGE]


def test_without_memory_of_this_kind_values_are_bytes(maker: SegmentMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError

    monkeypatch.setattr(os, "memfd_create", refuse)
    assert maker.share([b"head", LARGE]) == (b"head", LARGE)


def test_a_large_pickle_goes_to_the_segment_too(maker: SegmentMaker) -> None:
    value = [LARGE, np.arange(10)]
    (segment,) = maker.share(Frames.dump(value).buffers)
    assert isinstance(segment, Segment)
    loaded = Frames((segment,)).load()
    assert loaded[0] == LARGE
    assert (loaded[1] == value[1]).all()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.ENOMEM])
def test_when_memory_runs_out_that_is_told(maker: SegmentMaker, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    before = open_descriptors()

    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pwrite", refuse)
    with pytest.raises(OSError, match=os.strerror(number)):
        maker.share([b"head", LARGE])
    assert open_descriptors() == before


def test_a_piece_ends_with_its_buffer(maker: SegmentMaker) -> None:
    segment = segment_of(maker, LARGE, b"the next")
    assert segment.piece(0, 5, 7) == LARGE[5:12]
    assert segment.piece(0, len(LARGE) - 2, 7) == LARGE[-2:]
    assert segment.piece(0, len(LARGE), 7) == b""
    assert segment.piece(1, 0, 70) == b"the next"


def test_a_draft_that_cannot_be_made_has_nothing_to_close(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(size: int) -> int:
        raise OSError(errno.ENOMEM, "no memory")

    monkeypatch.setattr(segments, "_new_memory", refuse)
    with pytest.raises(OSError, match="no memory"):
        Draft([5])  # an error while it goes would fail this test
