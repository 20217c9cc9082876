"""Calls to the coordinator of a place: asked on any thread, answered by whichever process coordinates at the time."""

from __future__ import annotations

import itertools
import json
import pickle
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeAlias

from handoff_lab._errors import BackendError
from handoff_lab.coordinator.thread import LoopThread
from handoff_lab.detached.line import Line
from handoff_lab.detached.place import Place
from handoff_lab.store.payload import Frames
from handoff_lab.transport.wire import pack

_REPEATABLE = {
    "available", "cancel", "close", "face", "fetch", "join_file", "node_log", "nodes", "results_of", "runs",
    "set_capabilities",
}  # fmt: skip

Outputs: TypeAlias = queue.SimpleQueue[dict[str, Any] | None]


class CoordinatorLostError(BackendError):
    """The coordinator was killed while it was asked for something."""

    def __init__(self) -> None:
        super().__init__(
            "the detached coordinator was lost before it answered, and another takes its place: "
            "see cluster.runs and cluster.nodes before you ask again"
        )


@dataclass(slots=True)
class _Pending:
    """A call that was not answered yet."""

    future: Future[Any]
    frames: Sequence[bytes]
    again: bool  # whether the next coordinator can be asked instead
    outputs: Outputs | None = None


class Calls:
    """Asks over one connection, and over the next when the coordinator is started again.

    Parameters
    ----------
    hear
        Gets what is no answer: the kind of the message, the number of the call that began it, and the other fields.
    found, given_up
        Called when another coordinator is there, and with the reason when there will be none.
    """

    def __init__(
        self,
        place: Place,
        hear: Callable[[str, int, list[Any]], None],
        found: Callable[[], None],
        given_up: Callable[[str], None],
    ) -> None:
        self._place = place
        self._hear = hear
        self._tell_found = found
        self._given_up = given_up
        self._numbers = itertools.count()
        self._pending: dict[int, _Pending] = {}
        self._thread = LoopThread(f"{place.name} client", self._shut)
        self._line: Line | None = None
        self.on_thread = self._thread.loop.call_soon_threadsafe  # where ``hear`` and the others are called
        self.promise = self._thread.promise

    def open(self) -> None:
        """Connect; raises `BackendError` where nobody answers."""
        self._thread.start()
        welcome = self._thread.promise()

        def open_line() -> None:
            self._line = Line(
                self._thread.loop, self._place, self._take, self._lost, self._found, self._given_up, welcome
            )

        self._thread.call(open_line)
        welcome.result()

    def close(self, wait: bool = True) -> None:
        """Hang up: what was not answered raises."""
        self._thread.close(wait)

    @property
    def closed(self) -> bool:
        """Whether nothing can be asked any more."""
        return self._thread.closing

    def ask(self, verb: str, *arguments: Any) -> Any:
        """Call, and wait for the answer."""
        return self.call(verb, *arguments).result()

    def call(
        self,
        verb: str,
        *arguments: Any,
        frames: Sequence[bytes] = (),
        outputs: Outputs | None = None,
        begun: Callable[[int], None] = lambda number: None,
    ) -> Future[Any]:
        """Call; ``begun`` gets the call's number, on the thread of ``hear`` and before that hears of it."""
        message = [pack("call", number := next(self._numbers), verb, arguments), *frames]
        future = self._thread.promise()

        def send() -> None:
            if self._line is None:
                return  # the thread is ending, and breaks its promises
            self._pending[number] = _Pending(future, message, verb in _REPEATABLE, outputs)
            begun(number)
            self._line.send(message)

        self.on_thread(send)
        return future

    # -- on the thread -----------------------------------------------------------

    def _take(self, kind: str, fields: list[Any], frames: list[bytes]) -> None:
        match kind:
            case "reply" | "value" | "error":
                pending = self._pending.pop(fields[0], None)
                if pending is not None and not pending.future.done():
                    _resolve(pending.future, kind, fields, frames)
            case "output":
                pending = self._pending.get(fields[0])
                if pending is not None and pending.outputs is not None:
                    pending.outputs.put(json.loads(fields[1]))
            case _:
                self._hear(kind, fields[0], fields[1:])

    def _lost(self) -> None:
        """The coordinator is gone, for now: who asked for a change has to see whether it was made."""
        pending = self._pending
        self._pending = {number: call for number, call in pending.items() if call.again}
        for call in pending.values():
            if not call.again and not call.future.done():
                call.future.set_exception(CoordinatorLostError())

    def _found(self) -> None:
        """The next coordinator is there."""
        for call in self._pending.values():
            if self._line is not None:
                self._line.send(call.frames)
        self._tell_found()

    def _shut(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None


def _resolve(future: Future[Any], kind: str, fields: list[Any], frames: list[bytes]) -> None:
    if kind == "reply":
        future.set_result(fields[1][0])
    elif kind == "value":
        future.set_result(Frames(tuple(frames)))
    else:
        future.set_exception(_read_error(frames[0]))


def _read_error(data: bytes) -> Exception:
    try:
        error = pickle.loads(data)
    except Exception as reason:  # its class may not be here
        return BackendError(f"the detached coordinator sent an error that cannot be read here: {reason!r}")
    return error if isinstance(error, Exception) else BackendError(f"the detached coordinator failed: {error!r}")
