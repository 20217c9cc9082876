"""Functions that ended together travel as one event, in order, and nothing else is lost or moved before them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from handoff_lab.messages import (
    AttemptId,
    BackendEvent,
    Finished,
    FinishedMany,
    Started,
    Transferred,
    TransferredMany,
    Wrote,
)
from handoff_lab.node.outbox import Outbox
from handoff_lab.transport.loop import Loop
from handoff_lab.transport.rows import read_events
from handoff_lab.transport.wire import FROM_NODE, unpack


def sent(events: list[BackendEvent]) -> list[BackendEvent]:
    """What arrives when these events are told at once."""
    got: list[BackendEvent] = []
    loop = Loop()
    outbox = Outbox(loop, lambda data: got.extend(read_events(unpack(data, FROM_NODE)[1][0])), lambda: True)
    for event in events:
        outbox.add(event)
    outbox.flush()
    loop.close()
    return got


def single(event: FinishedMany) -> list[Finished]:
    columns = zip(
        event.functions, event.numbers, event.started, event.ended, event.nbytes, event.inline, event.slots,
        event.peak_memory, event.logs, strict=True,
    )  # fmt: skip
    return [Finished(AttemptId(event.run, function, number), *rest) for function, number, *rest in columns]


def finished(run: str, function: int) -> Finished:
    return Finished(AttemptId(run, function, 1), 1.5, 2.5, 3, (b"a", b"bc"), 1, None if function % 2 else 9, "log")


def test_what_began_and_ended_since_the_last_message_is_one_event() -> None:
    events: list[BackendEvent] = []
    for function in range(5):
        events += [Started(AttemptId("run", function, 1), 1.0), finished("run", function)]
    (together,) = sent(events)
    assert isinstance(together, FinishedMany)
    assert single(together) == [finished("run", function) for function in range(5)]


def test_a_start_whose_end_is_not_there_is_told_in_its_place() -> None:
    runs_on = Started(AttemptId("run", 9, 1), 1.0)
    one, two, three = (finished("run", function) for function in range(3))
    first, *rest = sent([one, two, runs_on, three])
    assert isinstance(first, FinishedMany)
    assert rest == [runs_on, three]


def copied(function: int, nbytes: int = 5) -> Transferred:
    return Transferred(AttemptId("run", function, 1), "alpha", "beta", nbytes, 1.0, 2.0)


def test_small_values_that_were_copied_are_one_event_large_ones_keep_their_place() -> None:
    events: list[BackendEvent] = [finished("run", 0), copied(1), copied(2, 10**6), copied(3), finished("run", 4)]
    first, *rest = sent(events)
    assert first == TransferredMany("run", "beta", [1, 3], [1, 1], ["alpha"] * 2, [5, 5], [1.0, 1.0], [2.0, 2.0])
    assert rest == [events[0], events[2], events[4]]
    assert sent([copied(1)]) == [copied(1)]


steps = st.tuples(st.sampled_from(["ab", "a", "b"]), st.integers(0, 99), st.sampled_from(["whole", "start", "text"]))


@given(st.lists(steps, max_size=30, unique_by=lambda step: step[:2]))
def test_all_that_ended_arrives_in_order_and_no_start_comes_before_an_end_it_followed(
    plan: list[tuple[str, int, str]],
) -> None:
    events: list[BackendEvent] = []
    for run, function, kind in plan:
        id = AttemptId(run, function, 1)
        if kind == "text":
            events.append(Wrote(id, "text"))
        else:
            events.append(Started(id, 1.0))
        if kind == "whole":
            events.append(finished(run, function))
    arrived: list[BackendEvent] = []
    for event in sent(events):
        arrived += single(event) if isinstance(event, FinishedMany) else [event]
    ended = {event.id for event in events if isinstance(event, Finished)}
    certain = [event for event in events if not (isinstance(event, Started) and event.id in ended)]
    assert [event for event in arrived if not (isinstance(event, Started) and event.id in ended)] == certain
    for event in arrived:
        if isinstance(event, Started) and event.id in ended:
            assert arrived.index(event) + 1 == arrived.index(finished(event.id.run, event.id.function))
