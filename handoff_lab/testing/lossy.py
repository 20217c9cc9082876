"""Simulated nodes behind bad lines: what is told to them and what they tell crosses in real streams, with faults."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from handoff_lab.backends.simulated import SimulatedBackend
from handoff_lab.messages import (
    Attempt,
    AttemptId,
    BackendEvent,
    Cancelled,
    Failed,
    Finished,
    HowToEnd,
    NodeJoined,
    NodeLost,
)
from handoff_lab.store.segments import Buffer
from handoff_lab.testing.faults import Faults
from handoff_lab.transport.loop import Timer
from handoff_lab.transport.stream import Stream, message_in

_NUMBER = struct.Struct("<Q")


class LossyBackend(SimulatedBackend):
    """A simulated backend, each node of which is reached over a line of its own.

    Parameters
    ----------
    faults
        What befalls messages on all lines.
    latency_s
        Seconds that a message takes when nothing befalls it.
    options
        As `SimulatedBackend` takes them.
    """

    def __init__(
        self, nodes: Mapping[str, Mapping[str, float]], faults: Faults, *, latency_s: float = 0.01, **options: Any
    ) -> None:
        super().__init__(nodes, **options)
        self._faults = faults
        self._latency_s = latency_s
        self._lines: dict[str, _Line] = {}
        self._places: dict[AttemptId, str] = {}  # nodes of attempts that have not ended, as far as is known here
        self._failed: set[AttemptId] = set()

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """As a loop does it, in virtual time."""
        timer = Timer(self.now + seconds, callback)
        self.at(timer.due, lambda: timer.callback() if timer.callback is not None else None)
        return timer

    def deliver(self, kind: str, arrived: Callable[[], None]) -> None:
        """Have a message arrive, or not, or twice."""
        for delay in self._faults.fates(kind):
            self.at(self.now + self._latency_s + delay, arrived)

    # -- to the nodes ------------------------------------------------------------

    def add_node(self, name: str, capabilities: Mapping[str, float], labels: Mapping[str, str]) -> None:
        """Add a node, and a line to it."""
        self._lines[name] = _Line(self, lambda command: self._obey(name, *command), self._hear)
        super().add_node(name, capabilities, labels)

    def lose_node(self, name: str, reason: str, *, expected: bool = False) -> None:
        """Have a node vanish, with what is under way on its line."""
        super().lose_node(name, reason, expected=expected)
        self._lines.pop(name).close()
        self._places = {id: node for id, node in self._places.items() if node != name}

    def submit(self, attempts: Sequence[Attempt]) -> None:
        """Send attempts to their nodes."""
        for attempt in attempts:
            if attempt.node in self._lines:
                self._places[attempt.id] = attempt.node
                self._lines[attempt.node].down("submit", attempt)

    def cancel(self, id: AttemptId, how: HowToEnd) -> None:
        """Tell an attempt's node to end it."""
        node = self._places.get(id)
        if node is not None:
            self._lines[node].down("cancel", id, how)

    def free(self, keys: Iterable[AttemptId]) -> None:
        """Tell all nodes to forget results."""
        keys = list(keys)
        for line in self._lines.values():
            line.down("free", keys)

    def forget(self, run: str) -> None:
        """Tell all nodes to forget the results of a run."""
        for line in self._lines.values():
            line.down("forget", run)

    def _obey(self, node: str, kind: str, *fields: Any) -> None:
        match kind, *fields:
            case "submit", attempt:
                super().submit([attempt])
                for source in attempt.inputs:
                    if source.key in self._failed:
                        self._give_up(source.key)
            case "cancel", id, how:
                super().cancel(id, how)
            case "free", keys:
                super().free([key for key in keys if self._results.get(key, ("",))[0] == node])
            case "forget", run:
                super().free([key for key, (place, _) in self._results.items() if place == node and key.run == run])

    def _give_up(self, key: AttemptId) -> None:
        self._failed.add(key)  # those who will wait for it may still be on their way
        super()._give_up(key)

    # -- from the nodes ----------------------------------------------------------

    def _tell(self, name: str, event: BackendEvent) -> None:
        if isinstance(event, NodeJoined | NodeLost):
            super()._tell(name, event)  # not said by the node
        else:
            self._lines[name].up(type(event).__name__, event)

    def _hear(self, event: BackendEvent) -> None:
        if isinstance(event, Finished | Failed | Cancelled):
            self._places.pop(event.id, None)
        self._heard.append(event)


class _Line:
    """Two ends of a stream. Objects stay here; their numbers cross."""

    def __init__(
        self, backend: LossyBackend, at_node: Callable[[Any], None], at_coordinator: Callable[[Any], None]
    ) -> None:
        self._backend = backend
        self._letters: list[tuple[str, Any]] = []  # kind and content
        self._near = Stream(backend, lambda frames: self._carry(frames, self._far, at_node))
        self._far = Stream(backend, lambda frames: self._carry(frames, self._near, at_coordinator))
        self._closed = False

    def down(self, kind: str, *fields: Any) -> None:
        """To the node."""
        self._post(self._near, kind, (kind, *fields))

    def up(self, kind: str, event: BackendEvent) -> None:
        """To the coordinator."""
        self._post(self._far, kind, event)

    def close(self) -> None:
        """Let nothing arrive any more."""
        self._closed = True
        self._near.close()
        self._far.close()

    def _post(self, end: Stream, kind: str, letter: Any) -> None:
        self._letters.append((kind, letter))
        end.send(_NUMBER.pack(len(self._letters) - 1))

    def _carry(self, frames: Sequence[Any], other: Stream, arrived: Callable[[Any], None]) -> None:
        def take() -> None:
            if not self._closed:
                for message in other.take(frames):
                    arrived(self._letter(message[0])[1])

        number = message_in(frames[0])
        self._backend.deliver(self._letter(number)[0] if number else "acknowledgement", take)

    def _letter(self, number: Buffer) -> tuple[str, Any]:
        at: int = _NUMBER.unpack(number)[0]
        return self._letters[at]
