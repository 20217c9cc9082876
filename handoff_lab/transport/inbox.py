"""What this process asked others for and has not got yet, by the numbers of the questions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeAlias

import zmq

from handoff_lab.messages import AttemptId
from handoff_lab.store.payload import Frames
from handoff_lab.transport.mailbox import Mailbox
from handoff_lab.transport.questions import LargeAnswer, Request, SmallAnswers, new_number, read_answer
from handoff_lab.transport.wire import WireError

log = logging.getLogger(__name__)

_VIEWED = 64 * 1024  # bytes: copying less costs less than keeping a message of which it may be a small part

Arrived: TypeAlias = Callable[[Frames | str], None]  # the value, or why it could not be read
Fetch: TypeAlias = Callable[[str, AttemptId, Sequence[int], Arrived], None]
Question: TypeAlias = tuple[str, AttemptId, Arrived]  # who is asked, what for, and who wants to know


class Inbox:
    """Numbers questions, and passes on the answers."""

    def __init__(self) -> None:
        self.mailbox: Mailbox | None = None  # where answers may come too, with ``take_letter``
        self._asked: dict[int, Question] = {}

    def request(self, questions: Sequence[Question], holder: str = "") -> bytes:
        """The message that asks these questions, all to one member; ``holder``: which has to ask that one."""
        first = new_number()
        numbers = range(first, first + len(questions))
        self._asked.update(zip(numbers, questions, strict=True))
        address = self.mailbox.expect(*numbers) if self.mailbox is not None else []
        return Request(first, address, [key for _, key, _ in questions], holder).pack()

    def withdraw(self, holder: str) -> list[Question]:
        """What this member was asked and did not answer."""
        if self.mailbox is not None:
            self.mailbox.drain()
        numbers = [number for number, question in self._asked.items() if question[0] == holder]
        questions = [self._asked.pop(number) for number in numbers]
        for number in numbers:
            self._forget(number)
        return questions

    def take(self, holder: str, head: memoryview, parts: Sequence[zmq.Frame], fetch: Fetch) -> None:
        """Pass on what came over the connection to a member; ``fetch`` gets what is to be fetched in chunks."""
        try:
            answer = read_answer(head)
        except WireError:
            log.warning("a malformed answer from node %r was dropped", holder)
            return
        if isinstance(answer, SmallAnswers):
            self._take_small(answer)
        elif answer.number not in self._asked:
            return
        elif answer.endpoint is None or answer.sizes is None:
            self._tell(answer.number, self._large(answer, parts))
        else:
            _, key, arrived = self._asked.pop(answer.number)
            self._forget(answer.number)
            fetch(answer.endpoint, key, answer.sizes, arrived)

    def take_letter(self, data: memoryview) -> None:
        """Pass on what came to the mailbox."""
        try:
            answer = read_answer(data)
        except WireError:
            log.warning("a malformed answer in the mailbox was dropped")
            return
        if isinstance(answer, SmallAnswers):
            self._take_small(answer)

    def _take_small(self, answers: SmallAnswers) -> None:
        for number, parts in zip(answers.numbers, answers.values, strict=True):
            if number in self._asked:
                self._tell(number, None if parts is None else Frames(tuple(parts)))

    def _tell(self, number: int, value: Frames | None) -> None:
        holder, _, arrived = self._asked.pop(number)
        self._forget(number)
        arrived(value or f"node {holder!r} does not have it any more")

    def _large(self, answer: LargeAnswer, parts: Sequence[zmq.Frame]) -> Frames | None:
        buffers = [part.buffer if len(part) > _VIEWED else part.bytes for part in parts]
        if answer.sizes is None:
            return Frames(tuple(buffers)) if buffers else None
        segment = self.mailbox.take(answer.number, answer.sizes) if self.mailbox is not None else None
        return None if segment is None else Frames((*buffers, segment))

    def _forget(self, number: int) -> None:
        if self.mailbox is not None:
            self.mailbox.forget(number)
