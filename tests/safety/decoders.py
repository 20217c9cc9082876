"""Everything that reads bytes which somebody else wrote: how it is called, and what it may raise.

Each takes bytes, and raises its declared error or nothing.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import itertools
import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest import mock

import msgpack
import zmq

from handoff_lab import AuthenticationError
from handoff_lab.backends.base import one_by_one
from handoff_lab.backends.kernels.cells import Cells
from handoff_lab.backends.kernels.reports import Reports
from handoff_lab.backends.kernels.returning import Returning
from handoff_lab.messages import (
    Attempt,
    AttemptId,
    BackendEvent,
    Cancelled,
    Failed,
    Failure,
    FailureKind,
    Finished,
    FinishedMany,
    GpuLoad,
    GpuUse,
    NodeChanged,
    NodeInfo,
    NodeLoad,
    ResultLost,
    Source,
    Started,
    Transferred,
    TransferredMany,
    Wrote,
)
from handoff_lab.node import channel as channel_module
from handoff_lab.node.channel import _HEADER, _MARK, Receiver
from handoff_lab.node.channel import pack as pack_channel
from handoff_lab.node.work import Work
from handoff_lab.store.payload import Frames
from handoff_lab.store.spilling import SpillingStore
from handoff_lab.telemetry.batch_lines import LineReader, LineWriter
from handoff_lab.telemetry.batches import FinishedBatch, QueuedBatch, TransferredBatch
from handoff_lab.telemetry.events import RUN_START, Event
from handoff_lab.transport.fetching import Fetcher
from handoff_lab.transport.hello import Hello, glance, mismatch, own_versions
from handoff_lab.transport.inbox import Inbox
from handoff_lab.transport.invitation import _PREFIX, _sum, read_invitation, write_invitation
from handoff_lab.transport.keys import JoinFile, KeyPair
from handoff_lab.transport.peers import read_members
from handoff_lab.transport.questions import (
    Chunk,
    LargeAnswer,
    Request,
    SmallAnswers,
    read_answer,
    read_chunk,
    read_chunk_head,
    read_request,
)
from handoff_lab.transport.rows import attempt_row, event_row, read_amounts, read_attempts, read_id, read_keys
from handoff_lab.transport.stream import Stream
from handoff_lab.transport.wire import FROM_NODE, PROTOCOL, TO_NODE, WireError, pack, unpack
from handoff_lab.transport.zap import Admission
from tests.safety.detached import DETACHED
from tests.safety.inputs import FIELDS, JSON_LINES, RAW, Decoder

KEYS = KeyPair("rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7", "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6")  # ZeroMQ's own
KEY = AttemptId("run", 1, 1)
FETCHED = 4  # chunks of a value


# -- the control plane ---------------------------------------------------------------


def from_node(data: bytes) -> None:
    """As the hub and its listener read what nodes say."""
    kind, fields = unpack(data, FROM_NODE)
    if kind == "hello":
        name, versions = glance(fields[1])
        if mismatch(fields[0], versions, name) is None:
            assert Hello.read(fields[1]).member
    elif kind == "events":
        reports = Reports()
        for function in range(3):
            reports.expect(AttemptId("run", function, 1), "alpha")
        events = [one for event in reports.take("alpha", *fields) for one in one_by_one(event)]
        made = [event.id for event in events if isinstance(event, Finished)]
        _take_in([replace(ATTEMPT, inputs=tuple([Source(id, "alpha", reports.small(id)) for id in made]))])
    elif kind == "held":
        returning = Returning(lambda node, message: None)
        returning.gathers = True
        returning.received("alpha", *fields)
    elif kind.startswith("cell"):
        cells = Cells(lambda node, message: None)
        cells.run("alpha", "1", len, len)
        cells.received("alpha", kind, *fields)


def to_node(data: bytes) -> None:
    """As an agent reads its commands."""
    kind, fields = unpack(data, TO_NODE)
    readers: dict[str, Callable[..., object]] = {
        "peers": read_members,
        "submit": lambda rows: _take_in(read_attempts(rows, "beta")),
        "cancel": lambda rows, how: [*map(read_id, rows)],
        "free": read_keys,
        "capabilities": lambda amounts, slots: read_amounts(amounts),
    }
    readers.get(kind, lambda *fields: None)(*fields)


def _take_in(attempts: list[Attempt]) -> None:
    """As a node that runs nothing, and whom nobody answers."""
    idle: Any = SimpleNamespace(run=lambda attempt, inputs: None, read=lambda node, key, arrived: None)
    Work("beta", _store(), idle, lambda attempt: idle, lambda event: None).submit(attempts)


def _store() -> SpillingStore:
    return SpillingStore(2**62, lambda callback: None)


NODE = NodeInfo("alpha", {"cpu": 2.0}, 2, "host", 7, own_versions(), {"rack": "7"}, "/run/kernel.json")
EVENTS: list[BackendEvent] = [
    Started(KEY, 1.0, 0),
    Finished(KEY, 1.0, 2.0, 3, (b"abc",), 0, 99, "log"),
    FinishedMany("run", [0, 2], [1, 1], [1.0, 1.5], [2.0, 2.5], [1, 1], [(b"a",), None], [0, 0], [None, 9], ["", "x"]),
    Failed(KEY, Failure(FailureKind.EXCEPTION, "no", "ValueError", "traceback", b"pickle"), 1.0, 2.0),
    Cancelled(KEY, None, None, ""),
    Transferred(KEY, "beta", "alpha", 9, 1.0, 2.0),
    TransferredMany("run", "alpha", [1], [1], ["beta"], [9], [1.0], [2.0]),
    Wrote(KEY, "text"),
    NodeChanged("alpha", {"cpu": 4.0}, 4),
    NodeLoad("alpha", 50.0, 10**9, (GpuLoad("0", None, 1, 2, (GpuUse(AttemptId("run", 0, 1), 1.0, None),)),)),
    ResultLost(KEY, "beta"),
]
ATTEMPT = Attempt(
    KEY, "alpha", "f", ("k1",), (Source(KEY, "beta"), Source(KEY, "beta", (b"abc",))), b"recipe", {"cpu": 1.0}
)
FROM_NODE_SEEDS = (
    Hello(NODE, KEYS.public, "tcp://127.0.0.1:1").pack(),
    *(pack("events", [event_row(event)]) for event in EVENTS),
    pack("events", [event_row(event) for event in EVENTS]),
    pack("cell_output", 0, json.dumps({"type": "stream", "content": {"name": "stdout", "text": "x"}}).encode()),
    pack("cell_done", 0, b'{"status": "ok"}'),
    pack("leaving", "why"),
    pack("held", [event_row(event) for event in EVENTS[1:4]], [event_row(EVENTS[0])], 1),
    pack("ready"),
)
TO_NODE_SEEDS = (
    pack("peers", [("beta", KEYS.public, "tcp://127.0.0.1:1")]),
    pack("submit", [attempt_row(ATTEMPT, ATTEMPT.inputs, ATTEMPT.recipe)]),
    pack("cancel", [KEY], "interrupt"),
    pack("free", "run", [1, 2], [1, 1]),
    pack("forget", "run"),
    pack("capabilities", {"cpu": 1.0}, 1),
    pack("refused", "reason", "protocol", str(PROTOCOL), "1"),
)


# -- the data plane --------------------------------------------------------------------


def inbox(data: bytes) -> None:
    """A letter, and the same as the head of an answer over a connection; of what is to be fetched, the first comes.

    Who asked is told once, or can be when the one who was asked goes, and waits for nothing that is not asked for.
    """
    box, store = Inbox(), _store()
    told: list[Frames | str] = []
    chunks: list[bytes] = []

    def arrived(value: Frames | str) -> None:
        told.append(value)
        if isinstance(value, Frames):
            store.put(KEY, value)

    channel: Any = SimpleNamespace(is_open=True, send=chunks.append, close=lambda: None)
    fetcher = Fetcher("beta", lambda opened, received: channel)
    box._asked[7] = ("beta", KEY, arrived)
    box.take_letter(memoryview(data))
    part: Any = zmq.Frame(b"part")
    box.take("beta", memoryview(data), [part], lambda endpoint, key, sizes, _: fetcher.fetch(key, sizes, arrived))
    for chunk in map(read_chunk, itertools.islice(chunks, FETCHED)):  # more of them are added meanwhile
        fetcher._received(memoryview(chunk.pack_head()), [zmq.Frame(bytes(chunk.size))])
    fetched, asked = fetcher.close(), box.withdraw("beta")
    assert len(told) + len(fetched) + len(asked) == 1
    assert not fetched or len(chunks) > FETCHED


class _Clock:
    """A loop in which no time passes."""

    def call_later(self, seconds: float, callback: Callable[[], None], /) -> Any:
        return SimpleNamespace(cancel=lambda: None)


def stream(data: bytes) -> None:
    """Two numbered messages, one after the other."""
    clock = _Clock()
    end = Stream(clock, lambda frames: None)
    end.send(b"one")
    end.send(b"two")
    half = len(data) // 2
    for part in (data[:half], data[half:]):
        for frames in end.take([part]):
            assert frames
    end.close()


def _numbered(message: bytes) -> bytes:
    frames: list[Any] = []
    end = Stream(_Clock(), frames.append)
    for _ in range(2):
        end.send(message)
    return b"".join(bytes(frame[0]) for frame in frames)


# -- the rest ----------------------------------------------------------------------------


def channel(data: bytes) -> None:
    """What comes from a slot, in which anything may run, over its socket."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        theirs.sendall(data[:65536])
        theirs.shutdown(socket.SHUT_WR)
        receiver = Receiver(ours)
        with contextlib.suppress(EOFError), mock.patch.object(channel_module, "_BELIEVED", 2**20):
            while True:
                receiver.receive()


def log_lines(data: bytes) -> None:
    """Lines of a run's log."""
    reader = LineReader()
    for line in data.decode("latin-1").splitlines():
        part = reader.part(line)
        if part is not None:
            list(part.events())


def invitation(data: bytes) -> None:
    read_invitation(data.decode("latin-1"))


def join_file(data: bytes) -> None:
    JoinFile.parse(data.decode("latin-1"))


def zap(data: bytes) -> None:
    """libzmq's own question, as if it were another's."""
    _admission()._answer(data.split(b"|"))


@functools.cache
def _admission() -> Admission:
    admission = Admission.__new__(Admission)
    admission._users = {}
    return admission


def _log_seeds() -> Iterator[bytes]:
    ids, writer = ["a", ("b", 1)], LineWriter()
    costs = [{"cpu": 1.0}] * 2
    parts = [
        Event(RUN_START, 1.0, {"functions": 2}, {"run": "r", "ids": frozenset({1}), "x": b"bytes", "y": float("inf")}),
        QueuedBatch("r", ids, 1.0, [0, 1], ["alpha", "beta"]),
        FinishedBatch(
            "r", ids, "alpha", [0, 1], [1, 1], [1.0, 2.0], [2.0, 3.0], [1, 2], [0, 0], [None, 5], ["", "log"], costs,
            {"cpu": 1.0}, {"cpu": 2.0},
        ),
        TransferredBatch("r", ids, "beta", [1], ["alpha"], [9], [1.0], [2.0]),
    ]  # fmt: skip
    lines = [writer.lines(part).encode() for part in parts]
    return iter([lines[0], lines[1], lines[1] + lines[2] + lines[3]])


def _summed(content: bytes) -> bytes:
    return _PREFIX.encode() + base64.urlsafe_b64encode(content + _sum(content)).rstrip(b"=")


_JOIN = JoinFile("tcp://127.0.0.1:1234", KEYS.public, KEYS, once=True)
_JOIN_TEXT = json.dumps(
    {
        "kind": "handoff_lab join file 1",
        "endpoint": _JOIN.endpoint,
        "server_key": KEYS.public,
        "public_key": KEYS.public,
        "secret_key": KEYS.secret,
    }
)
_DAMAGED = (ValueError, TypeError, LookupError, OverflowError, RecursionError)  # what read_log makes one ValueError of

DECODERS: dict[str, Decoder] = {
    "from_node": Decoder(from_node, (WireError,), FROM_NODE_SEEDS),
    "to_node": Decoder(to_node, (WireError,), TO_NODE_SEEDS),
    "request": Decoder(read_request, (WireError,), (Request(7, ["host", "/run/box"], [KEY, KEY]).pack(),)),
    "chunk": Decoder(read_chunk, (WireError,), (Chunk(1, 0, 0, 2**19, KEY).pack(),)),
    "chunk_head": Decoder(read_chunk_head, (WireError,), (Chunk(1, 0, 0, 2**19, KEY).pack_head(),)),
    "answer": Decoder(
        read_answer,
        (WireError,),
        (
            SmallAnswers([7, 8, 9], [(b"one",), (b"a", b"b"), None]).pack(),
            LargeAnswer(7, [1, 2]).pack(),
            LargeAnswer(7, [1], "tcp://127.0.0.1:1").pack(),
            LargeAnswer(7, None).pack(),
        ),
    ),
    "inbox": Decoder(
        inbox,
        (),
        (
            SmallAnswers([7], [(b"one",)]).pack(),
            LargeAnswer(7, [1]).pack(),
            LargeAnswer(7, [9, 2**18], "tcp://127.0.0.1:1").pack(),
        ),
    ),
    "stream": Decoder(stream, (WireError,), (_numbered(pack("leaving", "x")),), RAW),
    **DETACHED,
    "channel": Decoder(
        channel,
        (OSError,),
        (msgpack.packb([[5], "done", [[1, 1.0, 2.0, 1]]]), msgpack.packb([[2, 3], "done", []])),
        frame=lambda head: _HEADER.pack(_MARK, len(head), 5, 0) + head + b"frame",
    ),
    "channel_bytes": Decoder(
        channel, (OSError,), (b"".join(map(bytes, pack_channel(["done", [[1, 1.0, 2.0, 1]]], [b"frame"]))),), RAW
    ),
    "log_lines": Decoder(log_lines, _DAMAGED, tuple(_log_seeds()), JSON_LINES),
    "invitation": Decoder(invitation, (AuthenticationError,), (write_invitation(_JOIN).encode(),), RAW),
    "invitation_content": Decoder(
        invitation, (AuthenticationError,), (bytes(range(64)) + b"tcp://127.0.0.1:1",), RAW, frame=_summed
    ),
    "join_file": Decoder(join_file, (), (_JOIN_TEXT.encode(),), JSON_LINES),
    "zap": Decoder(
        zap, (), (b"|".join([b"1.0", b"1", b"control", b"127.0.0.1", b"", b"CURVE", bytes(range(32))]),), FIELDS
    ),
}
