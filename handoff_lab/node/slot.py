"""The process in which functions run: takes batches of attempts from its agent, sends outcomes back.

A row of an attempt, in a ``run`` message: number, label, keys of code, number of frames of each input, key of
``retry_on``, keys of set-up, whether it is expected to be brief, whether to send what is done before it begins, and for
one with a recipe, whose pickle comes before the inputs' frames, ``[nodes of the inputs, node]``.

A row of an outcome: number, started, ended, peak memory, log, whether the slot is spoilt, number of frames, failure.
Both ends count frames; see ``channel`` for the messages themselves.
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
from collections.abc import Iterator
from dataclasses import fields
from types import ModuleType
from typing import Any, NoReturn

from handoff_lab._loading import loading
from handoff_lab.messages import Attempt, AttemptId, Failure, Source
from handoff_lab.node.channel import Message, Receiver, send
from handoff_lab.node.codes import Codes
from handoff_lab.node.execution import execute
from handoff_lab.node.failures import code_failure, failure_of, input_failure, result_failure
from handoff_lab.node.fence import Fenced
from handoff_lab.node.output import Capture
from handoff_lab.store.payload import Frames
from handoff_lab.store.segments import Part, Segment, SegmentMaker

FLUSH_S = 0.005  # outcomes of brief functions wait this long for company
IDLE_S = 5.0  # memory for the next large values is kept this long
BRIEF_S = 0.001  # a function that takes less is brief: many travel in one message
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
        self._flushed = 0.0
        self._pid = os.getpid()

    def hello(self) -> None:
        """Say that this process is ready, and give the agent a handle on it that can't be mistaken."""
        handle = os.pidfd_open(self._pid)
        send(self._sock, ["hello", self._pid], fds=[handle])
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
            if kind == "code":
                self._codes.add(rest[0], message.frames[0])
            else:
                self._batch(rest[0], message)

    def _batch(self, rows: list[list[Any]], message: Message) -> None:
        frames = iter(message.frames)
        self._flushed = time.monotonic()
        for row in rows:
            if row[7] or self._holds_segment or time.monotonic() - self._flushed > FLUSH_S:
                self._flush_some()
            self._one(row, frames)
        self._fence.idle()
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

    def _one(self, row: list[Any], frames: Iterator[Any]) -> None:
        number, brief = row[0], row[6]
        recipe = next(frames) if row[8] else None
        inputs = [[next(frames) for _ in range(count)] for count in row[3]]
        if self._fence.skips(number):
            self._rows.append([number, 0.0, 0.0, None, "", False, 0, None])
            return
        self._capture.begin()
        with warnings.catch_warnings():
            pass  # what was warned of in an earlier attempt counts as new
        if not brief:
            _reset_peak()
        started = time.time()
        try:
            self._fence.begin(number)
            outcome = self._work(row, recipe, inputs)
            self._fence.end()
        except KeyboardInterrupt as error:  # raised once by the fence, wherever the attempt was
            outcome = failure_of(error)
        ended = time.time()
        if os.getpid() != self._pid:  # the function forked, and its child came back here
            os._exit(0)
        failure = None
        parts: tuple[Part, ...] = ()
        if isinstance(outcome, Failure):
            failure = [getattr(outcome, name) for name in _FAILURE_FIELDS]
        else:
            parts = self._segments.share(outcome.buffers)  # nothing can interrupt it here
        peak = None if brief else _peak()
        log = self._capture.take()
        self._rows.append([number, started, ended, peak, log, self._fence.broke_import, len(parts), failure])
        self._frames += parts

    def _work(self, row: list[Any], recipe: memoryview | None, inputs: list[list[Part]]) -> Frames | Failure:
        """The result, pickled, or why there is none. ``SystemExit`` may come from anything that is unpickled."""
        _, label, keys, _, retry_key, setup, _, _, nodes = row
        try:
            for key in setup:
                self._codes.set_up(key)
            codes = [self._codes.get(key) for key in keys]
            retry_on = self._codes.get(retry_key) if retry_key else Exception
            attempt = _attempt(label, recipe, nodes) if recipe is not None else _PLAIN
        except BaseException as error:
            return code_failure(f"the code of {label!r}", error)
        values = []
        for position, parts in enumerate(inputs):
            try:
                with loading():
                    values.append(Frames(tuple(parts)).load())
            except BaseException as error:
                return input_failure(position, error)
        outcome = execute(attempt, codes, values, retry_on)
        if isinstance(outcome, Failure):
            return outcome
        try:
            return Frames.dump(outcome.value)
        except BaseException as error:
            return result_failure(outcome.value, error)


_NOBODY = AttemptId("", 0, 0)
_PLAIN = Attempt(_NOBODY, "", "", ())


def _attempt(label: str, recipe: memoryview, nodes: list[Any]) -> Attempt:
    sources, node = nodes
    inputs = tuple(Source(_NOBODY, source) for source in sources)
    return Attempt(_NOBODY, node, label, (), inputs, pickle.loads(recipe))


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
