"""Messages between a detached coordinator and its clients: what they are, and how what they carry is read.

The first frame is a message as in ``transport.wire``; what is large or opaque follows in frames of its own. The socket
is in a directory that only its user can enter. A client is as trusted as its user: it may hand over a pickled policy.
The coordinator unpickles that and the outline of a run, and nothing else.

What is read here raises `WireError` when it is not as it should be; the journal is written and read in the same way.
"""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Iterable, Mapping
from typing import Any

from handoff_lab._errors import BackendError, HandoffError, ResourceError
from handoff_lab.coordinator.verbs import SeenNode
from handoff_lab.messages import AttemptId, Ended, Failure
from handoff_lab.resources import Resources
from handoff_lab.scheduler.state import FinalFailure
from handoff_lab.store.payload import Frames
from handoff_lab.transport.hello import facts_of, read_info
from handoff_lab.transport.rows import (
    FAILURE,
    NODE_LOAD,
    Record,
    Row,
    one_of,
    optional,
    read_amounts,
    read_bytes,
    read_count,
    read_flag,
    read_frames,
    read_number,
    read_text,
    tuple_of,
)
from handoff_lab.transport.sockets import Heartbeat
from handoff_lab.transport.wire import Schema, WireError, dump, load

VERSION = 2
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
    "failures": (int, list),  # of functions: see ``failure_rows``
    "news": (int, str, int),  # lines of its log, and whether it happens now
    "over": (int, list),  # its end
}


def failure_rows(failures: Iterable[tuple[int, FinalFailure]]) -> list[Row]:
    """Final failures, by the numbers of functions."""
    return [(i, *failure) for i, failure in failures]


def _of_function(i: int, *facts: Any) -> tuple[int, FinalFailure]:
    return i, FinalFailure(*facts)


def _value(function: int, number: int, frames: tuple[bytes, ...]) -> tuple[int, int, Frames]:
    return function, number, Frames(frames)


def _resources(amounts: Any) -> Resources:
    try:
        return Resources(read_amounts(amounts))
    except ResourceError as error:
        raise WireError(str(error)) from None


_FINAL_FAILURE = Record(_of_function, read_count, read_count, read_count, optional(read_text), FAILURE.read)
_END = Record(
    Ended,
    read_text,
    one_of("done", "failed", "cancelled"),
    optional(read_count),
    read_count,
    optional(read_text),
    optional(FAILURE.read),
    read_count,
    optional(read_number),
)
_SEEN = Record(SeenNode, read_info, _resources, read_flag, read_number, optional(NODE_LOAD.read))
_read_values = tuple_of(Record(_value, read_count, read_count, read_frames).read)


def read_failure(row: Any) -> Failure:
    """A failure."""
    failure: Failure = FAILURE.read(row)
    return failure


def read_failures(rows: Iterable[Any]) -> dict[int, FinalFailure]:
    """Final failures from their rows."""
    return dict(map(_FINAL_FAILURE.read, rows))


def read_end(row: Any) -> Ended:
    """The end of a run."""
    end: Ended = _END.read(row)
    return end


def seen_row(seen: SeenNode) -> Row:
    """A node, as ``read_seen`` reads it."""
    return facts_of(seen.info), *seen[1:]


def read_seen(row: Any) -> SeenNode:
    """A node."""
    seen: SeenNode = _SEEN.read(row)
    return seen


def pack_parts(codes: Mapping[str, bytes], values: Mapping[AttemptId, Frames]) -> bytes:
    """The code and the given values of a run."""
    rows = [(key.function, key.number, [bytes(part) for part in value.buffers]) for key, value in values.items()]
    return dump((codes, rows))


def unpack_parts(run: str, data: bytes) -> tuple[dict[str, bytes], dict[AttemptId, Frames]]:
    """Code and values from ``pack_parts``."""
    match load(data):
        case [dict(codes), rows]:
            values = {AttemptId(run, function, number): frames for function, number, frames in _read_values(rows)}
            return {read_text(key): read_bytes(code) for key, code in codes.items()}, values
    raise WireError("no code and values")


def pack_error(error: BaseException) -> bytes:
    """An error for the client to raise; what it may not know, or cannot get, becomes a plain one."""
    if isinstance(error, HandoffError | ValueError | TypeError):
        with contextlib.suppress(Exception):
            return pickle.dumps(error)
    return pickle.dumps(BackendError(f"the detached coordinator failed: {type(error).__name__}: {error}"))
