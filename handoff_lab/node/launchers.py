"""One zygote for several pools of slots, whose processes see different environments."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from handoff_lab.node.zygote import Launcher, Zygote

if TYPE_CHECKING:
    from handoff_lab.transport.loop import Loop

Died: TypeAlias = Callable[[int, int], None]


class SharedZygote:
    """Makes a ``Launcher`` for each pool, and tells each of the deaths of its own."""

    def __init__(self, loop: Loop, zygote: Zygote, lost: Callable[[str], None]) -> None:
        self._zygote = zygote
        self._numbers = itertools.count()
        self._pools: dict[int, tuple[Died, int]] = {}  # who is told of a death, and the slot's number there
        zygote.watch(loop, self._died, lost)

    def launcher(self, environment: Mapping[str, str], gone: Callable[[], None] = lambda: None) -> Branch:
        """A launcher of processes with these variables in their environment; it never tells that it is lost.

        ``gone`` is called whenever the last of them has died and no other took its place.
        """
        return Branch(self, environment, gone)

    def launch(self, slot: int, fds: Sequence[int], environment: Mapping[str, str], died: Died) -> None:
        """Start a process; see ``Launcher``."""
        number = next(self._numbers)
        self._zygote.launch(number, fds, environment)
        self._pools[number] = died, slot

    def _died(self, number: int, status: int) -> None:
        died, slot = self._pools.pop(number)
        died(slot, status)


class Branch(Launcher):
    """The launcher of one pool; ``alive`` counts its processes."""

    def __init__(self, trunk: SharedZygote, environment: Mapping[str, str], gone: Callable[[], None]) -> None:
        self._trunk = trunk
        self._environment = environment
        self._gone = gone
        self._told: Died = lambda slot, status: None
        self.alive = 0

    def watch(self, loop: Loop, died: Died, lost: Callable[[str], None]) -> None:
        """See ``Launcher``."""
        self._told = died

    def launch(self, slot: int, fds: Sequence[int]) -> None:
        """See ``Launcher``."""
        self._trunk.launch(slot, fds, self._environment, self._died)
        self.alive += 1

    def _died(self, slot: int, status: int) -> None:
        self.alive -= 1
        self._told(slot, status)
        if not self.alive:
            self._gone()
