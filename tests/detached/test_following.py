"""What a client hears of a run: its past, what is new, what failed, and the end; then nothing is kept for it."""

from __future__ import annotations

from typing import Any

import pytest

from handoff_lab.coordinator.state import RunState
from handoff_lab.detached.feed import Feed
from handoff_lab.detached.following import Follower
from handoff_lab.detached.protocol import TO_CLIENT
from handoff_lab.messages import Ended, Failure, FailureKind
from handoff_lab.scheduler.state import FinalFailure
from handoff_lab.telemetry.events import FUNCTION_EXCEPTION, FUNCTION_START, RUN_START, Event
from handoff_lab.telemetry.record import RunRecord
from handoff_lab.transport.wire import pack, unpack


def run() -> RunState:
    nothing: Any = None
    return RunState("r", nothing, nothing, nothing, RunRecord(), logged_elsewhere=True)


def event(name: tuple[str, ...], **facts: object) -> Event:
    return Event(name, 1.0, {"started": 1.0}, {"run": "r", "function": "f", "attempt": 1, "node": "alpha", **facts})


@pytest.mark.parametrize("moment", range(4))
def test_a_feed_becomes_what_the_coordinator_has_whenever_it_begins(moment: int) -> None:
    ours, theirs = run(), run()
    failure = FinalFailure(1, 0, "alpha", Failure(FailureKind.EXCEPTION, "no"))
    feed = Feed(theirs)
    over: list[Follower] = []

    def tell(kind: str, *fields: object) -> None:
        assert fields[0] == 7
        feed.take(kind, *unpack(pack(kind, *fields), TO_CLIENT)[1][1:])

    def fail() -> None:
        failures[0] = failure
        ours.apply(event(FUNCTION_EXCEPTION, kind="exception", error="no"))

    ours.failures = failures = {}
    follower = Follower(ours, 7, tell, over.append)
    for number, step in enumerate(
        (
            lambda: ours.apply(Event(RUN_START, 1.0, {}, {"run": "r", "dag": "d", "costs": {"f": {}}})),
            lambda: ours.apply(event(FUNCTION_START)),
            fail,
            lambda: ours.finish(Ended("r", "failed", 0, 1, "alpha", failure.failure)),
        )
    ):
        if number == moment:
            follower.begin(0)
        step()
    assert list(theirs.record.events) == list(ours.record.events)
    assert (theirs.failures, theirs.end) == (ours.failures, ours.end)
    assert over == [follower]
