"""Segments between members of one host: handed over where that is possible, copied where not."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from handoff_lab.messages import AttemptId
from handoff_lab.store import Frames, segments
from handoff_lab.store.memory import MemoryStore
from handoff_lab.store.segments import Segment, SegmentMaker
from handoff_lab.transport import mailbox as mailbox_module
from handoff_lab.transport.keys import KeyPair
from handoff_lab.transport.mailbox import Mailbox
from handoff_lab.transport.peers import Member, Peers
from handoff_lab.transport.zap import Admission

pytestmark = pytest.mark.usefixtures("brief_collections")

KEY = AttemptId("run", 1, 1)
ARRAY = np.arange(100_000)


def open_descriptors() -> int:
    gc.collect()  # what earlier tests left
    return len(list(Path("/proc/self/fd").iterdir()))


def shared() -> Frames:
    maker = SegmentMaker()
    value = Frames(maker.share(Frames.dump(ARRAY).buffers))
    maker.release()
    return value


def inode(value: Frames) -> int:
    segment = value.parts[-1]
    assert isinstance(segment, Segment)
    return os.fstat(segment.fd).st_ino


class Place:
    """A member with a mailbox."""

    def __init__(self, pump, admission: Admission, name: str, directory: Path) -> None:
        self.store = MemoryStore()
        keys = KeyPair.generate()
        self.path = directory / name
        self.peers = Peers(pump.loop, keys, admission, self.store, "127.0.0.1")
        self.peers.open_mailbox(self.path)
        self.member = Member(name, keys.public, self.peers.endpoint)
        self.got: list[Frames | str] = []

    def read(self, holder: str, key: AttemptId = KEY) -> None:
        self.peers.read(holder, key, self.got.append)


@pytest.fixture
def places(pump, tmp_path: Path) -> Iterator[tuple[Place, Place]]:
    """Two who know each other; nothing of theirs stays behind."""
    admission = Admission(pump.loop)
    alpha, beta = (Place(pump, admission, name, tmp_path) for name in ("alpha", "beta"))
    alpha.peers.add(beta.member)
    beta.peers.add(alpha.member)
    yield alpha, beta
    alpha.peers.close()
    beta.peers.close()
    admission.close()
    assert not list(tmp_path.iterdir())


@pytest.fixture
def mailboxes(pump, tmp_path: Path) -> Iterator[tuple[Mailbox, Mailbox]]:
    one, other = (Mailbox(pump.loop, tmp_path / name) for name in ("one", "other"))
    yield one, other
    one.close()
    other.close()


def test_a_segment_is_handed_over(pump, places: tuple[Place, Place]) -> None:
    alpha, beta = places
    value = shared()
    beta.store.put(KEY, value)
    alpha.read("beta")
    pump.until(lambda: alpha.got)
    (got,) = alpha.got
    assert inode(got) == inode(value)
    assert got.nbytes == value.nbytes
    assert (got.load() == ARRAY).all()


def test_more_segments_than_a_mailbox_holds_at_once_all_come(pump, places: tuple[Place, Place]) -> None:
    alpha, beta = places
    values = {AttemptId("run", number, 1): shared() for number in range(60)}
    for key, value in values.items():
        beta.store.put(key, value)
        alpha.read("beta", key)
    pump.until(lambda: len(alpha.got) == len(values))
    assert {inode(got) for got in alpha.got} == {inode(value) for value in values.values()}


def test_descriptors_are_closed_when_the_values_are_freed(pump, places: tuple[Place, Place]) -> None:
    alpha, beta = places
    beta.store.put(KEY, Frames.dump(0))
    alpha.read("beta")
    pump.until(lambda: alpha.got)
    before = open_descriptors()
    key = AttemptId("run", 2, 1)
    beta.store.put(key, shared())
    alpha.read("beta", key)
    pump.until(lambda: len(alpha.got) == 2)
    alpha.got.clear()
    beta.store.free([key])
    assert open_descriptors() == before


@pytest.mark.parametrize("why", ["another host", "no such mailbox", "few descriptors"])
def test_where_it_cannot_be_handed_over_it_is_copied(
    pump, places: tuple[Place, Place], monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    alpha, beta = places
    beta.store.put(KEY, shared())
    if why == "another host":
        monkeypatch.setattr(alpha.peers._mailbox, "_host", "another")
    elif why == "no such mailbox":
        alpha.path.rename(alpha.path.with_name("moved"))
    else:
        monkeypatch.setattr(segments, "_SPARE", 1.0)
    alpha.read("beta")
    pump.until(lambda: alpha.got)
    (got,) = alpha.got
    assert not any(isinstance(part, Segment) for part in got.parts)
    assert (got.load() == ARRAY).all()
    if why == "no such mailbox":
        alpha.path.with_name("moved").rename(alpha.path)


def test_a_member_without_a_mailbox_goes_on_without(pump, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    admission = Admission(pump.loop)
    place = Place(pump, admission, "gamma", tmp_path / ("long" * 40))
    place.peers.close()
    admission.close()
    assert "will be copied" in caplog.text


def test_what_nobody_asked_for_is_closed(pump, mailboxes: tuple[Mailbox, Mailbox]) -> None:
    one, other = mailboxes
    address = one.expect(7)
    one.forget(7)
    segment = shared().parts[-1]
    assert isinstance(segment, Segment)
    before = open_descriptors()
    assert other.post(address, 7, segment)
    assert one.take(7, segment.sizes) is None
    assert open_descriptors() == before


def test_only_the_first_under_a_number_counts(pump, mailboxes: tuple[Mailbox, Mailbox]) -> None:
    one, other = mailboxes
    address = one.expect(7)
    first, second = shared(), shared()
    before = open_descriptors()
    for value in (first, second):
        segment = value.parts[-1]
        assert isinstance(segment, Segment)
        assert other.post(address, 7, segment)
    got = one.take(7, segment.sizes)
    assert got is not None
    assert os.fstat(got.fd).st_ino == inode(first)
    assert open_descriptors() == before + 1


@pytest.mark.parametrize("address", [[], ["here"], ["another host", "/path"], ["", "/path"]])
def test_addresses_that_are_none_are_not_posted_to(mailboxes: tuple[Mailbox, Mailbox], address: list[str]) -> None:
    segment = shared().parts[-1]
    assert isinstance(segment, Segment)
    assert not mailboxes[0].post(address, 1, segment)


def test_processes_of_one_host_agree_on_it() -> None:
    assert mailbox_module.host_id() == mailbox_module.host_id() != ""
