"""What crosses between a detached coordinator and its clients is read as it was written, or refused."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import pytest

import handoff_lab as hl
from handoff_lab.coordinator.verbs import SeenNode
from handoff_lab.detached.protocol import (
    TO_CLIENT,
    failure_rows,
    pack_error,
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
from handoff_lab.transport.wire import WireError, pack, unpack

FAILURE = Failure(FailureKind.TIMEOUT, "late", "TimeoutError", "tb", b"pickle", retryable=False, inputs="x=1")
SEEN = SeenNode(
    NodeInfo(
        "alpha", Resources({"cpu": 2}), 2, "host", 7, {"python": "3"}, {"rack": "7"}, "/k.json", keeps_ledger=True
    ),
    Resources({"cpu": 1}),
    draining=True,
    last_seen=5.0,
    load=NodeLoad("alpha", 50.0, 10**9),
)


def cross(kind: str, *fields: Any) -> list[Any]:
    return unpack(pack(kind, *fields), TO_CLIENT)[1]


def test_what_crosses_comes_back() -> None:
    failures = {3: FinalFailure(2, 1, None, FAILURE), 1: FinalFailure(1, 0, "alpha", FAILURE)}
    assert read_failures(cross("failures", 7, failure_rows(failures.items()))[1]) == failures
    for end in Ended("r", "done"), Ended("r", "failed", 3, 2, "alpha", FAILURE, 1, 2.5):
        assert read_end(cross("over", 7, end)[1]) == end
    for seen in SEEN, SEEN._replace(load=None):
        assert read_seen(cross("reply", 7, [seen_row(seen)])[1][0]) == seen
    assert read_failure(cross("reply", 7, [FAILURE])[1][0]) == FAILURE
    codes, values = {"k": b"code"}, {AttemptId("r", 1, 0): Frames((b"a", b"b"))}
    assert unpack_parts("r", pack_parts(codes, values)) == (codes, values)


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"\x90", b"\x92\x80\xc0", b"\x92\x81\xa1k\x01\x90", b"\x92\x80\x91\x90"]
)
def test_what_is_no_run_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        unpack_parts("r", data)


def test_every_error_reaches_the_client() -> None:
    class Strange(ValueError):
        """No pickle finds it again."""

    known = pickle.loads(pack_error(hl.BackendError("what it says")))
    assert type(known) is hl.BackendError
    assert str(known) == "what it says"
    for error in Strange("odd"), ValueError(threading.Lock()), KeyError("odd"):
        other = pickle.loads(pack_error(error))
        assert type(other) is hl.BackendError
        assert str(other).startswith(f"the detached coordinator failed: {type(error).__name__}: ")
