"""The process in which functions run: takes batches of attempts from its agent, sends outcomes back.

A ``run`` message has calls and rows. A call is what many attempts share: keys of code (the function first), key of
``retry_on`` or nil, keys of set-up, whether their memory counts. A row of an attempt is number, label, place of its
call, one number for each input, whether it is expected to be brief, whether to send what is done before it begins, and
for one with a recipe, whose pickle comes before the inputs' frames, ``[nodes of the inputs, node]``. The number for an
input is that of its frames; a negative one stands for the result of the row before, of the same message, with this
number.

A row of an outcome is number, started, ended and number of frames, and unless all of these are nothing: peak memory,
log, whether the slot is spoilt, failure. An attempt that was taken back, or whose input was not made, has not run: its
``started`` is 0. Both ends count frames; see ``channel`` for the messages themselves.

The loop: receive once; run the rows of each message that is complete, in order; send outcomes when the message is
done, before one whose duration nobody knows, after a large value, every ``FLUSH_S`` between brief ones, and when the
agent nudges. At most ``batches.BATCH + batches.FUSED`` rows are on their way to a slot.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import pickle
import resource
import select
import socket
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import fields
from itertools import islice
from types import ModuleType
from typing import Any, NoReturn

from handoff_lab.messages import Failure
from handoff_lab.node.channel import Message, Receiver, send
from handoff_lab.node.codes import Codes
from handoff_lab.node.execution import execute_pickled
from handoff_lab.node.failures import (
    code_failure,
    failure_of,
    set_up_failure,
    shortage_failure,
)
from handoff_lab.node.fence import Fenced
from handoff_lab.node.memory import own_memory
from handoff_lab.node.output import Capture
from handoff_lab.store.payload import Frames
from handoff_lab.store.segments import SHARED_FROM, Part, Segment, SegmentMaker

FLUSH_S = 0.001  # outcomes of brief functions wait this long for company
IDLE_S = 5.0  # memory for the next large values is kept this long
BRIEF_S = 0.005  # a function that takes less is brief: many travel in one message
BRIEF_ROW = 4  # fields of the row of an outcome that has nothing more to say
NOTHING_MORE = (None, "", False, None)
SPOILT = 6  # place of that field in a longer row
WEIGHED = 3  # place of the last field of a call
CONNECTION_LOST = 70  # exit code of a slot whose connection was closed under it
_FAILURE_FIELDS = [field.name for field in fields(Failure)]


class Slot:
    """Executes what arrives, in order, and reports."""

    def __init__(self, sock: socket.socket, fence: Fenced, capture: Capture, codes: Codes) -> None:
        self._sock = sock
        self._receiver = Receiver(sock)
        self._fence = fence
        self._capture = capture
        self._codes = codes
        self._rows: list[list[Any]] = []
        self._frames: list[Part] = []
        self._segments = SegmentMaker()
        self._made: dict[int, Frames] = {}  # results that rows of the present message may ask for
        self._flushed = 0.0
        self._forked = False
        os.register_at_fork(after_in_child=self._fork)

    def hello(self) -> None:
        """Say that this process is ready, and give the agent a handle on it that can't be mistaken."""
        pid = os.getpid()
        handle = os.pidfd_open(pid)
        send(self._sock, ["hello", pid], fds=[handle])
        os.close(handle)

    def handle_sigint(self) -> None:
        """Let interrupts through to attempts from now on."""
        self._fence.handle_sigint(self._flush_some)

    def rest(self) -> None:
        """Wait for the next message; keep no memory for values when none comes for long."""
        if not self._segments.is_empty:
            poller = select.poll()
            poller.register(self._sock, select.POLLIN)
            if not poller.poll(IDLE_S * 1000):
                self.release()

    def release(self) -> None:
        """Keep no memory for the next values."""
        self._segments.release()

    def serve_once(self) -> None:
        """Receive, and do all that has arrived completely; raises ``EOFError`` when the agent is gone."""
        for message in self._receiver.receive():
            kind, *rest = message.fields
            if kind == "run":
                self._batch(rest[0], rest[1], message)
            elif kind == "code":
                self._codes.add(rest[0], message.frames[0])
            else:
                self._codes.remove(rest[0])

    def _fork(self) -> None:
        self._forked = True

    def _batch(self, calls: list[Any], rows: list[list[Any]], message: Message) -> None:
        frames = iter(message.frames)
        self._flushed = time.monotonic()
        for row in rows:
            if row[5] or self._holds_segment or time.monotonic() - self._flushed > FLUSH_S:
                self._flush_some()
            self._one(row, calls[row[2]], frames)
        self._fence.idle()
        self._made.clear()
        self._flush()

    @property
    def _holds_segment(self) -> bool:
        return bool(self._frames) and isinstance(self._frames[-1], Segment)

    def _flush(self) -> None:
        send(self._sock, ["done", self._rows], self._frames)
        self._rows, self._frames = [], []
        self._flushed = time.monotonic()

    def _flush_some(self) -> None:
        if self._rows:
            self._flush()

    def _one(self, row: list[Any], call: list[Any], frames: Iterator[Any]) -> None:
        number, label, _, counts, brief, _, nodes = row
        recipe = None if nodes is None else next(frames)
        inputs = [self._input(count, frames) for count in counts] if counts else []
        there = [value for value in inputs if value is not None] if inputs else []
        if call[WEIGHED]:
            self._fence.weighs(own_memory())
        if self._fence.skips(number) or len(there) < len(inputs):
            self._rows.append([number, 0.0, 0.0, 0])
            return
        self._capture.begin()
        if not brief:
            _reset_peak()
        started = time.time()
        try:
            self._fence.begin(number)
            outcome = self._work(label, call, recipe, nodes or (), there)
            self._fence.end()
        except KeyboardInterrupt as error:  # raised once by the fence, wherever the attempt was
            outcome = failure_of(error)
        ended = time.time()
        if self._forked:  # the function forked, and its child came back here
            os._exit(0)
        self._report(number, started, ended, outcome, None if brief else _peak())

    def _input(self, count: int, frames: Iterator[Any]) -> Frames | None:
        if count < 0:
            return self._made.get(-count)
        return Frames(tuple(islice(frames, count)))

    def _report(self, number: int, started: float, ended: float, outcome: Frames | Failure, peak: int | None) -> None:
        # Nothing can interrupt it here.
        failure = None
        parts: tuple[Part, ...] = ()
        if not isinstance(outcome, Failure):
            outcome = self._settled(outcome)
        if isinstance(outcome, Failure):
            failure = [getattr(outcome, name) for name in _FAILURE_FIELDS]
        else:
            parts = outcome.parts
            self._made[number] = outcome
        row: list[Any] = [number, started, ended, len(parts)]
        log = self._capture.take()
        if log:
            _forget_warnings()
        if log or failure is not None or peak is not None or self._fence.broke_import:
            row += (peak, log, self._fence.broke_import, failure)
        self._rows.append(row)
        self._frames += parts

    def _settled(self, value: Frames) -> Frames | Failure:
        """The value in memory that no function changes: what is large in a segment, small buffers copied."""
        head = value.parts[0]
        if len(value.parts) == 1 and isinstance(head, bytes) and len(head) < SHARED_FROM:
            return value
        try:
            parts = self._segments.share(value.buffers)
        except OSError as error:
            return shortage_failure(value.nbytes, error)
        return Frames(tuple([part if isinstance(part, Segment) else bytes(part) for part in parts]))

    def _work(
        self, label: str, call: list[Any], recipe: memoryview | None, nodes: Sequence[Any], inputs: list[Frames]
    ) -> Frames | Failure:
        """The result, pickled, or why there is none. ``SystemExit`` may come from anything that is unpickled."""
        keys, retry_key, setup, _ = call
        if setup and (failure := self._set_up(setup)) is not None:
            return failure
        try:
            codes = [self._codes.get(key) for key in keys]
            retry_on = self._codes.get(retry_key) if retry_key else Exception
            unpickled = None if recipe is None else pickle.loads(recipe)
        except BaseException as error:
            return code_failure(f"the code of {label!r}", error)
        return execute_pickled(unpickled, codes, inputs, retry_on, *nodes)

    def _set_up(self, keys: list[str]) -> Failure | None:
        """Execute the set-up that was not executed yet."""
        self._fence.sets_up(True)
        try:
            for key in keys:
                self._codes.set_up(key)
        except BaseException as error:
            return set_up_failure(error)
        finally:
            self._fence.sets_up(False)
        return None


def _forget_warnings() -> None:
    """What an attempt was warned of counts as new in the next."""
    with warnings.catch_warnings():
        pass


def run_slot(connection: int, fence: int, log: int) -> NoReturn:
    """Be a slot, in a process that was forked for it, until the agent closes the connection."""
    main = ModuleType("__main__")
    sys.modules["__main__"] = main
    if "" not in sys.path:
        sys.path.insert(0, "")
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, fd in enumerate((nothing, log, log)):
        os.dup2(fd, number)
    os.close(nothing)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - a descriptor, for as long as the process lives
    faulthandler.enable(2)
    logging.root.handlers.clear()  # what the agent set up for itself; functions may call basicConfig
    logging.root.setLevel(logging.WARNING)
    slot = Slot(socket.socket(fileno=connection), Fenced(fence), Capture(log), Codes(vars(main)))
    slot.handle_sigint()
    try:
        slot.hello()
        while True:
            slot.rest()
            slot.serve_once()
    except EOFError:
        os._exit(0)
    except OSError:
        os._exit(CONNECTION_LOST)


def _reset_peak() -> None:
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "wb", buffering=0) as file:
        file.write(b"5")


def _peak() -> int:
    """Most resident memory since ``_reset_peak``, in bytes."""
    with open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
