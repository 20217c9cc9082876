"""Nodes in virtual time: what they report, and when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from handoff_lab.backends.base import Backend, Feature
from handoff_lab.backends.simulated import SimulatedBackend
from handoff_lab.messages import (
    HERE,
    Attempt,
    AttemptId,
    BackendEvent,
    Cancelled,
    Failed,
    Failure,
    FailureKind,
    Finished,
    NodeChanged,
    NodeJoined,
    NodeLost,
    ResultLost,
    Source,
    Started,
    Transferred,
)
from handoff_lab.store.payload import Live

A, B, C = (AttemptId("r", i, 1) for i in range(3))
NODES = {"n": {"cpu": 2}, "m": {"cpu": 1}}


class Watched:
    """A simulated backend and what it told, with the time."""

    def __init__(self, nodes: Any = None, **options: Any) -> None:
        self.backend = SimulatedBackend(NODES if nodes is None else nodes, **options)
        self.told: list[tuple[float, BackendEvent]] = []
        self.backend.open(None, self.hear)
        self.backend.step()
        self.told.clear()

    def hear(self, events: Sequence[BackendEvent]) -> None:
        self.told.extend((self.backend.now, event) for event in events)

    def run(self, *attempts: Attempt) -> list[tuple[float, BackendEvent]]:
        self.backend.submit(attempts)
        while self.backend.step():
            pass
        return self.told

    def of(self, kind: type) -> list[tuple[float, AttemptId]]:
        return [(time, event.id) for time, event in self.told if isinstance(event, kind)]  # type: ignore[union-attr]


def attempt(id: AttemptId, node: str = "n", *inputs: Source, **options: Any) -> Attempt:
    return Attempt(id, node, "f", (), inputs, **options)


def test_it_is_a_backend_that_can_do_everything() -> None:
    backend: Backend = SimulatedBackend({})
    assert backend.features == frozenset(Feature)


def test_nodes_are_announced() -> None:
    backend = SimulatedBackend({"n": {"cpu": 2.5}, "m": {"gpu": 1}})
    heard: list[BackendEvent] = []
    backend.open(None, heard.extend)
    backend.step()
    assert [event.info.slots for event in heard if isinstance(event, NodeJoined)] == [2, 1]
    assert list(backend.nodes()) == ["n", "m"]
    assert not backend.step()


def test_an_attempt_starts_and_finishes() -> None:
    watched = Watched(duration=3.0)
    assert watched.run(attempt(A)) == [(0.0, Started(A, 0.0)), (3.0, Finished(A, 0.0, 3.0))]
    assert watched.backend.results() == {A: "n"}


def test_the_same_attempt_twice_runs_once() -> None:
    watched = Watched()
    watched.run(attempt(A), attempt(A))
    watched.run(attempt(A))
    assert watched.of(Finished) == [(1.0, A)]


def test_a_node_runs_as_many_as_it_has_slots_the_most_urgent_first() -> None:
    watched = Watched()
    watched.run(*(attempt(id, "m", priority=priority) for id, priority in ((A, 3.0), (B, 1.0), (C, 2.0))))
    assert watched.of(Started) == [(0.0, B), (1.0, C), (2.0, A)]


class TestInputs:
    def test_an_attempt_waits_for_inputs_that_do_not_exist_yet(self) -> None:
        watched = Watched()
        watched.run(attempt(B, "n", Source(A, "n")), attempt(A))
        assert watched.of(Started) == [(0.0, A), (1.0, B)]

    def test_inputs_cross_between_nodes_in_latency_and_bytes(self) -> None:
        watched = Watched(bandwidth=10.0, latency=0.5, nbytes=lambda key, consumer: 20.0)
        watched.run(attempt(A), attempt(B, "m", Source(A, "n")))
        assert watched.of(Started) == [(0.0, A), (3.5, B)]
        assert (3.5, Transferred(A, "n", "m", 20, 1.0, 3.5)) in watched.told

    def test_what_was_sent_once_is_there(self) -> None:
        watched = Watched(latency=5.0)
        watched.run(attempt(A))
        watched.run(attempt(B, "m", Source(A, "n")))
        watched.run(attempt(C, "m", Source(A, "n")))
        assert sum(isinstance(event, Transferred) for _, event in watched.told) == 1

    def test_values_that_are_here_take_no_time(self) -> None:
        watched = Watched(latency=5.0)
        watched.run(attempt(A, "n", Source(AttemptId("r", 7, 0), HERE), Source(B, "m", inline=(b"x",))))
        assert watched.of(Started) == [(0.0, A)]


class TestFailure:
    def test_outcomes_are_scripted(self) -> None:
        failure = Failure(FailureKind.DIED, "SIGKILL")
        watched = Watched(outcome=lambda attempt: failure)
        assert watched.run(attempt(A))[-1] == (1.0, Failed(A, failure, 0.0, 1.0))
        assert watched.backend.results() == {}

    def test_a_timeout_ends_an_attempt(self) -> None:
        watched = Watched(duration=10.0)
        time, failed = watched.run(attempt(A, timeout_s=2.0))[-1]
        assert time == 2.0
        assert isinstance(failed, Failed)
        assert failed.failure.kind is FailureKind.TIMEOUT

    @pytest.mark.parametrize(("time", "event"), [(0.5, Cancelled(A, 0.0, 0.5)), (2.0, Finished(A, 0.0, 1.0))])
    def test_cancel_ends_what_has_not_ended(self, time: float, event: BackendEvent) -> None:
        watched = Watched()
        watched.backend.at(time, lambda: watched.backend.cancel(A, "interrupt"))
        assert watched.run(attempt(A))[-1][1] == event

    def test_a_cancelled_attempt_makes_room(self) -> None:
        watched = Watched(duration=9.0)
        watched.backend.at(1.0, lambda: watched.backend.cancel(A, "kill"))
        watched.backend.at(1.0, lambda: watched.backend.cancel(C, "kill"))
        watched.run(attempt(A, "m"), attempt(B, "m"), attempt(C, "m"))
        assert watched.of(Started) == [(0.0, A), (1.0, B)]
        assert watched.of(Cancelled) == [(1.0, A), (1.0, C)]

    def test_a_lost_node_ends_its_attempts_and_results(self) -> None:
        watched = Watched()
        watched.backend.at(1.5, lambda: watched.backend.lose_node("n", "SIGKILL"))
        watched.run(attempt(A), attempt(B, "n", Source(A, "n")), attempt(C, "m"))
        assert watched.told[-1] == (1.5, NodeLost("n", "SIGKILL"))
        assert watched.of(Finished) == [(1.0, A), (1.0, C)]
        assert watched.backend.results() == {C: "m"}
        watched.run(attempt(AttemptId("r", 9, 1), "n"))
        assert watched.told[-1] == (1.5, NodeLost("n", "SIGKILL"))

    def test_a_result_vanishes(self) -> None:
        watched = Watched()
        watched.run(attempt(A))
        watched.backend.lose_result(A)
        assert watched.run()[-1] == (1.0, ResultLost(A, "n"))
        assert watched.backend.results() == {}

    def test_a_node_vanishes_with_what_it_still_held(self) -> None:
        watched = Watched()
        watched.run(attempt(A), attempt(B, "m"), attempt(C))
        watched.backend.free([A])
        watched.backend.lose_node("n", "SIGKILL")
        assert watched.backend.results() == {B: "m"}


class TestNodes:
    def test_capabilities_change(self) -> None:
        watched = Watched(duration=4.0)
        watched.backend.at(1.0, lambda: watched.backend.set_capabilities("m", {"cpu": 2}))
        watched.run(attempt(A, "m"), attempt(B, "m"))
        assert (1.0, NodeChanged("m", {"cpu": 2}, 2)) in watched.told
        assert watched.of(Started) == [(0.0, A), (1.0, B)]

    def test_nodes_come_and_go(self) -> None:
        watched = Watched()
        watched.backend.add_node("k", {"cpu": 1}, {"zone": "a"})
        watched.run()
        assert isinstance(watched.told[-1][1], NodeJoined)
        assert watched.backend.nodes()["k"].labels == {"zone": "a"}
        watched.backend.remove_node("k")
        assert watched.run()[-1][1] == NodeLost("k", "it was removed", expected=True)


def test_news_of_one_node_stay_in_order_when_they_are_late() -> None:
    lags: list[float] = []
    watched = Watched(lag=lambda node: lags.pop(0) if lags else 0.0)
    lags[:] = [2.5]
    told = watched.run(attempt(A, "m"), attempt(B, "m"))
    assert told == [
        (2.5, Started(A, 0.0)), (2.5, Finished(A, 0.0, 1.0)), (2.5, Started(B, 1.0)), (2.5, Finished(B, 1.0, 2.0)),
    ]  # fmt: skip


def test_results_are_the_ids_of_their_attempts() -> None:
    watched = Watched()
    watched.run(attempt(A))
    replies: list[Any] = []
    watched.backend.get(A, "n", replies.append)
    watched.backend.free([A])
    watched.backend.get(A, "n", replies.append)
    assert replies[0] == Live(A)
    assert replies[1].kind is FailureKind.INPUT


def test_started_may_be_left_out() -> None:
    watched = Watched(started=False)
    assert watched.run(attempt(A)) == [(1.0, Finished(A, 0.0, 1.0))]


def test_close_leaves_nothing_to_happen() -> None:
    watched = Watched()
    watched.backend.submit([attempt(A)])
    watched.backend.close()
    assert not watched.backend.step()
    assert watched.backend.nodes() == {}
