r"""Messages in order, each once, over a connection from which they may go missing, come twice or overtake each other.

ZeroMQ over TCP does nothing of that while a connection stands. What else is on the way may: a relay, a full buffer, a
mistake of ours. A function would then wait for ever; so messages are numbered, and what is missing is sent again.

The first frame of a message begins with ``\0``, the message's number from 1 on, and the number up to which its sender
has everything. Number 0 is no message: it says only that, and which numbers are missing before others that are there.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeAlias

from handoff_lab.store.segments import Buffer
from handoff_lab.transport.loop import Timer
from handoff_lab.transport.wire import WireError

ACK_S = 0.05  # until it is said that messages came, if nothing is sent meanwhile
AGAIN_S = 1.0  # of silence about what was sent until it is sent again; each time twice as long
LONGEST_S = 30.0
AHEAD = 256  # messages kept that came before others
AT_ONCE = 64  # missing numbers in one message, messages sent again in one go
_AT_ONCE_BYTES = 2**18

_HEAD = struct.Struct("<BQQ")
_MARK = 0  # no msgpack list begins so

Frames: TypeAlias = Sequence[Any]  # what ``send_multipart`` takes


class Clock(Protocol):
    """What a stream needs of a loop."""

    def call_later(self, seconds: float, callback: Callable[[], None], /) -> Timer:
        """Call back after ``seconds``."""


class Stream:
    """One end of a connection; ``send`` sends the frames of one message, which may be lost."""

    def __init__(self, clock: Clock, send: Callable[[Frames], object]) -> None:
        self._clock = clock
        self._put = send
        self._sent = 0
        self._open: dict[int, Frames] = {}  # messages that were not acknowledged, by number
        self._came = 0  # everything up to this number came
        self._told = 0  # and the other side knows it up to this one
        self._early: dict[int, Frames] = {}  # messages that came before others
        self._ack: Timer | None = None
        self._again: Timer | None = None
        self._patience_s = AGAIN_S
        self._settled = 0  # messages acknowledged, when ``_again`` was set

    def send(self, *frames: Buffer) -> None:
        """Send a message."""
        self._sent += 1
        self._open[self._sent] = frames
        if self._again is None:
            self._watch_silence()  # first: sending may fail
        self._put_numbered(self._sent, frames)

    def take(self, frames: Frames) -> Iterable[Frames]:
        """The messages whose turn it is, now that this has come; the first frame of each is a buffer.

        Raises
        ------
        WireError
            When this is nothing that a stream sends.
        """
        number, came, rest = _read_head(frames[0])
        self._settle(came)
        if not number:
            self._send_again(_read_numbers(rest))
            return ()
        if self._came < number <= self._came + AHEAD:
            self._early[number] = (rest, *frames[1:])
            if number > self._came + 1:
                self._tell_missing(number)
        else:
            self._told = 0  # what said that it came was lost
        if self._ack is None:
            self._ack = self._clock.call_later(ACK_S, self._acknowledge)
        return self._due()

    def resume(self) -> None:
        """Go on over a connection that stands again: say what came, and send again what did not."""
        self._put_numbered(0, (b"",))
        self._send_oldest()

    def close(self) -> None:
        """Send nothing more."""
        for timer in (self._ack, self._again):
            if timer is not None:
                timer.cancel()
        self._open.clear()
        self._early.clear()

    # -- what comes ------------------------------------------------------------

    def _due(self) -> list[Frames]:
        due = []
        while (message := self._early.pop(self._came + 1, None)) is not None:
            self._came += 1
            due.append(message)
        return due

    def _acknowledge(self) -> None:
        self._ack = None
        if self._told < self._came:
            self._put_numbered(0, (b"",))

    def _tell_missing(self, before: int) -> None:
        missing = [number for number in range(self._came + 1, before) if number not in self._early][:AT_ONCE]
        self._put_numbered(0, (struct.pack(f"<{len(missing)}Q", *missing),))

    # -- what goes -------------------------------------------------------------

    def _put_numbered(self, number: int, frames: Frames) -> None:
        self._told = self._came
        self._put((_HEAD.pack(_MARK, number, self._came) + frames[0], *frames[1:]))

    def _settle(self, came: int) -> None:
        if came > self._sent:
            raise WireError("it has what was never sent")
        for number in range(self._sent - len(self._open) + 1, came + 1):  # open are the latest, without a gap
            del self._open[number]

    def _send_oldest(self) -> None:
        self._send_again(list(itertools.islice(self._open, AT_ONCE)))

    def _send_again(self, numbers: Iterable[int]) -> None:
        left = _AT_ONCE_BYTES
        for number in numbers:
            frames = self._open.get(number)
            if frames is not None and left > 0:
                left -= sum(map(len, frames))
                self._put_numbered(number, frames)

    def _watch_silence(self) -> None:
        self._settled = self._sent - len(self._open)
        self._again = self._clock.call_later(self._patience_s, self._silence)

    def _silence(self) -> None:
        self._again = None
        if self._settled < self._sent - len(self._open):
            self._patience_s = AGAIN_S
        elif self._open:
            self._send_oldest()
            self._patience_s = min(2 * self._patience_s, LONGEST_S)
        if self._open:
            self._watch_silence()


def is_numbered(frame: Buffer) -> bool:
    """Whether a message that begins with this frame is a stream's."""
    return len(frame) > 0 and memoryview(frame)[0] == _MARK


def message_in(frame: Buffer) -> memoryview:
    """The first frame of a message without its number; empty when there is no message in it."""
    number, _, rest = _read_head(frame)
    return rest if number else rest[:0]


def _read_head(frame: Buffer) -> tuple[int, int, memoryview]:
    view = memoryview(frame)
    if len(view) < _HEAD.size or view[0] != _MARK:
        raise WireError("no numbered message")
    _, number, came = _HEAD.unpack_from(view)
    return number, came, view[_HEAD.size :]


def _read_numbers(data: memoryview) -> list[int]:
    if len(data) % 8 or len(data) > 8 * AT_ONCE:
        raise WireError("no list of numbers")
    return [number for (number,) in struct.iter_unpack("<Q", data)]
