"""What a coordinator wrote down, the next one reads: as far as it came, and no more."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from handoff_lab.backends.kernels.site import Expected, Site
from handoff_lab.detached import journal as journal_module
from handoff_lab.detached.following import Scribe
from handoff_lab.detached.journal import Journal, Order
from handoff_lab.detached.place import Place
from handoff_lab.messages import Ended, Failure, FailureKind
from handoff_lab.scheduler.state import FinalFailure
from handoff_lab.transport.keys import KeyPair
from handoff_lab.transport.wire import WireError


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path / "night")
    place.path.mkdir(mode=0o700)
    return place


@pytest.fixture
def journal(place: Place) -> Journal:
    return Journal(place)


def failure(attempts: int) -> FinalFailure:
    return FinalFailure(attempts, 0, "alpha", Failure(FailureKind.EXCEPTION, "no", "ValueError", "tb", b"pickle"))


class State:
    """What a scribe needs of a run."""

    def __init__(self) -> None:
        self.id = "r"
        self.log = None
        self.end: Ended | None = None
        self.failures: dict[int, FinalFailure] = {}
        self.tell: Callable[[object], None]
        self.over: Callable[[], None]

    def subscribe(self, hear: Callable[[object], None]) -> None:
        self.tell = hear

    def when_over(self, over: Callable[[], None]) -> None:
        self.over = over


def test_failures_are_added_one_by_one_and_the_end_is_kept(place: Place, journal: Journal) -> None:
    state = State()
    Scribe(state, journal).begin()  # type: ignore[arg-type]
    journal.enter("r", Order(b"outline", b"options", b"parts", b"face"))
    sizes = []
    for i in (5, 3, 4):
        state.failures[i] = failure(i)
        state.tell(None)
        sizes.append((place.path / "run-r" / "failures").stat().st_size)
    assert sizes[1] - sizes[0] == sizes[2] - sizes[1] == sizes[0]  # nothing is written twice
    assert list(journal.failures("r").items()) == [(i, failure(i)) for i in (5, 3, 4)]
    state.end = Ended("r", "failed", 5, 5, "alpha", failure(5).failure, 0)
    state.over()
    assert journal.end("r") == state.end
    assert journal.order("r") == Order(b"outline", b"options", b"parts", b"face")


def test_a_failure_that_was_cut_off_is_left_out_and_the_next_scribe_mends_the_file(
    place: Place, journal: Journal
) -> None:
    journal.fail("r", [(1, failure(1)), (2, failure(2))], anew=True)
    file = place.path / "run-r" / "failures"
    file.write_bytes(file.read_bytes()[:-3])
    assert list(journal.failures("r")) == [1]
    state = State()
    state.failures = journal.failures("r")
    Scribe(state, journal).begin()  # type: ignore[arg-type]
    state.failures[7] = failure(7)
    state.tell(None)
    assert list(journal.failures("r")) == [1, 7]


def test_a_write_that_failed_is_made_good(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    state = State()
    Scribe(state, journal).begin()  # type: ignore[arg-type]
    state.failures[1] = failure(1)
    state.tell(None)
    with monkeypatch.context() as patch:
        patch.setattr(Place, "append", _full)
        state.failures[2] = failure(2)
        with pytest.raises(OSError, match="full"):
            state.tell(None)
    state.tell(None)
    assert list(journal.failures("r")) == [1, 2]


def test_damage_is_told(place: Place, journal: Journal) -> None:
    journal.enter("r", Order(b"", b"", b"", b""))
    place.append("run-r/failures", b"\x93\x01\x02\xc1")
    place.append("run-r/cancelled", b"\xa1x")
    for read in (journal.failures, journal.cancelled):
        with pytest.raises(WireError):
            read("r")


def test_what_was_to_be_cancelled_is_remembered_until_the_run_is_forgotten(journal: Journal) -> None:
    journal.enter("r", Order(b"", b"", b"", b""))
    journal.cancel("r", 3)
    journal.cancel("r", None)
    assert journal.cancelled("r") == [3, None]
    journal.drop("r")
    assert not journal.cancelled("r")
    with pytest.raises(FileNotFoundError):
        journal.cancel("r", 3)
    assert not list(journal.runs())


def test_the_keys_of_a_site_come_back(journal: Journal) -> None:
    expected = (Expected("key", 12.5, own=False), Expected("other", None, own=True))
    site = Site(3.0, KeyPair.generate(), KeyPair.generate(), 1234, Path("/run"), expected)
    journal.site = site
    assert journal.site == site


def test_a_full_disk_is_told_and_no_more(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Place, "write", _full)
    journal.nodes = {"alpha": ("host", 7)}
    journal.alone_since = 1.0
    assert caplog.text.count("could not be written: the disk is full") == 2
    assert journal_module.log.name in caplog.text


def test_since_when_nobody_is_there(journal: Journal) -> None:
    assert journal.alone_since is None
    now = time.monotonic()
    journal.alone_since = now
    assert journal.alone_since == now
    journal.alone_since = None
    assert journal.alone_since is None


def _full(*_: object) -> None:
    raise OSError("the disk is full")
