"""Who goes next: the most urgent of the run whose turn it is, of those that fit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from handoff_lab.messages import Attempt, AttemptId
from handoff_lab.node.queue import Queue
from handoff_lab.node.task import Claim, Task, claim_of, task_of

ONE, TWO = (("cpu", 1.0),), (("cpu", 2.0),)


def task(run: str, function: int, priority: float = 0.0, cpus: float = 1.0) -> Task:
    attempt = Attempt(
        AttemptId(run, function, 1), "beta", "f", ("f",), cost={"cpu": cpus}, priority=priority, granted=False
    )
    return task_of(attempt, ())


def taken(queue: Queue, fits=lambda claim: True) -> Task | None:
    line = queue.best(fits)
    if line is None:
        return None
    head = line.head()
    assert head is not None
    line.pop()
    queue.served(head[2].attempt.id.run)
    return head[2]


def order(queue: Queue) -> list[tuple[str, int]]:
    tasks = iter(lambda: taken(queue), None)
    return [(task.attempt.id.run, task.attempt.id.function) for task in tasks]


def test_runs_take_turns_and_each_keeps_its_order() -> None:
    queue = Queue()
    for number in range(4):
        queue.push(task("long", number, priority=number))
    for number in range(2):
        queue.push(task("short", number, priority=100 + number))
    expected = [("long", 0), ("short", 0), ("long", 1), ("short", 1), ("long", 2), ("long", 3)]
    assert order(queue) == expected


def test_what_does_not_fit_is_overtaken_and_comes_first_when_it_does() -> None:
    queue = Queue()
    large = task("run", 0, priority=0, cpus=2)
    small = [task("run", number, priority=number) for number in (1, 2)]
    for waiting in (large, *small):
        queue.push(waiting)
    assert taken(queue, lambda claim: claim == ONE) is small[0]
    assert taken(queue) is large
    assert taken(queue) is small[1]
    assert taken(queue) is None


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 3), st.booleans(), st.booleans()), max_size=30))
def test_each_task_comes_once_the_urgent_before_the_others(tasks: list[tuple[str, int, bool, bool]]) -> None:
    queue = Queue()
    kept: list[Task] = []
    for number, (run, priority, heavy, leaves) in enumerate(tasks):
        waiting = task(run, number, priority, 2.0 if heavy else 1.0)
        queue.push(waiting)
        if leaves:
            waiting.queued = False
        else:
            kept.append(waiting)
    came: dict[str, list[Task]] = {"a": [], "b": []}
    while (found := taken(queue)) is not None:
        came[found.attempt.id.run].append(found)
    for run, found_tasks in came.items():
        expected = [waiting for waiting in kept if waiting.attempt.id.run == run]
        assert found_tasks == sorted(expected, key=lambda waiting: (waiting.attempt.priority, waiting.number))


def test_a_task_that_is_queued_again_has_one_place() -> None:
    queue = Queue()
    first = task("run", 0, priority=5)
    queue.push(first)
    first.queued = False
    queue.push(first)
    assert taken(queue) is first
    assert taken(queue) is None


def test_what_is_granted_or_costs_nothing_claims_nothing() -> None:
    def claim(**options) -> Claim:
        return claim_of(Attempt(AttemptId("run", 0, 1), "beta", "f", ("f",), **options))

    assert claim(cost={"cpu": 1.0}) is None
    assert claim(granted=False) is None
    assert claim(cost={"cpu": 1.0}, granted=False) == ONE
