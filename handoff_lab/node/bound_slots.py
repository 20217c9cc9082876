"""Slots that see certain GPUs alone, each from the start of its process to its end.

What CUDA sees of GPUs when it is first used in a process stays so. A slot is kept for the next function with the same
GPUs, with its modules and its CUDA context, until one of them is wanted whole by another or nothing came for long.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from handoff_lab.node.launchers import Branch, SharedZygote
from handoff_lab.node.listener import Listener
from handoff_lab.node.pool import SlotPool
from handoff_lab.node.room import Room
from handoff_lab.resources.devices import Share
from handoff_lab.resources.gpus import sight_of
from handoff_lab.store.segments import Buffer

if TYPE_CHECKING:
    from handoff_lab.transport.loop import Loop, Timer

IDLE_S = 60.0  # a slot that nothing came for gives back what it has on its GPUs


@dataclass(slots=True, eq=False)
class BoundSlot:
    """A slot that sees these GPUs, as a pool of its own."""

    ids: tuple[str, ...]
    number: int
    launcher: Branch
    pool: SlotPool
    timer: Timer | None = None  # runs while the slot is idle

    def sees_any(self, ids: Sequence[str]) -> bool:
        """Whether it sees one of these GPUs."""
        return not set(ids).isdisjoint(self.ids)


class BoundSlots:
    """All that there are, busy or idle.

    Parameters
    ----------
    first
        The number of the first slot.
    on_gone
        Called when one that was ended has left its GPUs.
    """

    def __init__(
        self,
        loop: Loop,
        zygote: SharedZygote,
        listener: Listener,
        room: Room,
        first: int,
        on_gone: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._zygote = zygote
        self._listener = listener
        self._room = room
        self._first = first
        self._on_gone = on_gone
        self._codes: dict[str, Buffer] = {}
        self._slots: list[BoundSlot] = []
        self._leaving: list[BoundSlot] = []  # that were ended, and are not gone

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def busy(self) -> int:
        """How many have something to do."""
        return sum(slot.timer is None for slot in self._slots)

    def load(self, codes: Mapping[str, Buffer]) -> None:
        """Keep pickled code for attempts that name it."""
        self._codes.update(codes)
        for slot in self._slots:
            slot.pool.load(codes)

    def unload(self, keys: Sequence[str]) -> None:
        """Forget code that is not needed any more."""
        for key in keys:
            self._codes.pop(key, None)
        for slot in self._slots:
            slot.pool.unload(keys)

    def close(self) -> None:
        """End all."""
        for slot in list(self._slots):
            self._end(slot)

    def is_clear(self, share: Share, *, of_all: bool) -> bool:
        """Whether nobody else has memory on GPUs that are wanted whole.

        What idles there ends, but for one slot that can serve the share itself, unless it is to be clear ``of_all``.
        """
        kept = None if of_all else self._idle_with(share.ids)
        for slot in list(self._slots):
            if slot.timer is not None and slot is not kept and slot.sees_any(share.whole):
                self._end(slot)
        return not any(slot.sees_any(share.whole) for slot in self._leaving)

    def engage(self, share: Share) -> BoundSlot:
        """A slot that sees these GPUs alone: an idle one, or a new one."""
        slot = self._idle_with(share.ids)
        if slot is None:
            return self._new(share.ids)
        assert slot.timer is not None
        slot.timer.cancel()
        slot.timer = None
        return slot

    def rest(self, slot: BoundSlot) -> None:
        """The slot has nothing to do any more."""
        slot.timer = self._loop.call_later(IDLE_S, lambda: self._end(slot))

    def _idle_with(self, ids: tuple[str, ...]) -> BoundSlot | None:
        return next((slot for slot in self._slots if slot.timer is not None and slot.ids == ids), None)

    def _new(self, ids: tuple[str, ...]) -> BoundSlot:
        taken = {slot.number for slot in self._slots}
        number = next(number for number in itertools.count(self._first) if number not in taken)
        launcher = self._zygote.launcher(sight_of(ids), lambda: self._has_left(slot))
        pool = SlotPool(self._loop, launcher, self._listener, 1, lambda reason: None, self._room, first=number)
        pool.load(self._codes)
        slot = BoundSlot(ids, number, launcher, pool)
        self._slots.append(slot)
        return slot

    def _end(self, slot: BoundSlot) -> None:
        if slot.timer is not None:
            slot.timer.cancel()
        self._slots.remove(slot)
        if slot.launcher.alive:
            self._leaving.append(slot)
        slot.pool.close()

    def _has_left(self, slot: BoundSlot) -> None:
        if slot in self._leaving:
            self._leaving.remove(slot)
            self._on_gone()
