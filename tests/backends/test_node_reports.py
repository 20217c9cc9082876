"""What the backend takes of a node's events: only about itself, only what it was given, each end once."""

from __future__ import annotations

import msgpack
import pytest

from handoff_lab.backends.kernels.reports import Reports
from handoff_lab.messages import AttemptId, BackendEvent, Finished, FinishedMany, NodeChanged, TransferredMany
from handoff_lab.transport.rows import event_row
from handoff_lab.transport.wire import WireError, pack


def key(function: int) -> AttemptId:
    return AttemptId("run", function, 1)


def finished(*functions: int) -> FinishedMany:
    count = len(functions)
    values = [(b"%d" % function,) for function in functions]
    times = [1.0] * count
    return FinishedMany(
        "run", list(functions), [1] * count, times, times, [1] * count, values, [0] * count, [None] * count,
        [""] * count,
    )  # fmt: skip


@pytest.fixture
def reports() -> Reports:
    """Of node a, which has 0 to 2, and b, which has 3."""
    made = Reports()
    for function in range(4):
        made.expect(key(function), "a" if function < 3 else "b")
    return made


def take(reports: Reports, event: BackendEvent, node: str = "a") -> list[BackendEvent]:
    return reports.take(node, msgpack.unpackb(pack("events", [event_row(event)]))[1])


def test_columns_that_were_expected_pass_as_they_are(reports: Reports) -> None:
    assert take(reports, finished(0, 1, 2)) == [finished(0, 1, 2)]
    assert [reports.small(key(i)) for i in range(3)] == [(b"%d" % i,) for i in range(3)]
    reports.free([key(0), key(2)])
    assert [reports.small(key(i)) for i in range(3)] == [None, (b"1",), None]
    reports.forget_run("other")
    assert reports.small(key(1)) == (b"1",)
    reports.forget_run(key(1).run)
    assert reports.small(key(1)) is None


def test_of_columns_others_functions_and_second_ends_are_left_out(reports: Reports) -> None:
    assert take(reports, finished(1, 3, 1, 7, 0)) == [finished(1, 0)]
    assert [reports.small(key(i)) is not None for i in range(4)] == [True, True, False, False]
    assert take(reports, finished(0, 1)) == []
    assert take(reports, Finished(key(1), 1.0, 1.0)) == []
    assert take(reports, finished(3), "b") == [finished(3)]


@pytest.mark.parametrize(
    "event",
    [
        NodeChanged("b", {"cpu": 1.0}, 1),
        NodeChanged("a", {"cpu": -1.0}, 1),
        TransferredMany("run", "b", [3], [1], ["a"], [1], [1.0], [2.0]),
    ],
)
def test_what_a_node_cannot_say_is_no_message(reports: Reports, event: BackendEvent) -> None:
    with pytest.raises(WireError):
        take(reports, event)
