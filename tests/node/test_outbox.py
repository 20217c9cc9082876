from collections.abc import Iterator

import pytest

from handoff_lab.messages import AttemptId, Failed, Failure, FailureKind, Finished, Started, Wrote
from handoff_lab.node import outbox
from handoff_lab.node.outbox import Outbox
from handoff_lab.transport.loop import Loop
from handoff_lab.transport.rows import read_events
from handoff_lab.transport.wire import FROM_NODE, unpack

ID = AttemptId("run", 1, 1)


class Post:
    """An outbox and what it sent."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.idle = False
        self.sent: list[list] = []
        self.outbox = Outbox(self.loop, self._send, lambda: self.idle)

    def _send(self, data: bytes) -> None:
        _, (rows,) = unpack(data, FROM_NODE)
        self.sent.append(read_events(rows))


@pytest.fixture
def post() -> Iterator[Post]:
    post = Post()
    yield post
    post.loop.close()


def test_what_comes_in_one_round_travels_together_and_in_order(post: Post) -> None:
    events = [Started(ID, float(number)) for number in range(5)]
    for event in events:
        post.outbox.add(event)
    assert post.sent == []
    post.loop.run_once()
    assert post.sent == [events]


def test_what_follows_closely_waits_while_there_is_more_to_come(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "INTERVAL_S", 0.3)  # on a busy machine the next round may be late
    post.outbox.add(Started(ID, 1.0))
    post.loop.run_once()
    post.outbox.add(Started(ID, 2.0))
    post.loop.run_once()
    assert len(post.sent) == 1
    post.loop.run_once()  # the timer
    assert len(post.sent) == 2


def test_nothing_waits_when_nothing_more_will_come(post: Post) -> None:
    post.outbox.add(Started(ID, 1.0))
    post.loop.run_once()
    post.idle = True
    post.outbox.add(Started(ID, 2.0))
    post.loop.run_once()
    assert len(post.sent) == 2


def test_a_batch_has_a_bounded_number_of_events(post: Post) -> None:
    for number in range(1300):
        post.outbox.add(Started(ID, float(number)))
    assert [len(batch) for batch in post.sent] == [512, 512]
    post.outbox.flush()
    assert [len(batch) for batch in post.sent] == [512, 512, 276]


@pytest.mark.parametrize(
    "event",
    [
        Wrote(ID, "x" * 2**20),
        Finished(ID, 0.0, 1.0, inline=(bytes(2**20),)),
        Finished(ID, 0.0, 1.0, log="x" * 2**20),
        Failed(ID, Failure(FailureKind.EXCEPTION, "no", exception=bytes(2**20))),
        Failed(ID, Failure(FailureKind.EXCEPTION, "no", traceback="x" * 2**20)),
        Failed(ID, Failure(FailureKind.EXCEPTION, "x" * 2**20)),
    ],
)
def test_a_large_event_is_sent_at_once(post: Post, event: Finished) -> None:
    post.outbox.add(Started(ID, 0.0))
    post.outbox.add(event)
    assert post.sent == [[Started(ID, 0.0), event]]


def test_flushing_nothing_sends_nothing(post: Post) -> None:
    post.outbox.flush()
    assert post.sent == []


@pytest.mark.parametrize("rounds", [0, 1])
def test_nothing_is_sent_after_its_end(post: Post, rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is closed by then, and the node may have another."""
    monkeypatch.setattr(outbox, "INTERVAL_S", 0.3)
    post.outbox.add(Started(ID, 1.0))
    post.loop.run_once()
    post.outbox.add(Started(ID, 2.0))
    for _ in range(rounds):  # after one it waits for its timer
        post.loop.run_once()
    post.outbox.close()
    post.loop.call_later(0.4, post.loop.stop)
    post.loop.run()
    assert post.sent == [[Started(ID, 1.0)]]
