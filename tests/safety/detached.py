"""What a detached coordinator and its clients read: of each other, and of the journal that a killed one left."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

from handoff_lab.coordinator.verbs import SeenNode
from handoff_lab.detached.journal import Journal
from handoff_lab.detached.protocol import (
    FROM_CLIENT,
    TO_CLIENT,
    failure_rows,
    pack_parts,
    read_end,
    read_failure,
    read_failures,
    read_seen,
    seen_row,
    unpack_parts,
)
from handoff_lab.messages import AttemptId, Ended, Failure, FailureKind, NodeInfo, NodeLoad
from handoff_lab.resources import Resources
from handoff_lab.scheduler.state import FinalFailure
from handoff_lab.store.payload import Frames
from handoff_lab.transport.wire import WireError, dump, pack, unpack
from tests.safety.inputs import RAW, Decoder


def from_client(data: bytes) -> None:
    """As the desk reads it."""
    unpack(data, FROM_CLIENT)


def to_client(data: bytes) -> None:
    """As the client and its feeds read it."""
    kind, fields = unpack(data, TO_CLIENT)
    if kind == "failures":
        read_failures(fields[1])
    elif kind == "over":
        read_end(fields[1])
    elif kind == "reply":
        for read in (read_seen, read_failure):
            with contextlib.suppress(WireError):
                [*map(read, fields[1])]


def journal(data: bytes) -> None:
    """Each file of a run, as the next coordinator reads it."""
    found = Journal(SimpleNamespace(read=lambda name: data))  # type: ignore[arg-type]
    for read in (found.failures, found.cancelled, found.end):
        with contextlib.suppress(WireError):
            read("run")


FINAL = FinalFailure(2, 1, "alpha", Failure(FailureKind.DIED, "no", inputs="x=1"))
ENDED = Ended("run", "failed", 1, 2, "alpha", FINAL.failure, 1, 2.5)
NODE = NodeInfo("alpha", {"cpu": 2.0}, 2, "host", 7, {"python": "3"}, {"rack": "7"}, "/run/kernel.json")
SEEN = SeenNode(NODE, Resources({"cpu": 1.0}), False, 5.0, NodeLoad("alpha", 50.0, 10**9))
TO_CLIENT_SEEDS = (
    pack("refused", "why"),
    pack("reply", 1, [[seen_row(SEEN)]]),
    pack("reply", 1, [FINAL.failure]),
    pack("output", 1, b"{}"),
    pack("failures", 1, failure_rows([(1, FINAL), (2, FINAL)])),
    pack("news", 1, "[]\n", 1),
    pack("over", 1, ENDED),
)
JOURNAL_SEEDS = (b"".join(map(dump, failure_rows([(1, FINAL), (2, FINAL)]))), dump(3) + dump(None), dump(ENDED))
PARTS = pack_parts({"k1": b"code"}, {AttemptId("run", 1, 0): Frames((b"a", b"b"))})

DETACHED = {
    "from_client": Decoder(
        from_client, (WireError,), (pack("hello", 1, "1.0"), pack("call", 1, "add_node", ["beta", {"cpu": 1.0}]))
    ),
    "to_client": Decoder(to_client, (WireError,), TO_CLIENT_SEEDS),
    "parts": Decoder(lambda data: unpack_parts("run", data), (WireError,), (PARTS,)),
    "journal": Decoder(journal, (), JOURNAL_SEEDS, RAW),
}
