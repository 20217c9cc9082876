"""Nodes that came back to a coordinator: what they have and what runs there, and what of that they are to keep."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from handoff_lab.messages import AttemptId
from handoff_lab.node.tether import Memory
from handoff_lab.transport.rows import read_events
from handoff_lab.transport.wire import pack


@dataclass(slots=True)
class Held:
    """What one node has; ``is_all``: it has said everything."""

    memory: Memory = field(default_factory=Memory)
    is_all: bool = False


class Returning:
    """Gathers what nodes say for as long as ``gathers``; later, a node that comes back is to keep nothing."""

    def __init__(self, send: Callable[[str, bytes], None]) -> None:
        self._send = send
        self.gathers = False
        self.told: Callable[[], None] = lambda: None  # called when a node has said all
        self.held: dict[str, Held] = {}

    def received(self, node: str, finished: Sequence[Any], started: Sequence[Any], is_all: int) -> None:
        """Take what a node that came back says."""
        if self.gathers:
            self.note(node, [*finished, *started])
            self.held[node].is_all = bool(is_all)
        if is_all and self.gathers:
            self.told()
        elif is_all:
            self.keep(node, ())

    def note(self, node: str, rows: Sequence[Any]) -> None:
        """Take what happens on a node before it is known what it is to keep."""
        memory = self.held.setdefault(node, Held()).memory
        for event in read_events(list(rows)):
            memory.note(event)

    def keep(self, node: str, ids: Iterable[AttemptId]) -> None:
        """Let a node drop everything that it had but these."""
        self._send(node, pack("keep", list(ids)))

    def lost(self, node: str) -> None:
        """A node that had come back is gone again."""
        self.held.pop(node, None)
