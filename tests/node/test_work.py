"""A node's attempts: when each starts, what is fetched, and what becomes of those whose inputs do not come."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from handoff_lab.messages import (
    HERE,
    Attempt,
    AttemptId,
    Cancelled,
    Failed,
    Failure,
    FailureKind,
    Finished,
    FinishedMany,
    ResultLost,
    Source,
    Transferred,
)
from handoff_lab.node.work import Work
from handoff_lab.store.memory import MemoryStore
from handoff_lab.store.payload import Frames
from handoff_lab.transport.rows import event_row, read_events
from handoff_lab.transport.wire import FROM_NODE, pack, unpack


class Peers:
    """Other nodes that were asked and have not answered yet."""

    def __init__(self) -> None:
        self.asked: dict[AttemptId, tuple[str, Callable[[Frames | str], None]]] = {}

    def read(self, node: str, key: AttemptId, arrived: Callable[[Frames | str], None]) -> None:
        assert key not in self.asked, "asked for twice"
        self.asked[key] = node, arrived

    def answer(self, key: AttemptId, value: Frames | str) -> None:
        self.asked.pop(key)[1](value)


class Runner:
    """Notes what it is given."""

    def __init__(self) -> None:
        self.given: dict[AttemptId, Sequence[Frames]] = {}
        self.cancelled: list[tuple[AttemptId, str]] = []

    def run(self, attempt: Attempt, inputs: Sequence[Frames]) -> None:
        self.given[attempt.id] = inputs

    def cancel(self, id: AttemptId, how: str) -> None:
        self.cancelled.append((id, how))


class Node:
    """Work with nothing real around it."""

    def __init__(self) -> None:
        self.store: MemoryStore[Frames] = MemoryStore()
        self.peers = Peers()
        self.runner = Runner()
        self.told: list = []
        self.work = Work("beta", self.store, self.peers, lambda attempt: self.runner, self.told.append)  # type: ignore[arg-type]

    def submit(self, function: int, *sources: Source) -> AttemptId:
        id = key(function)
        self.work.submit([Attempt(id, "beta", f"f{function}", ("f",), sources)])
        return id

    def finish(self, id: AttemptId, value: object = None) -> None:
        frames = frames_of(value)
        self.work.finished(Finished(id, 1.0, 2.0, frames.nbytes, frames.parts), frames)  # type: ignore[arg-type]

    def values(self, id: AttemptId) -> list[object]:
        return [value.load() for value in self.runner.given[id]]

    def only_failure(self) -> Failure:
        (event,) = [event for event in self.told if isinstance(event, Failed)]
        return event.failure


def key(function: int) -> AttemptId:
    return AttemptId("run", function, 1)


def here(function: int) -> Source:
    return Source(key(function), "beta")


def frames_of(value: object) -> Frames:
    return Frames((pickle.dumps(value),))


@pytest.fixture
def node() -> Node:
    return Node()


def test_an_attempt_starts_when_its_last_input_is_there(node: Node) -> None:
    first, second = node.submit(1), node.submit(2)
    both = node.submit(3, here(2), here(1), here(2))
    node.finish(first, "one")
    assert both not in node.runner.given
    node.finish(second, "two")
    assert node.values(both) == ["two", "one", "two"]


def test_inputs_come_with_the_attempt_from_here_or_from_another_node_once(node: Node) -> None:
    inline = Source(key(1), "", (pickle.dumps("given"),))
    far = Source(key(2), "alpha")
    ids = [node.submit(number, inline, far) for number in (10, 11)]
    assert list(node.peers.asked) == [key(2)]
    node.peers.answer(key(2), frames_of("fetched"))
    assert [node.values(id) for id in ids] == [["given", "fetched"]] * 2
    (moved,) = node.told
    assert isinstance(moved, Transferred)
    assert (moved.key, moved.source, moved.target) == (key(2), "alpha", "beta")
    assert node.values(node.submit(12, far)) == ["fetched"]


def test_a_value_that_is_lost_fails_all_who_wait_for_it(node: Node) -> None:
    ids = [node.submit(number, Source(key(1), "alpha")) for number in (10, 11)]
    node.peers.answer(key(1), "it burnt down")
    assert node.told[0] == ResultLost(key(1), "alpha")
    failures = [event for event in node.told[1:] if isinstance(event, Failed)]
    assert [event.id for event in failures] == ids
    assert all(event.failure.kind is FailureKind.INPUT for event in failures)
    assert "it burnt down" in failures[0].failure.message
    assert node.runner.given == {}


def test_what_the_coordinators_process_holds_is_not_lost_when_it_cannot_be_fetched(node: Node) -> None:
    id = node.submit(10, Source(key(1), HERE))
    node.peers.answer(key(1), "the connection broke")
    assert "the connection broke" in node.only_failure().message
    assert [type(event) for event in node.told] == [Failed]
    assert id not in node.runner.given


def test_one_who_fails_fails_those_who_wait_and_those_who_come_later(node: Node) -> None:
    first = node.submit(1)
    waiting = node.submit(2, here(1))
    node.work.failed(Failed(first, Failure(FailureKind.EXCEPTION, "no")))
    late = node.submit(3, here(1))
    assert [event.id for event in node.told] == [waiting, first, late]


def test_a_value_that_is_freed_before_it_is_there_fails_those_who_wait(node: Node) -> None:
    node.submit(1)
    node.submit(2, here(1))
    node.work.free([key(1)])
    assert node.only_failure().kind is FailureKind.INPUT


def test_what_waits_is_cancelled_at_once_and_what_runs_through_its_runner(node: Node) -> None:
    running, waiting = node.submit(1), node.submit(2, here(1))
    node.work.cancel(waiting, "recall")
    assert node.told == [Cancelled(waiting)]
    node.work.cancel(running, "recall")
    assert node.runner.cancelled == [(running, "recall")]
    node.finish(running)
    assert waiting not in node.runner.given
    node.work.cancel(running, "kill")
    assert len(node.runner.cancelled) == 1


def test_what_is_known_is_not_run_twice(node: Node) -> None:
    first = node.submit(1)
    node.finish(first)
    node.submit(2, here(5))
    node.runner.given.clear()
    node.submit(1)
    node.submit(2, here(5))
    node.finish(key(5))
    assert list(node.runner.given) == [key(2)]


def test_it_is_idle_when_nothing_runs_or_waits(node: Node) -> None:
    assert node.work.is_idle
    first, second = node.submit(1), node.submit(2, here(1))
    node.finish(first)
    assert not node.work.is_idle
    node.finish(second)
    assert node.work.is_idle


# -- what goes along with those that make its inputs ------------------------------


def test_followers_are_those_that_wait_for_nothing_else(node: Node) -> None:
    node.submit(1)
    node.submit(2)
    node.store.put(key(3), frames_of("there"))
    node.submit(10, here(1), here(3))
    node.submit(11, here(1), here(2))
    node.submit(12, here(1), Source(key(4), "alpha"))
    made = {key(1): 71}
    (found,) = node.work.followers(key(1), made, 9)
    assert found[0].id == key(10)
    assert found[1][0] == 71
    assert isinstance(found[1][1], Frames)
    made[key(2)] = 72
    ((attempt, inputs),) = node.work.followers(key(2), made, 9)
    assert (attempt.id, inputs) == (key(11), [71, 72])
    node.submit(13, here(1))
    assert len(node.work.followers(key(1), {key(1): 71}, 9)) == 2
    assert len(node.work.followers(key(1), {key(1): 71}, 1)) == 1
    node.work.lend(key(10))
    node.work.cancel(key(13), "interrupt")
    assert node.work.followers(key(1), {key(1): 71}, 9) == []


def test_an_input_named_twice_is_one_promise_for_each_time(node: Node) -> None:
    node.submit(1)
    node.submit(10, here(1), here(1))
    ((attempt, inputs),) = node.work.followers(key(1), {key(1): 71}, 9)
    assert (attempt.id, inputs) == (key(10), [71, 71])


def test_what_was_lent_is_not_started_a_second_time(node: Node) -> None:
    first, second = node.submit(1), node.submit(2, here(1))
    node.work.lend(second)
    node.finish(first)
    assert second not in node.runner.given
    node.finish(second)
    assert [type(event) for event in node.told] == [Finished, Finished]
    assert node.work.is_idle


def test_what_comes_back_starts_when_its_inputs_are_there(node: Node) -> None:
    first, second = node.submit(1), node.submit(2, here(1))
    node.work.lend(second)
    node.work.returned(second)
    node.finish(first, "one")
    assert node.values(second) == ["one"]

    third = node.submit(3, here(4))
    node.work.lend(third)
    node.finish(key(4), "four")
    node.work.returned(third)
    assert node.values(third) == ["four"]


def test_what_comes_back_because_its_input_failed_fails_then(node: Node) -> None:
    first, second = node.submit(1), node.submit(2, here(1))
    node.work.lend(second)
    node.work.failed(Failed(first, Failure(FailureKind.EXCEPTION, "no")))
    assert [event.id for event in node.told] == [first]
    node.work.returned(second)
    assert [event.id for event in node.told] == [first, second]
    assert node.told[1].failure.kind is FailureKind.INPUT


def test_what_was_lent_is_cancelled_where_it_is(node: Node) -> None:
    node.submit(1)
    second = node.submit(2, here(1))
    node.work.lend(second)
    node.work.cancel(second, "interrupt")
    assert node.runner.cancelled == [(second, "interrupt")]
    node.work.cancelled(Cancelled(second))
    assert node.told == [Cancelled(second)]


# -- what is told ----------------------------------------------------------------


def test_a_chain_longer_than_the_stack_fails_link_by_link(node: Node) -> None:
    first = node.submit(0)
    chain = [node.submit(number, here(number - 1)) for number in range(1, 1500)]
    node.work.failed(Failed(first, Failure(FailureKind.EXCEPTION, "no")))
    assert {event.id for event in node.told} == {first, *chain}
    assert len(node.told) == 1500
    assert node.work.is_idle


def test_texts_that_utf8_has_not_are_told_all_the_same(node: Node) -> None:
    texts = "no such file: \udcff", "Error\udc80", "Traceback \ud800", b"", False, "path=\udcff"
    node.work.failed(Failed(node.submit(1), Failure(FailureKind.EXCEPTION, *texts)))
    failure = node.only_failure()
    assert failure.message == "no such file: \\udcff"
    told = unpack(pack("events", [event_row(event) for event in node.told]), FROM_NODE)
    assert read_events(told[1][0]) == node.told


class TightStore(MemoryStore[Frames]):
    """A store that is full, or has no place, when it is told so."""

    is_full = False  # type: ignore[assignment]
    is_stuck = False  # type: ignore[assignment]

    def refusal(self, value: Frames) -> str:
        return "the disk is full" if self.is_stuck else ""


@pytest.fixture
def tight(monkeypatch: pytest.MonkeyPatch) -> Node:
    monkeypatch.setitem(globals(), "MemoryStore", TightStore)
    return Node()


LARGE = frames_of(bytes(100_000))


def test_nothing_is_fetched_while_the_store_is_full(tight: Node) -> None:
    tight.store.is_full = True  # type: ignore[misc]
    id, cancelled = tight.submit(10, Source(key(1), "alpha")), tight.submit(11, Source(key(2), "alpha"))
    tight.work.cancel(cancelled, "interrupt")
    assert not tight.peers.asked
    tight.store.is_full = False  # type: ignore[misc]
    tight.work.fetch_more()
    tight.peers.answer(key(1), LARGE)
    assert tight.values(id) == [bytes(100_000)]
    tight.work.fetch_more()
    assert key(1) not in tight.peers.asked


@pytest.mark.parametrize("verb", ["free", "forget"])
def test_nothing_is_fetched_into_the_room_that_freeing_it_made(
    tight: Node, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    gone: Any = [key(1)] if verb == "free" else "run"
    release = getattr(tight.store, verb)

    def make_room(what: Any) -> None:
        release(what)
        tight.store.is_full = False  # type: ignore[misc]
        tight.work.fetch_more()

    tight.store.is_full = True  # type: ignore[misc]
    waiting, cancelled = tight.submit(10, Source(key(1), "alpha")), tight.submit(11, Source(key(1), "alpha"))
    tight.work.cancel(cancelled, "interrupt")
    monkeypatch.setattr(tight.store, verb, make_room)
    getattr(tight.work, verb)(gone)
    assert not tight.peers.asked
    assert [type(event) for event in tight.told if event.id == waiting] == [Failed]


def test_a_result_without_a_place_fails_its_function_and_who_waits_for_it(tight: Node) -> None:
    first = tight.submit(1)
    waiting = tight.submit(2, here(1))
    tight.store.is_stuck = True  # type: ignore[misc]
    tight.work.finished(Finished(first, 1.0, 2.0, LARGE.nbytes), LARGE)
    told = {event.id: event.failure for event in tight.told}
    assert (told[first].kind, told[first].retryable) == (FailureKind.RESULT, True)
    assert "no place for its result of 100 kB: the disk is full" in told[first].message
    assert told[waiting].kind is FailureKind.INPUT
    assert not len(tight.store)


def test_of_many_results_those_without_a_place_fail_alone(tight: Node) -> None:
    small, large = tight.submit(1), tight.submit(2)
    tight.store.is_stuck = True  # type: ignore[misc]
    frames = [frames_of("small"), LARGE]
    event = FinishedMany(
        "run", [1, 2], [1, 1], [1.0, 1.0], [2.0, 2.0], [frames[0].nbytes, LARGE.nbytes], [frames[0].parts, None],  # type: ignore[list-item]
        [0, 0], [None, None], ["", ""],
    )  # fmt: skip
    tight.work.finished_many(event, [small, large], frames)
    assert [type(event) for event in tight.told] == [Finished, Failed]
    assert small in tight.store
    assert tight.work.is_idle


def test_a_value_that_is_fetched_but_has_no_place_is_not_lost_where_it_was(tight: Node) -> None:
    id = tight.submit(10, Source(key(1), "alpha"))
    tight.store.is_stuck = True  # type: ignore[misc]
    tight.peers.answer(key(1), LARGE)
    (failed,) = tight.told
    assert (failed.id, failed.failure.kind) == (id, FailureKind.INPUT)
    assert "the disk is full" in failed.failure.message
