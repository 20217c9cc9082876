"""Faults of messages, for tests: some are dropped, some come twice, some late and so after those sent behind them.

>>> Faults(seed=1).fates("submit")  # delays in seconds of the copies that arrive
[0.0]
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from unittest.mock import patch

import msgpack  # type: ignore[import-untyped]
import zmq

from handoff_lab.transport import sockets, stream
from handoff_lab.transport.loop import Loop
from handoff_lab.transport.stream import is_numbered, message_in

_KINDS: dict[tuple[int, int], str] = {  # of what crosses between nodes, by what speaks and how long its list is
    (zmq.DEALER, 4): "question",
    (zmq.DEALER, 5): "chunk asked for",
    (zmq.ROUTER, 2): "answer",
    (zmq.ROUTER, 3): "chunk",
}


class Faults:
    """Decides what becomes of messages.

    Each kind of message has a rate of its own for each fault.

    Parameters
    ----------
    lowest, highest
        Between these lie the rates.
    delay_s
        A late message comes up to so many seconds later.
    """

    def __init__(self, seed: int, *, lowest: float = 0.10, highest: float = 0.25, delay_s: float = 0.02) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()  # by kind of message and what became of it
        self._random = random.Random(seed)
        self._between = lowest, highest
        self.delay_s = delay_s
        self._rates: dict[tuple[str, str], float] = {}

    def fates(self, kind: str) -> list[float]:
        """The delays of the copies that arrive; none when it is dropped."""
        if self._befalls(kind, "dropped"):
            return []
        copies = 2 if self._befalls(kind, "doubled") else 1
        return [self._random.uniform(0, self.delay_s) if self._befalls(kind, "late") else 0.0 for _ in range(copies)]

    def _befalls(self, kind: str, fault: str) -> bool:
        rate = self._rates.get((kind, fault))
        if rate is None:
            rate = self._rates[kind, fault] = self._random.uniform(*self._between)
        if self._random.random() >= rate:
            return False
        self.counts[kind, fault] += 1
        return True


class _FaultySocket(zmq.Socket[bytes]):
    """Sends with faults."""

    faults: Faults
    loop: Loop

    def send(self, data: Any, flags: int = 0, copy: bool = True, track: bool = False, **options: Any) -> None:  # type: ignore[override]
        self.send_multipart([data])

    def send_multipart(self, frames: Sequence[Any], flags: int = 0, copy: bool = True, **options: Any) -> None:  # type: ignore[override]
        for delay in self.faults.fates(_kind(self, frames)):
            if delay:
                self.loop.call_later(delay, lambda: self._pass_late(frames))
            else:
                self._pass(frames)

    def _pass_late(self, frames: Sequence[Any]) -> None:
        with suppress(zmq.ZMQError):  # closed by now, or the other side is gone
            self._pass(frames)

    def _pass(self, frames: Sequence[Any]) -> None:
        for at, frame in enumerate(frames, 1):
            super().send(frame, zmq.SNDMORE if at < len(frames) else 0)


def _kind(socket: zmq.Socket[bytes], frames: Sequence[Any]) -> str:
    first = frames[socket.type == zmq.ROUTER]
    if is_numbered(first) and not (first := message_in(first)):
        return "acknowledgement"
    reader = msgpack.Unpacker()
    reader.feed(first)
    length = reader.read_array_header()
    kind = reader.unpack() if length else ""
    return kind if isinstance(kind, str) else _KINDS.get((int(socket.type), length), "answer")


@contextmanager
def faulty_sockets(faults: Faults) -> Iterator[None]:
    """Whatever sockets this process makes meanwhile to talk with nodes, or as a node, are faulty for good.

    What got lost is sent again sooner than else, because it happens all the time.
    """
    make: Callable[..., sockets.Socket] = sockets._socket  # all of them come from there

    def make_faulty(loop: Loop, *args: Any) -> sockets.Socket:
        with patch.object(loop.context, "_socket_class", _FaultySocket):
            socket = make(loop, *args)
        assert isinstance(socket, _FaultySocket)
        socket.faults, socket.loop = faults, loop
        return socket

    with patch.object(sockets, "_socket", make_faulty), patch.object(stream, "AGAIN_S", 5 * faults.delay_s):
        yield
