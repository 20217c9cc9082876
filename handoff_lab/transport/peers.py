"""The data plane: members of a cluster read values from each other directly, the coordinator's process among them.

What crosses is in ``questions``. Questions that come up in one turn of the loop go to a holder in one message, and so
do small values to a reader: over its mailbox if it has one on this host, because that is sooner.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import zmq

from handoff_lab.messages import HERE, AttemptId
from handoff_lab.store.memory import MemoryStore
from handoff_lab.store.payload import Frames
from handoff_lab.store.segments import Buffer, Segment
from handoff_lab.transport.back import BackLink, Call
from handoff_lab.transport.chunks import Chunks, cut_chunk
from handoff_lab.transport.connection import NOWHERE, Member
from handoff_lab.transport.desk import DOMAIN, Desk
from handoff_lab.transport.inbox import Arrived, Inbox, Question
from handoff_lab.transport.keys import KeyPair, is_key
from handoff_lab.transport.link import Link
from handoff_lab.transport.loop import Loop
from handoff_lab.transport.mailbox import Mailbox
from handoff_lab.transport.questions import LargeAnswer, SmallAnswers, read_request
from handoff_lab.transport.rows import read_text
from handoff_lab.transport.sockets import DATA_THREAD
from handoff_lab.transport.wire import WireError
from handoff_lab.transport.zap import Admission

__all__ = ["Member", "Peers", "read_members"]

log = logging.getLogger(__name__)

POST_AGAIN_S = 0.001  # for a mailbox that was full: a few descriptors fit into one
SMALL = 16 * 1024  # bytes: larger values travel alone
AROUND_S = 60.0  # that a member who could not be reached is asked through the coordinator, until it is tried again
CHUNKED = 2**20  # bytes: larger values go in chunks, if they cannot be handed over
BATCH_BYTES = 64 * 1024  # of small values in one message
_CALL = b""  # the identity of the connection that this process opened to be asked over


class Peers:
    """Serves this process's values to the other members, and reads theirs.

    Without a ``host``, an address at which they can connect to this one, they ask through the coordinator's process.
    """

    def __init__(
        self, loop: Loop, keys: KeyPair, admission: Admission, store: MemoryStore[Frames], host: str | None
    ) -> None:
        self._loop = loop
        self._keys = keys
        self._admission = admission
        self._store = store
        self._host = host or "127.0.0.1"
        self._members: dict[str, Member] = {}
        self._links: dict[str, Link | BackLink] = {}
        self._call: Call | None = None  # to the coordinator's process, without a host
        self._calls: dict[str, Callable[[bytes], None]] = {}  # how members are asked that call this process
        self._inbox = Inbox()
        self._mailbox: Mailbox | None = None
        self._outgoing: dict[bytes, _Batch] = {}  # by identity
        self._desk = Desk(loop, keys, self._host, DATA_THREAD, admission, self._members, self._asked, self._answered)
        self._chunks: Chunks | None = None  # when they are first needed
        self.endpoint = NOWHERE if host is None else self._desk.endpoint

    def open_mailbox(self, path: Path) -> None:
        """Use a mailbox with members on this host from now on; ``path`` is in a directory of mode 0700."""
        if self._mailbox is not None:
            return
        try:
            self._mailbox = self._inbox.mailbox = Mailbox(self._loop, path, self._inbox.take_letter)
        except OSError as error:
            log.warning("values will be copied between the processes of this host: %s", error)

    def add(self, member: Member) -> None:
        """Make a member known: it may read here, and can be read from."""
        self._members[member.name] = member
        self._admission.admit(DOMAIN, member.public_key, member.name)
        if member.name == HERE and self.endpoint == NOWHERE:
            self._hang_up()
            self._call = Call(self._loop, self._keys, member, self._asked_back)

    def remove(self, name: str) -> None:
        """Forget a member: its connections are cut, and what is being read from it fails."""
        member = self._members.pop(name, None)
        if member is None:
            return
        self._admission.revoke(DOMAIN, member.public_key)
        for desk in self._desks():
            desk.remove(name)
        self._calls.pop(name, None)
        link = self._links.pop(name, None)
        if link is not None:
            link.close(f"node {name!r} is gone")
        if name == HERE:
            self._hang_up()

    def remove_all(self) -> None:
        """Forget all members."""
        for name in list(self._members):
            self.remove(name)

    def read(self, holder: str, key: AttemptId, arrived: Arrived) -> None:
        """Fetch a value from the member that holds it, or will."""
        link = self._links.get(holder)
        if link is None:
            member = self._members.get(holder)
            if member is None:
                arrived(f"node {holder!r} is gone")
                return
            link = self._links[holder] = self._link_to(member)
        link.ask((holder, key, arrived))

    def _link_to(self, member: Member) -> Link | BackLink:
        broken = partial(self._broken, member)
        here = self._members.get(HERE)
        if member.endpoint != NOWHERE:
            return Link(self._loop, self._keys, member, self._inbox, broken)
        if here is not None:
            return Link(self._loop, self._keys, member, self._inbox, broken, here)
        link = BackLink(self._loop, member.name, self._inbox, broken)
        if member.name in self._calls:
            link.called(self._calls[member.name])
        return link

    def _broken(self, member: Member, reason: str, questions: list[Question]) -> None:
        """A connection broke: it may be the way there that is bad, and the coordinator may know a better one."""
        direct = self._links.pop(member.name).is_direct
        here = self._members.get(HERE)
        if not questions or not direct or here is None or here is member:
            for _, _, arrived in questions:
                arrived(reason)
            return
        broken = partial(self._broken, member)
        link = self._links[member.name] = Link(self._loop, self._keys, member, self._inbox, broken, here)
        self._loop.call_later(AROUND_S, lambda: self._try_directly(member.name, link))
        for question in questions:
            link.ask(question)

    def _try_directly(self, name: str, link: Link) -> None:
        if self._links.get(name) is link:
            del self._links[name]
            for question in link.end():
                self.read(*question)

    def close(self) -> None:
        """Serve and read no more; what is being read fails."""
        self.remove_all()
        if self._mailbox is not None:
            self._mailbox.close()
            self._mailbox = self._inbox.mailbox = None
        for desk in self._desks():
            desk.close()

    def _desks(self) -> list[Desk]:
        return [self._desk] if self._chunks is None else [self._desk, self._chunks.desk]

    def _asked(self, name: str, identity: bytes, body: memoryview) -> None:
        request = read_request(body)
        if not request.keys:
            self._called(name, partial(self._desk.send, identity))
            return
        reader = _Reader(name, identity, request.address, is_far=bool(request.holder))
        for number, key in enumerate(request.keys, request.first):
            if request.holder:
                self.read(request.holder, key, partial(self._pass_on, reader, number))
            else:
                self._store.want(key, partial(self._answer, reader, number))

    # -- members that call -----------------------------------------------------

    def _called(self, name: str, send: Callable[[bytes], None]) -> None:
        self._calls[name] = send
        link = self._links.get(name)
        if isinstance(link, BackLink):
            link.called(send)

    def _answered(self, name: str, head: memoryview, parts: Sequence[zmq.Frame]) -> None:
        link = self._links.get(name)
        if isinstance(link, BackLink):
            link.received(head, parts)

    def _asked_back(self, body: memoryview) -> None:
        try:
            self._asked(HERE, _CALL, body)
        except WireError:
            self._reply(_CALL, *cut_chunk(self._store, body))

    def _hang_up(self) -> None:
        if self._call is not None:
            self._call.close()
            self._call = None

    # -- answers ---------------------------------------------------------------

    def _reply(self, identity: bytes, *frames: Any) -> None:
        if identity != _CALL:
            self._desk.send(identity, *frames)
        elif self._call is not None:
            self._call.send(*frames)

    def _pass_on(self, reader: _Reader, number: int, value: Frames | str) -> None:
        self._answer(reader, number, None if isinstance(value, str) else value)

    def _answer(self, reader: _Reader, number: int, value: Frames | None) -> None:
        nbytes = 0 if value is None else value.nbytes
        if value is not None and nbytes > SMALL:
            self._answer_large(reader, number, value)
            return
        batch = self._outgoing.get(reader.identity)
        if batch is None:
            if not self._outgoing:
                self._loop.call_soon(self._deliver_all)
            batch = self._outgoing[reader.identity] = _Batch(reader)
        batch.numbers.append(number)
        batch.values.append(None if value is None else value.buffers)
        batch.nbytes += nbytes
        if batch.nbytes > BATCH_BYTES:
            self._deliver(self._outgoing.pop(reader.identity))

    def _deliver_all(self) -> None:
        batches, self._outgoing = self._outgoing, {}
        for batch in batches.values():
            self._deliver(batch)

    def _deliver(self, batch: _Batch) -> None:
        reader = batch.reader
        if reader.name not in self._members:
            return  # it was removed meanwhile
        data = SmallAnswers(batch.numbers, batch.values).pack()
        if self._mailbox is None or not self._mailbox.deliver(reader.address, data):
            self._reply(reader.identity, data)

    def _answer_large(self, reader: _Reader, number: int, value: Frames) -> None:
        if reader.name not in self._members:
            return  # it was removed meanwhile
        *rest, last = value.parts
        try:
            if isinstance(last, Segment) and self._mailbox and self._mailbox.post(reader.address, number, last):
                self._reply(reader.identity, LargeAnswer(number, last.sizes).pack(), *rest)
            elif value.nbytes > CHUNKED and not reader.is_far:
                endpoint = "" if reader.identity == _CALL else self._chunk_endpoint()
                self._reply(reader.identity, LargeAnswer(number, value.sizes, endpoint).pack())
            else:
                self._reply(reader.identity, LargeAnswer(number, None).pack(), *value.buffers)
        except BlockingIOError:
            self._loop.call_later(POST_AGAIN_S, lambda: self._answer_large(reader, number, value))

    def _chunk_endpoint(self) -> str:
        if self._chunks is None:
            self._chunks = Chunks(self._loop, self._keys, self._host, self._admission, self._members, self._store)
        return self._chunks.desk.endpoint


def read_members(rows: Any) -> list[Member]:
    """Members from their rows.

    Raises
    ------
    WireError
        When one of them is none.
    """
    if type(rows) is not list or not all(type(row) is list and len(row) == 3 for row in rows):
        raise WireError("no list of members")
    members = [Member(*map(read_text, row)) for row in rows]
    if not all(is_key(member.public_key) and member.endpoint.startswith("tcp://") for member in members):
        raise WireError("a member that cannot be read from")
    return members


@dataclass(frozen=True, slots=True)
class _Reader:
    """One who asked: its name, the connection, and where its mailbox is."""

    name: str
    identity: bytes
    address: Sequence[str]
    is_far: bool  # from the holder: what it asks for is only passed on here, and cannot be asked for in parts


@dataclass(slots=True)
class _Batch:
    """Small values on their way to a reader."""

    reader: _Reader
    numbers: list[int] = field(default_factory=list)
    values: list[Sequence[Buffer] | None] = field(default_factory=list)
    nbytes: int = 0
