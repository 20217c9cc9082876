"""Messages between a detached coordinator and its clients: what they are, and how what they carry is written.

The first frame is a message as in ``transport.wire``; what is large or opaque follows in frames of its own. The socket
is in a directory that only its user can enter. A client is as trusted as its user: it may hand over a pickled policy.
The coordinator unpickles that and the outline of a run, and nothing else.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgpack  # type: ignore[import-untyped]

from handoff_lab._errors import BackendError, HandoffError
from handoff_lab.coordinator.verbs import SeenNode
from handoff_lab.messages import AttemptId, Ended, Failure, FailureKind, NodeInfo, NodeLoad
from handoff_lab.resources import Resources
from handoff_lab.scheduler.state import FinalFailure
from handoff_lab.store.payload import Frames
from handoff_lab.transport.sockets import Heartbeat
from handoff_lab.transport.wire import Schema

VERSION = 1
HEARTBEAT = Heartbeat(every_s=1.0, timeout_s=5.0)

FROM_CLIENT: Schema = {
    "hello": (int, str),  # version of these messages, and of handoff_lab
    "call": (int, str, list),  # number, verb, arguments
}
TO_CLIENT: Schema = {
    "welcome": (),
    "refused": (str,),
    "reply": (int, list),  # number of the call, and what it returned, alone in a list
    "value": (int,),  # number of the call; the value's frames follow
    "error": (int,),  # number of the call; the pickled error follows
    "output": (int, bytes),  # number of the call, a message of a kernel as JSON
    # Of a run, to who called "begin" or "follow" under that number:
    "failures": (int, list),  # of functions: [function, ...] each
    "news": (int, str, int),  # lines of its log, and whether it happens now
    "over": (int, list),  # its end
}


def failure_row(failure: Failure | None) -> list[Any] | None:
    """A failure as a list."""
    return None if failure is None else [getattr(failure, name) for name in Failure.__slots__]


def read_failure(row: Sequence[Any] | None) -> Failure | None:
    """A failure from its row."""
    if row is None:
        return None
    kind, *rest = row
    return Failure(FailureKind(kind), *rest)


def failure_rows(failures: Iterable[tuple[int, FinalFailure]]) -> list[Any]:
    """Final failures, by the numbers of functions."""
    return [[i, f.attempts, f.deaths, f.node, failure_row(f.failure)] for i, f in failures]


def read_failures(rows: Iterable[Sequence[Any]]) -> dict[int, FinalFailure]:
    """Final failures from their rows."""
    found = {}
    for i, attempts, deaths, node, row in rows:
        failure = read_failure(row)
        assert failure is not None
        found[i] = FinalFailure(attempts, deaths, node, failure)
    return found


def end_row(end: Ended) -> list[Any]:
    """The end of a run as a list."""
    return [
        end.run, end.status, end.function, end.attempts, end.node, failure_row(end.failure), end.deaths, end.timeout_s,
    ]  # fmt: skip


def read_end(row: Sequence[Any]) -> Ended:
    """The end of a run from its row."""
    run, status, function, attempts, node, failure, deaths, timeout_s = row
    return Ended(run, status, function, attempts, node, read_failure(failure), deaths, timeout_s)


def seen_row(seen: SeenNode) -> list[Any]:
    """A node as a list."""
    info = [getattr(seen.info, name) for name in NodeInfo.__slots__]
    info[1] = dict(seen.info.capabilities)
    load = None if seen.load is None else [seen.load.cpu_percent, seen.load.memory]
    return [info, dict(seen.used), seen.draining, seen.last_seen, load]


def read_seen(row: Sequence[Any]) -> SeenNode:
    """A node from its row."""
    facts, used, draining, last_seen, load = row
    info = NodeInfo(*facts)
    return SeenNode(info, Resources(used), draining, last_seen, None if load is None else NodeLoad(info.name, *load))


def pack_parts(codes: Mapping[str, bytes], values: Mapping[AttemptId, Frames]) -> bytes:
    """The code and the given values of a run."""
    rows = [[key.function, key.number, [bytes(part) for part in value.buffers]] for key, value in values.items()]
    packed: bytes = msgpack.packb([codes, rows])
    return packed


def unpack_parts(run: str, data: bytes) -> tuple[dict[str, bytes], dict[AttemptId, Frames]]:
    """Code and values from ``pack_parts``."""
    codes, rows = msgpack.unpackb(data)
    return codes, {AttemptId(run, function, number): Frames(tuple(parts)) for function, number, parts in rows}


def pack_error(error: BaseException) -> bytes:
    """An error for the client to raise; what it may not know becomes a plain one."""
    if not isinstance(error, HandoffError | ValueError | TypeError):
        error = BackendError(f"the detached coordinator failed: {type(error).__name__}: {error}")
    return pickle.dumps(error)
