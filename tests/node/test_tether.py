"""What a node remembers for a coordinator that takes the place of another, and what that one makes of it."""

from __future__ import annotations

from typing import Any

import pytest

from handoff_lab.backends.kernels.returning import Returning
from handoff_lab.messages import (
    AttemptId,
    Cancelled,
    Failed,
    Failure,
    FailureKind,
    Finished,
    FinishedMany,
    NodeLoad,
    Started,
)
from handoff_lab.node import tether
from handoff_lab.node.joining import KeyRefusedError
from handoff_lab.node.tether import FAILURES, ROWS, Memory, Tether
from handoff_lab.transport.keys import JoinFile, KeyPair
from handoff_lab.transport.loop import Loop
from handoff_lab.transport.rows import event_row
from handoff_lab.transport.wire import FROM_NODE, TO_NODE, pack, unpack


def key(function: int) -> AttemptId:
    return AttemptId("r", function, 1)


def over_the_wire(*fields: Any) -> list[Any]:
    return unpack(pack("held", *fields), FROM_NODE)[1]


def test_a_node_remembers_what_runs_and_what_it_has() -> None:
    memory = Memory()
    for i in range(5):
        memory.note(Started(key(i), 1.0))
    memory.note(Finished(key(0), 1.0, 2.0, nbytes=9, inline=(b"value",), log="text"))
    memory.note(Failed(key(1), Failure(FailureKind.EXCEPTION, "no")))
    memory.note(Cancelled(key(2)))
    memory.note(FinishedMany("r", [3], [1], [1.0], [2.0], [7], [None], [0], [None], [""]))
    memory.note(NodeLoad("alpha", 1.0, 1))
    assert memory.started == {key(4): Started(key(4), 1.0)}
    assert memory.finished == {
        key(0): Finished(key(0), 1.0, 2.0, nbytes=9),
        key(3): Finished(key(3), 1.0, 2.0, nbytes=7),
    }
    (_, (first, *rest), _) = list(memory.messages([key(4), key(5)]))[-1]
    assert (first, rest) == (event_row(Started(key(4), 1.0)), [event_row(Started(key(5), 0.0))])
    memory.free([key(0), key(1)])
    assert list(memory.finished) == [key(3)]
    memory.note(Finished(AttemptId("other", 0, 1), 1.0, 2.0))
    memory.forget("r")
    assert list(memory.finished) == [AttemptId("other", 0, 1)]


def test_what_a_node_has_crosses_in_messages_of_bounded_size() -> None:
    memory = Memory()
    for i in range(ROWS + 1):
        memory.note(Finished(key(i), 1.0, 2.0))
    memory.note(Started(key(ROWS + 1), 1.0))
    returning = Returning(lambda node, message: None)
    returning.gathers = True
    told: list[bool] = []
    returning.told = lambda: told.append(True)
    messages = list(memory.messages())
    assert [len(finished) for finished, _, _ in messages] == [ROWS, 1, 0]
    for message in messages:
        assert not told
        returning.received("alpha", *over_the_wire(*message))
    assert told
    assert returning.held["alpha"].memory.finished == memory.finished
    assert returning.held["alpha"].memory.started == memory.started


def test_what_ends_while_others_are_waited_for_counts() -> None:
    returning = Returning(lambda node, message: None)
    returning.gathers = True
    returning.received("alpha", *over_the_wire([], [event_row(Started(key(0), 1.0))], 1))
    returning.note("alpha", over_the_wire([event_row(Finished(key(0), 1.0, 2.0))], [], 1)[0])
    assert list(returning.held["alpha"].memory.finished) == [key(0)]
    assert not returning.held["alpha"].memory.started
    returning.lost("alpha")
    assert not returning.held


@pytest.mark.parametrize("is_all", [0, 1])
def test_a_node_that_comes_too_late_keeps_nothing(is_all: int) -> None:
    sent: list[tuple[str, bytes]] = []
    returning = Returning(lambda node, message: sent.append((node, message)))
    returning.received("alpha", [event_row(Finished(key(0), 1.0, 2.0))], [], is_all)
    assert [(node, unpack(message, TO_NODE)) for node, message in sent] == [("alpha", ("keep", [[]]))] * is_all
    assert not returning.held


def test_a_node_remembers_what_failed_lately() -> None:
    memory, returning = Memory(), Returning(lambda node, message: None)
    returning.gathers = True
    failures = [Failed(key(i), Failure(FailureKind.EXCEPTION, "no"), 1.0, 2.0) for i in range(FAILURES + 1)]
    for failure in failures:
        memory.note(failure)
    for message in memory.messages():
        returning.received("alpha", *over_the_wire(*message))
    assert list(returning.held["alpha"].memory.failed.values()) == failures[1:]


@pytest.mark.parametrize("is_known", [True, False])
def test_where_the_join_file_has_another_key_by_now_a_node_is_known_by_its_own(
    monkeypatch: pytest.MonkeyPatch, is_known: bool
) -> None:
    file, own = JoinFile("tcp://127.0.0.1:1", KeyPair.generate().public, KeyPair.generate()), KeyPair.generate()
    shown: list[KeyPair] = []
    found: list[object] = []

    def join(loop: Loop, file: JoinFile, *others: object) -> str:
        shown.append(file.keys)
        if file.keys != own or not is_known:
            raise KeyRefusedError("it is not admitted")
        return "connection"

    monkeypatch.setattr(tether, "join", join)
    monkeypatch.setattr(Tether, "_probe", lambda self: None)
    loop = Loop()
    stopped: list[bool] = []
    monkeypatch.setattr(loop, "stop", lambda: stopped.append(True))
    Tether(loop, file, own, lambda: None, found.append, None).lost()  # type: ignore[arg-type, return-value]
    loop.close()
    assert shown == [file.keys, own]
    assert (found, stopped) == ((["connection"], []) if is_known else ([], [True]))


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (ConnectionRefusedError(), "nobody listens at tcp://"),
        (KeyRefusedError("no"), "lets it in no more: it was revoked"),
    ],
)
def test_a_node_that_may_not_come_back_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception, why: str
) -> None:
    def refuse(self: Tether) -> None:
        raise error

    monkeypatch.setattr(Tether, "_probe", refuse)
    own, loop = KeyPair.generate(), Loop()
    file = JoinFile("tcp://127.0.0.1:1", own.public, own, once=True)
    Tether(loop, file, own, lambda: None, lambda _: None, None).lost()  # type: ignore[arg-type, return-value]
    loop.close()
    assert why in caplog.text
