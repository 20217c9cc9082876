"""The reader's end: asks one member for values, small ones together, and fetches large ones in chunks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

import zmq

from handoff_lab.messages import AttemptId
from handoff_lab.transport.connection import Connection, Member
from handoff_lab.transport.fetching import Fetcher
from handoff_lab.transport.inbox import Arrived, Inbox, Question
from handoff_lab.transport.keys import KeyPair
from handoff_lab.transport.loop import Loop
from handoff_lab.transport.sockets import BULK_THREAD, DATA_THREAD

Broken: TypeAlias = Callable[[str, list[Question]], None]


class Link:
    """Asks one member, until a connection to it breaks; ``broken`` gets the reason then, and what was not answered.

    What is asked in one turn of the loop goes in one message. With ``through`` it is that member who is asked, to ask
    in its turn.
    """

    def __init__(
        self, loop: Loop, keys: KeyPair, member: Member, inbox: Inbox, broken: Broken, through: Member | None = None
    ) -> None:
        self.is_direct = through is None
        self._loop = loop
        self._keys = keys
        self._member = member
        self._inbox = inbox
        self._broken = broken
        self._unsent: list[Question] = []
        self._fetcher: Fetcher | None = None
        self._connection = Connection(
            loop, keys, through or member, DATA_THREAD, self._ask_again, self._received, self._break
        )

    def ask(self, question: Question) -> None:
        """Ask, at the end of this turn of the loop."""
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append(question)

    def close(self, reason: str) -> None:
        """Ask no more; what was not answered fails for this reason."""
        for _, _, arrived in self.end():
            arrived(reason)

    def end(self) -> list[Question]:
        """Ask no more; what was not answered."""
        self._connection.close()
        name = self._member.name
        questions = [*self._inbox.withdraw(name), *self._unsent]
        self._unsent.clear()
        if self._fetcher is not None:
            questions += [(name, key, arrived) for key, arrived in self._fetcher.close()]
        return questions

    def _fetch(self, endpoint: str, key: AttemptId, sizes: Sequence[int], arrived: Arrived) -> None:
        if self._fetcher is None:
            member = replace(self._member, endpoint=endpoint)
            self._fetcher = Fetcher(
                member.name,
                lambda opened, received: Connection(
                    self._loop, self._keys, member, BULK_THREAD, opened, received, self._break
                ),
            )
        self._fetcher.fetch(key, sizes, arrived)

    def _break(self, reason: str) -> None:
        self._broken(reason, self.end())

    def _ask_again(self) -> None:
        self._unsent = [*self._inbox.withdraw(self._member.name), *self._unsent]
        self._send()

    def _send(self) -> None:
        if self._unsent and self._connection.is_open:  # else ``_ask_again`` comes when it is
            questions, self._unsent = self._unsent, []
            self._connection.send(self._inbox.request(questions, "" if self.is_direct else self._member.name))

    def _received(self, head: memoryview, parts: Sequence[zmq.Frame]) -> None:
        self._inbox.take(self._member.name, head, parts, self._fetch)
