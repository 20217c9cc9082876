"""Which small values go to a node with the attempts that need them."""

from __future__ import annotations

import msgpack
import pytest

from handoff_lab.backends.kernels.reports import Reports
from handoff_lab.backends.kernels.sending import Sending
from handoff_lab.messages import Attempt, AttemptId, FinishedMany, Source
from handoff_lab.store.memory import MemoryStore
from handoff_lab.store.payload import Frames
from handoff_lab.transport.rows import event_row, read_attempts
from handoff_lab.transport.wire import pack


class Hub:
    """Takes what is sent."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, node: str, message: bytes) -> None:
        self.sent.append(message)


def made(run: str, function: int) -> AttemptId:
    return AttemptId(run, function, 1)


@pytest.mark.parametrize(
    ("sources", "given"),
    [
        ([Source(made("run", 0), "here")], [None]),
        ([Source(made("run", 0), "here"), Source(made("run", 1), "there")], [(b"0",), (b"1",)]),
        ([Source(made("run", 1), "there")], [(b"1",)]),
        # The node may have begun anew since that run: who says that its value is there may not know yet.
        ([Source(made("before", 0), "here")], [(b"0",)]),
    ],
)
def test_small_values_go_along_where_the_node_may_lack_them(
    sources: list[Source], given: list[tuple[bytes, ...] | None]
) -> None:
    reports, hub = Reports(), Hub()
    for source in sources:
        reports.expect(source.key, source.node)
        run, function, number = source.key
        event = FinishedMany(
            run, [function], [number], [1.0], [1.0], [1], [(b"%d" % function,)], [0], [None], [""]
        )  # fmt: skip
        reports.take(source.node, msgpack.unpackb(pack("events", [event_row(event)]))[1])
    sending = Sending(None, hub, None, reports, MemoryStore[Frames]())  # type: ignore[arg-type]
    sending.meet_node("here")
    sending.submit([Attempt(made("run", 7), "here", "f", (), tuple(sources))], {"here"})
    (attempt,) = read_attempts(msgpack.unpackb(hub.sent[-1])[1], "here")
    assert [source.inline for source in attempt.inputs] == given
