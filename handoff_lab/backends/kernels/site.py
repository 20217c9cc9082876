"""What lets another process take the place of a coordinator that was killed: nodes find it where the first one was."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from handoff_lab.transport.keys import KeyPair


class Expected(NamedTuple):
    """A key with which one node may join once."""

    public_key: str
    until: float | None  # wall-clock seconds; None: it is that of a node that is there, and holds for a lease
    own: bool  # it is the node's own, which was here before; else an invitation's


@dataclass(frozen=True, slots=True)
class Site:
    """Where a coordinator listens for nodes, and the keys that go with it.

    ``lease_s`` is how long nodes wait for the next one, in seconds.
    """

    lease_s: float
    server: KeyPair = field(default_factory=KeyPair.generate)
    joiner: KeyPair = field(default_factory=KeyPair.generate)
    port: int | None = None  # None: not chosen yet
    directory: Path | None = None  # shared with the nodes of this machine; None: not made yet
    expected: tuple[Expected, ...] = ()  # besides those who have the join file
