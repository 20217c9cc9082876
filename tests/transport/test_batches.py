"""Many small values: they travel together, over the mailbox where there is one, and none is lost when it is full."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from handoff_lab.messages import AttemptId
from handoff_lab.store import Frames
from handoff_lab.store.memory import MemoryStore
from handoff_lab.transport.inbox import Inbox
from handoff_lab.transport.keys import KeyPair
from handoff_lab.transport.mailbox import LETTER_BYTES, Mailbox
from handoff_lab.transport.peers import BATCH_BYTES, SMALL, Member, Peers
from handoff_lab.transport.questions import SmallAnswers
from handoff_lab.transport.zap import Admission


def key(number: int) -> AttemptId:
    return AttemptId("run", number, 1)


def value(number: int) -> Frames:
    return Frames((b"value %d" % number,))


class Place:
    """A member that counts what it sends over its connections and into mailboxes."""

    def __init__(
        self, pump, admission: Admission, name: str, monkeypatch: pytest.MonkeyPatch, path: Path | None
    ) -> None:
        self.store = MemoryStore()
        keys = KeyPair.generate()
        self.peers = Peers(pump.loop, keys, admission, self.store, "127.0.0.1")
        self.member = Member(name, keys.public, self.peers.endpoint)
        self.got: dict[int, Frames | str] = {}
        self.requests = self.sent = self.delivered = 0
        self._count(monkeypatch, self.peers._inbox, "request", "requests")
        self._count(monkeypatch, self.peers._desk, "send", "sent")
        if path is not None:
            self.peers.open_mailbox(path)
            self._count(monkeypatch, self.peers._mailbox, "deliver", "delivered")

    def read(self, holder: str, number: int) -> None:
        self.peers.read(holder, key(number), lambda value: self.got.update({number: value}))

    def values(self) -> dict[int, object]:
        return {number: v.parts if isinstance(v, Frames) else v for number, v in self.got.items()}

    def _count(self, monkeypatch: pytest.MonkeyPatch, owner: object, method: str, counter: str) -> None:
        original = getattr(owner, method)

        def counted(*arguments: object) -> object:
            result = original(*arguments)
            setattr(self, counter, getattr(self, counter) + (result is not False))
            return result

        monkeypatch.setattr(owner, method, counted)


@pytest.fixture(params=["mailbox", "no mailbox"])
def places(
    pump, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[tuple[Place, Place]]:
    admission = Admission(pump.loop)
    paths = [tmp_path / name if request.param == "mailbox" else None for name in ("alpha", "beta")]
    alpha = Place(pump, admission, "alpha", monkeypatch, paths[0])
    beta = Place(pump, admission, "beta", monkeypatch, paths[1])
    alpha.peers.add(beta.member)
    beta.peers.add(alpha.member)
    yield alpha, beta
    alpha.peers.close()
    beta.peers.close()
    admission.close()


def test_what_comes_in_one_turn_travels_together(pump, places: tuple[Place, Place]) -> None:
    alpha, beta = places
    for number in range(100):
        alpha.read("beta", number)
        beta.store.put(key(number), value(number))
    pump.until(lambda: len(alpha.got) == 100)
    assert alpha.values() == {number: value(number).parts for number in range(100)}
    assert (alpha.requests, beta.sent + beta.delivered) == (1, 1)


def test_values_that_come_later_travel_when_they_come(pump, places: tuple[Place, Place]) -> None:
    alpha, beta = places
    for number in range(6):
        alpha.read("beta", number)
    for start in (0, 3):
        for number in range(start, start + 3):
            beta.store.put(key(number), value(number))
        pump.until(lambda end=start + 3: len(alpha.got) == end)
    assert beta.sent + beta.delivered == 2


def test_values_of_several_parts_and_none_at_all(pump, places: tuple[Place, Place]) -> None:
    alpha, beta = places
    beta.store.put(key(0), Frames((b"head", b"one", b"two")))
    beta.store.free([key(1)])
    for number in range(2):
        alpha.read("beta", number)
    pump.until(lambda: len(alpha.got) == 2)
    assert alpha.values() == {0: (b"head", b"one", b"two"), 1: "node 'beta' does not have it any more"}


def test_messages_are_bounded(pump, places: tuple[Place, Place]) -> None:
    alpha, beta = places
    for number in range(60):
        beta.store.put(key(number), Frames((bytes([number]) * SMALL,)))
        alpha.read("beta", number)
    pump.until(lambda: len(alpha.got) == 60)
    assert alpha.values() == {number: (bytes([number]) * SMALL,) for number in range(60)}
    assert beta.sent + beta.delivered >= 60 * SMALL / (BATCH_BYTES + SMALL)


def test_where_the_mailbox_is_full_nothing_is_lost(pump, places: tuple[Place, Place]) -> None:
    alpha, beta = places
    alpha.read("beta", -1)
    beta.store.put(key(-1), value(-1))
    pump.until(lambda: alpha.got)
    for number in range(200):
        alpha.read("beta", number)
    pump.until(lambda: len(beta.store._takers) == 200)
    for number in range(200):
        beta.store.put(key(number), value(number))
        beta.peers._deliver_all()  # alpha, on the same thread, takes nothing meanwhile
    pump.until(lambda: len(alpha.got) == 201)
    assert alpha.values() == {number: value(number).parts for number in range(-1, 200)}
    assert beta.sent > 100


def test_a_reader_that_was_removed_gets_nothing(pump, places: tuple[Place, Place]) -> None:
    alpha, beta = places
    alpha.read("beta", 0)
    alpha.read("beta", 1)
    beta.store.put(key(0), value(0))
    pump.until(lambda: alpha.got)
    beta.store.put(key(1), value(1))
    beta.peers.remove("alpha")
    pump.until(lambda: len(alpha.got) == 2)
    assert alpha.got[1] == "the connection to node 'beta' broke"


def test_reads_that_were_not_sent_yet_fail_with_their_holder(places: tuple[Place, Place]) -> None:
    alpha, _ = places
    alpha.read("beta", 0)
    alpha.peers.remove("beta")
    assert alpha.got == {0: "node 'beta' is gone"}


def test_what_was_delivered_counts_although_its_holder_ended(pump, places: tuple[Place, Place]) -> None:
    alpha, beta = places
    if alpha.peers._mailbox is None:
        pytest.skip("it is about mailboxes")
    alpha.read("beta", 0)
    pump.until(lambda: beta.store._takers)
    beta.store.put(key(0), value(0))
    beta.peers._deliver_all()
    alpha.peers.remove("beta")
    assert alpha.values() == {0: value(0).parts}


def test_letters_of_others_do_no_harm(pump, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    inbox = Inbox()
    inbox.mailbox = Mailbox(pump.loop, tmp_path / "box", inbox.take_letter)
    got: list[Frames | str] = []
    inbox.request([("beta", key(0), got.append)])
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        for letter in (b"", b"noise", SmallAnswers([1, 2], [(b"x",), None]).pack()):
            stranger.sendto(letter, str(tmp_path / "box"))
            inbox.mailbox.drain()
    assert not got
    assert caplog.text.count("a malformed answer in the mailbox was dropped") == 2
    inbox.mailbox.close()


def test_what_does_not_fit_into_a_mailbox_is_not_delivered(pump, tmp_path: Path) -> None:
    box = Mailbox(pump.loop, tmp_path / "box")
    address = box.expect(1)
    assert box.deliver(address, b"x")
    assert not box.deliver(address, bytes(LETTER_BYTES + 1))
    assert not box.deliver(["another host", address[1]], b"x")
    assert not box.deliver([address[0], str(tmp_path / "nobody")], b"x")
    assert not box.deliver([], b"x")
    box.close()
