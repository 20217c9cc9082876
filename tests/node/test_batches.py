"""What goes out together, and that everything runs once, from its own inputs, whatever fails on the way."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from handoff_lab.messages import (
    Attempt,
    AttemptId,
    BackendEvent,
    Cancelled,
    Failed,
    FailureKind,
    Finished,
    FinishedMany,
    Source,
    Started,
    Wrote,
)
from handoff_lab.node.channel import Message
from handoff_lab.node.fence import _MARKS
from handoff_lab.node.pool import SlotPool
from handoff_lab.node.room import Room
from handoff_lab.node.work import Work
from handoff_lab.node.zygote import Zygote
from handoff_lab.store.memory import MemoryStore
from handoff_lab.store.payload import Frames
from handoff_lab.transport.loop import Loop

pytestmark = pytest.mark.real

ONE = {"cpu": 1.0}
PATIENCE_S = 60.0


class Node:
    """Slots with all that is around them on a node but the network."""

    def __init__(self, slots: int, capabilities: dict[str, float]) -> None:
        self.slots = slots
        self.loop = Loop()
        self.zygote = Zygote.fork()
        self.store: MemoryStore[Frames] = MemoryStore()
        self.events: list[BackendEvent] = []
        self.full = False
        self.room = Room(capabilities, lambda: self.full)
        self.work = Work("beta", self.store, None, lambda attempt: self.pool, self.tell)  # type: ignore[arg-type]
        self.pool = SlotPool(self.loop, self.zygote, self.work, slots, print, self.room, self.work)

    def tell(self, event: BackendEvent) -> None:
        """Remember an event; those in columns one by one, with the starts that they stand for."""
        if not isinstance(event, FinishedMany):
            self.events.append(event)
            return
        begun = {told.id for told in self.events if isinstance(told, Started)}
        for one in event.each():
            self.events += [one] if one.id in begun else [Started(one.id, one.started, one.slot), one]

    def load(self, **codes: Callable[..., Any]) -> None:
        self.pool.load({name: cloudpickle.dumps(code, protocol=5) for name, code in codes.items()})

    def learn(self, *names: str) -> None:
        """Let it see that these functions are brief, whatever else this machine does."""
        for name in names:
            while not self.pool._durations.brief(name) or not self.pool._durations.known(name):
                run = f"learn{len(self.events)}"
                self.submit(run, [(name, [])])
                self.run(run, 1)

    def submit(self, run: str, functions: list[tuple[str, list[int]]], **options: Any) -> list[AttemptId]:
        """Submit functions by name of code and numbers of those whose results they take."""
        attempts = []
        for number, (code, parents) in enumerate(functions):
            sources = tuple([Source(AttemptId(run, parent, 1), "beta") for parent in parents])
            id = AttemptId(run, number, 1)
            attempts.append(
                Attempt(id, "beta", f"{code}{number}", (code,), sources, None, ONE, float(number), granted=False)
            )
        for attempt in attempts:
            for name, value in options.items():
                setattr(attempt, name, value)
        self.work.submit(attempts)
        return [attempt.id for attempt in attempts]

    def run(self, run: str, count: int) -> list[BackendEvent]:
        """Let the loop go until so many functions of a run have ended."""
        self.until(lambda: len(self.ended(run)) >= count)
        return self.ended(run)

    def until(self, condition: Callable[[], Any]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not condition():
            timer = self.loop.call_later(1.0, lambda: None)
            self.loop.run_once()
            timer.cancel()
            assert time.monotonic() < end, "it did not happen in time"

    def ended(self, run: str) -> list[Any]:
        kinds = (Finished, Failed, Cancelled)
        return [event for event in self.events if isinstance(event, kinds) and event.id.run == run]

    def value(self, id: AttemptId) -> Any:
        value = self.store.get(id)
        assert value is not None
        return value.load()

    def close(self) -> None:
        self.pool.close()
        self.zygote.close()
        self.loop.close()


@pytest.fixture(params=[1, 2])
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    node = Node(request.param, {"cpu": float(request.param)})
    yield node
    node.close()


@pytest.fixture
def small() -> Iterator[Node]:
    """One slot too many for its one cpu."""
    node = Node(2, {"cpu": 1.0})
    yield node
    node.close()


def grow(*lists: list[int]) -> list[int]:
    return [len(lists), *(number for numbers in lists for number in numbers)]


def messages_of(node: Node) -> list[int]:
    """The sizes of the batches that go out from now on, as they go."""
    sizes: list[int] = []
    send = node.pool._send

    def spy(worker: Any, batch: Any) -> None:
        sizes.append(len(batch))
        send(worker, batch)

    node.pool._send = spy  # type: ignore[method-assign]
    return sizes


def test_a_chain_of_brief_functions_travels_in_few_messages(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handoff_lab.node.rounds.BATCH_S", 600.0)  # nothing is taken back, and sent again
    node.load(grow=grow)
    node.learn("grow")
    sizes = messages_of(node)
    ids = node.submit("run", [("grow", [number - 1] if number else []) for number in range(200)])
    node.run("run", 200)
    assert node.value(ids[-1]) == [1] * 199 + [0]
    assert len(sizes) < 100  # some 10 where nothing else runs
    assert sum(sizes) == 200


def test_what_is_on_its_way_to_a_slot_can_be_marked_one_by_one(node: Node) -> None:
    node.load(grow=grow)
    node.learn("grow")
    for run in ("one", "two"):  # which take turns: a slot gets of both
        node.submit(run, [("grow", [])] * _MARKS)
    worker = next(iter(node.pool._workers.values()))
    first = node.pool._batches.take(worker, 1)
    worker.tasks |= {task.number: task for task in first}
    both = [*first, *node.pool._batches.take(worker, 1)]
    assert {task.attempt.id.run for task in both} == {"one", "two"}
    assert len({task.number % _MARKS for task in both}) == len(both)


def test_a_slot_gets_no_more_before_it_has_skipped_what_was_taken_back(node: Node) -> None:
    node.load(grow=grow)
    node.learn("grow")
    node.pool._durations.add("grow", 1e-6)
    node.submit("run", [("grow", [])] * 3 * _MARKS)
    worker, batches = next(iter(node.pool._workers.values())), node.pool._batches
    worker.tasks |= {task.number: task for task in batches.take(worker, 1)}
    worker.tasks |= {task.number: task for task in batches.take(worker, 1)}
    latest = max(worker.tasks)
    worker.tasks.clear()
    batches.release(worker)
    assert latest > _MARKS / 2
    assert not batches.take(worker, 1)
    node.pool._take_rows(worker, [[number, 0.0, 0.0, 0] for number in range(1, latest + 1)], [])
    assert batches.take(worker, 1)


def test_nobody_shares_what_can_change(node: Node) -> None:
    def spoil(numbers: list[int]) -> list[int]:
        numbers.append(99)
        return numbers

    node.load(grow=grow, spoil=spoil)
    node.learn("grow")
    node.submit("first", [("grow", []), ("spoil", [0])])
    node.run("first", 2)
    ids = node.submit("run", [("grow", []), ("spoil", [0]), ("spoil", [0]), ("grow", [0])])
    node.run("run", 4)
    assert [node.value(id) for id in ids] == [[0], [0, 99], [0, 99], [1, 0]]


@pytest.mark.parametrize("seed", range(3))
def test_random_graphs_give_what_they_should(node: Node, seed: int) -> None:
    dice = random.Random(seed)
    parents = [sorted(dice.sample(range(n), k=min(n, dice.randrange(4)))) for n in range(300)]
    node.load(count=lambda *values: 1 + sum(values) % 1009)
    node.learn("count")
    ids = node.submit("run", [("count", numbers) for numbers in parents])
    node.run("run", 300)
    expected: list[int] = []
    for numbers in parents:
        expected.append(1 + sum(expected[number] for number in numbers) % 1009)
    assert [node.value(id) for id in ids] == expected
    finished = [event.id for event in node.ended("run")]
    place = {id: at for at, id in enumerate(finished)}
    assert len(place) == 300
    assert all(place[ids[parent]] < place[ids[n]] for n in range(300) for parent in parents[n])


def test_those_behind_a_failure_are_given_back_and_fail_for_lack_of_input(node: Node) -> None:
    def fail_at(*lists: list[int]) -> list[int]:
        if lists and len(lists[0]) == 5:
            raise ValueError("five")
        return [0, *(number for numbers in lists for number in numbers)]

    node.load(fail_at=fail_at)
    node.learn("fail_at")
    node.submit("run", [("fail_at", [number - 1] if number else []) for number in range(12)])
    ends = node.run("run", 12)
    assert [type(end) for end in ends].count(Finished) == 5
    failures = {end.id.function: end.failure for end in ends if isinstance(end, Failed)}
    assert failures.pop(5).kind is FailureKind.EXCEPTION
    assert {failure.kind for failure in failures.values()} == {FailureKind.INPUT}
    assert node.work.is_idle


def test_those_behind_one_that_dies_survive_it(node: Node) -> None:
    def die(numbers: list[int]) -> None:
        import os

        os._exit(3)

    node.load(grow=grow, die=die)
    node.learn("grow")
    node.submit("run", [("grow", []), ("grow", [0]), ("die", [1]), ("grow", [0]), ("grow", [3])])
    ends = {end.id.function: end for end in node.run("run", 5)}
    assert {n for n, end in ends.items() if isinstance(end, Finished)} == {0, 1, 3, 4}
    assert ends[2].failure.kind is FailureKind.DIED


def test_a_long_one_in_a_chain_lets_those_before_it_out(node: Node) -> None:
    def nap(seconds: float = 0.0) -> None:
        import time

        time.sleep(seconds)

    def minute(*values: float) -> float:
        return 60.0

    node.load(nap=nap, minute=minute)
    node.learn("nap", "minute")
    ids = node.submit("run", [("minute", []), ("nap", [0]), ("minute", [1]), ("minute", [0])])
    node.until(lambda: any(isinstance(event, Started) and event.id == ids[1] for event in node.events))
    elsewhere = [ids[3]] if node.slots == 2 else []
    node.until(lambda: {end.id for end in node.ended("run")} == {ids[0], *elsewhere})
    node.work.cancel(ids[2], "interrupt")
    node.work.cancel(ids[1], "interrupt")
    node.run("run", 4)
    assert node.work.is_idle


def test_a_slot_that_ended_with_its_last_task_may_say_more(node: Node) -> None:
    node.load(grow=grow)
    node.learn("grow")
    worker = next(iter(node.pool._workers.values()))
    node.pool.resize(0)
    assert worker.closed
    worker._on_message(Message(["done", [[1, 0.0, 0.0, 0]]], [], []))
    assert node.pool.pids == []


# -- room ------------------------------------------------------------------------


def overlaps(ends: list[Any]) -> int:
    """How many ran at the same time at most."""
    edges = sorted([(end.started, 1) for end in ends] + [(end.ended, -1) for end in ends])
    running = most = 0
    for _, step in edges:
        running += step
        most = max(most, running)
    return most


def meeting_in(folder: Path) -> Callable[[], None]:
    """A function that ends when two of it run."""

    def meet() -> None:
        (folder / str(os.getpid())).touch()
        while len(list(folder.iterdir())) < 2:
            time.sleep(0.005)

    return meet


def test_no_more_run_at_once_than_there_is_room_for(small: Node, tmp_path: Path) -> None:
    small.load(sleep=lambda: time.sleep(0.02), meet=meeting_in(tmp_path))
    small.submit("run", [("sleep", [])] * 6)
    assert overlaps(small.run("run", 6)) == 1
    small.room.resize({"cpu": 2.0})
    small.submit("wider", [("meet", [])] * 2)
    small.run("wider", 2)
    small.submit("more", [("sleep", [])] * 6)
    assert overlaps(small.run("more", 6)) <= 2


def test_what_was_granted_is_not_held_back(small: Node, tmp_path: Path) -> None:
    small.load(sleep=lambda: time.sleep(0.02), meet=meeting_in(tmp_path))
    small.room.resize({"cpu": 0.0})
    small.submit("waits", [("sleep", [])])
    small.submit("granted", [("meet", [])] * 2, granted=True)
    small.run("granted", 2)
    assert small.ended("waits") == []
    small.room.resize({"cpu": 1.0})
    small.run("waits", 1)


def test_nothing_starts_while_the_store_is_full(small: Node) -> None:
    small.load(grow=grow)
    small.until(lambda: len(small.pool.pids) == 2)
    small.full = True
    small.submit("run", [("grow", [])])
    for _ in range(2):
        small.loop.call_soon(lambda: None)
        small.loop.run_once()
    assert small.events == []
    small.full = False
    small.room.tell()
    small.run("run", 1)


def test_two_runs_share_a_slot(small: Node) -> None:
    small.load(sleep=lambda: __import__("time").sleep(0.002))
    small.submit("long", [("sleep", [])] * 60)
    small.submit("short", [("sleep", [])] * 5)
    small.run("short", 5)
    assert len(small.ended("long")) < 40  # all 60, were they not to share


# -- recalling -------------------------------------------------------------------


def test_a_recall_ends_what_waits_and_leaves_what_runs(small: Node, tmp_path: Path) -> None:
    go_on = tmp_path / "go on"

    def speak() -> None:
        print("I run", flush=True)  # noqa: T201
        while not go_on.exists():
            time.sleep(0.005)

    small.load(speak=speak)
    ids = small.submit("run", [("speak", [])] * 3)
    small.until(lambda: any(isinstance(event, Wrote) for event in small.events))
    for id in ids:
        small.work.cancel(id, "recall")
    go_on.touch()
    ends = small.run("run", 3)
    assert [type(end) for end in ends] == [Cancelled, Cancelled, Finished]
    assert ends[2].id == ids[0]


def test_a_recall_of_a_batch_leaves_each_with_one_end(node: Node) -> None:
    node.load(sleep=lambda *values: __import__("time").sleep(0.0002))
    node.learn("sleep")
    ids = node.submit("run", [("sleep", [number - 1] if number % 7 else []) for number in range(600)])
    node.until(lambda: len(node.ended("run")) > 5)
    for id in ids[100:]:
        node.work.cancel(id, "recall")
    ends = node.run("run", 600)
    assert len({end.id for end in ends}) == len(ends) == 600
    assert {type(end) for end in ends if end.id.function < 100} == {Finished}
    assert any(type(end) is Cancelled for end in ends)


# -- code --------------------------------------------------------------------------


def test_code_that_was_unloaded_is_gone_and_can_come_again(small: Node) -> None:
    small.load(code=lambda: "old")
    (old,) = small.submit("old", [("code", [])])
    small.run("old", 1)
    small.pool.unload(["code", "never heard of"])
    (without,) = small.submit("without", [("code", [])])
    assert [end.failure.kind for end in small.run("without", 1)] == [FailureKind.CODE]
    small.load(code=lambda: "new")
    (new,) = small.submit("new", [("code", [])])
    small.run("new", 1)
    assert [small.value(old), small.value(new)] == ["old", "new"]
    assert small.store.get(without) is None
