"""The way back to a member that nobody can connect to: it calls the coordinator's process, which asks it over that.

Others ask it through the coordinator's process. What crosses is as in ``questions``; a request without keys says that
the member calls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import zmq

from handoff_lab.messages import AttemptId
from handoff_lab.transport.connection import CONNECT_S, Connection, Member
from handoff_lab.transport.fetching import Fetcher, Received
from handoff_lab.transport.inbox import Arrived, Inbox, Question
from handoff_lab.transport.keys import KeyPair
from handoff_lab.transport.link import Broken
from handoff_lab.transport.loop import Loop
from handoff_lab.transport.questions import Request, read_chunk_head
from handoff_lab.transport.sockets import DATA_THREAD
from handoff_lab.transport.wire import WireError

AGAIN_S = 1.0  # from the end of a call to the next
_CALL = Request(0, (), ()).pack()


class Call:
    """A member's connection to the coordinator's process; ``asked`` gets each request."""

    def __init__(self, loop: Loop, keys: KeyPair, here: Member, asked: Callable[[memoryview], None]) -> None:
        self._loop = loop
        self._keys = keys
        self._here = here
        self._asked = asked
        self._again = loop.call_later(0, lambda: None)
        self._open()

    def send(self, *frames: Any) -> None:
        """Answer."""
        if self._connection.is_open:  # else all is asked again
            self._connection.send(*frames)

    def close(self) -> None:
        """End the call."""
        self._again.cancel()
        self._connection.close()

    def _open(self) -> None:
        self._connection = Connection(
            self._loop, self._keys, self._here, DATA_THREAD, self._tell, self._received, self._broken
        )
        self._tell()

    def _tell(self) -> None:
        self._connection.send(_CALL)

    def _received(self, head: memoryview, parts: Sequence[zmq.Frame]) -> None:
        self._asked(head)

    def _broken(self, reason: str) -> None:
        self._again = self._loop.call_later(AGAIN_S, self._open)


class BackLink:
    """Asks a member that calls, as a ``Link`` asks one that can be connected to."""

    is_direct = True

    def __init__(self, loop: Loop, name: str, inbox: Inbox, broken: Broken) -> None:
        self._loop = loop
        self._name = name
        self._inbox = inbox
        self._broken = broken
        self._unsent: list[Question] = []
        self._line: _Line | None = None
        self._fetcher: Fetcher | None = None
        self._send_frame: Callable[[bytes], None] | None = None
        self._deadline = loop.call_later(CONNECT_S, self._give_up)

    def called(self, send: Callable[[bytes], None]) -> None:
        """The member calls: ask with ``send`` from now on; what was sent before may be lost."""
        self._deadline.cancel()
        self._send_frame = send
        self._unsent = [*self._inbox.withdraw(self._name), *self._unsent]
        self._send()
        if self._line is not None:
            self._line.opened()

    def ask(self, question: Question) -> None:
        """Ask, at the end of this turn of the loop."""
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append(question)

    def received(self, head: memoryview, parts: Sequence[zmq.Frame]) -> None:
        """Take an answer."""
        with suppress(WireError):
            read_chunk_head(head)
            if self._line is not None:
                self._line.received(head, parts)
            return
        self._inbox.take(self._name, head, parts, self._fetch)

    def close(self, reason: str) -> None:
        """Ask no more; what was not answered fails for this reason."""
        for _, _, arrived in self.end():
            arrived(reason)

    def end(self) -> list[Question]:
        """Ask no more; what was not answered."""
        self._deadline.cancel()
        questions = [*self._inbox.withdraw(self._name), *self._unsent]
        self._unsent.clear()
        if self._fetcher is not None:
            questions += [(self._name, key, arrived) for key, arrived in self._fetcher.close()]
        return questions

    def _give_up(self) -> None:
        self._broken(f"node {self._name!r} does not call", self.end())

    def _send(self) -> None:
        if self._unsent and self._send_frame is not None:  # else when it calls
            questions, self._unsent = self._unsent, []
            self._put(self._inbox.request(questions))

    def _fetch(self, endpoint: str, key: AttemptId, sizes: Sequence[int], arrived: Arrived) -> None:
        if self._fetcher is None:
            self._fetcher = Fetcher(self._name, self._lay)
        self._fetcher.fetch(key, sizes, arrived)

    def _lay(self, opened: Callable[[], None], received: Received) -> _Line:
        self._line = _Line(self._put, opened, received)
        return self._line

    def _put(self, frame: bytes) -> None:
        if self._send_frame is not None:
            self._send_frame(frame)


@dataclass(frozen=True, slots=True)
class _Line:
    """What a ``Fetcher`` has for a connection of its own: a part in the member's call."""

    send: Callable[[bytes], None]
    opened: Callable[[], None]
    received: Received
    is_open: bool = True

    def close(self) -> None:
        """The call goes on."""
