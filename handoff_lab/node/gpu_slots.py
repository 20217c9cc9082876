"""Runs functions that claim GPUs: each waits for its share of them, then runs in a slot that sees these alone.

The kernel is one process for all its functions and sees all GPUs: a function there gets the first ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from handoff_lab._units import format_cost
from handoff_lab.messages import (
    Attempt,
    AttemptId,
    Cancelled,
    Failed,
    Failure,
    FailureKind,
    Finished,
    FinishedMany,
    HowToEnd,
    Started,
    Wrote,
)
from handoff_lab.node.bound_slots import BoundSlot, BoundSlots
from handoff_lab.node.kernel import KernelProcess
from handoff_lab.node.launchers import SharedZygote
from handoff_lab.node.listener import Listener
from handoff_lab.node.queue import Queue
from handoff_lab.node.room import Room
from handoff_lab.node.task import Claim, Input, Task
from handoff_lab.resources.devices import Device, Devices, Need, Share, need_of
from handoff_lab.store.payload import Frames
from handoff_lab.store.segments import Buffer

if TYPE_CHECKING:
    from handoff_lab.transport.loop import Loop


class _Asking(Task):
    """An attempt that waits for a share; its claim is what it needs of GPUs."""

    __slots__ = ()

    @property
    def claim(self) -> Claim:
        need = _need(self.attempt)
        return tuple(need._asdict().items())


@dataclass(slots=True)
class _Held:
    """What an attempt holds, and where it runs: in the kernel if in no slot."""

    share: Share
    slot: BoundSlot | None


class GpuSlots:
    """A runner of attempts, and the listener of those who run them for it: everything goes on to ``listener``.

    Parameters
    ----------
    devices
        The node's GPUs, in the order in which it sees them.
    gpus
        How many of them it offers.
    slots
        How many slots may be busy at the same time, beside those for functions without GPUs; one for each GPU at least.
    """

    def __init__(
        self,
        loop: Loop,
        zygote: SharedZygote,
        listener: Listener,
        kernel: KernelProcess,
        room: Room,
        devices: Sequence[Device],
        gpus: float,
        slots: int,
    ) -> None:
        self._loop = loop
        self._listener = listener
        self._kernel = kernel
        self._devices = Devices(devices)
        self._slots = BoundSlots(loop, zygote, self, room, slots, self._wake)
        self._asking: dict[AttemptId, Task] = {}
        self._for_slots, self._for_kernel = Queue(), Queue()
        self._held: dict[AttemptId, _Held] = {}
        self._fill_due = False
        self._closed = False
        self.resize(gpus, slots)

    @property
    def functions(self) -> dict[int, AttemptId]:
        """What runs, by the process in which it does."""
        found: dict[int, AttemptId] = {}
        for id, held in self._held.items():
            pids = [self._kernel.pid] if held.slot is None else held.slot.pool.pids
            found |= {pid: id for pid in pids if pid is not None}
        return found

    def resize(self, gpus: float, slots: int) -> None:
        """Offer so many GPUs, and have so many slots busy at most, or one for each GPU."""
        self._devices.resize(gpus)
        self._most = max(slots, math.ceil(gpus))
        self._wake()

    def load(self, codes: Mapping[str, Buffer]) -> None:
        """Keep pickled code for attempts that name it."""
        self._slots.load(codes)

    def unload(self, keys: Sequence[str]) -> None:
        """Forget code that is not needed any more."""
        self._slots.unload(keys)

    def run(self, attempt: Attempt, inputs: Sequence[Input]) -> None:
        """Let an attempt wait for its share; see ``SlotPool.run``."""
        if not self._devices.could_hold(_need(attempt)):
            message = f"its node sees no GPUs that hold {format_cost(attempt.cost)}; gpu_memory must be there on each"
            self._listener.failed(Failed(attempt.id, Failure(FailureKind.UNSUPPORTED, message, retryable=False)))
            return
        task = self._asking[attempt.id] = _Asking(attempt, inputs, None)
        (self._for_kernel if attempt.runs_in == "kernel" else self._for_slots).push(task)
        self._wake()

    def cancel(self, id: AttemptId, how: HowToEnd = "interrupt") -> None:
        """End an attempt; see ``SlotPool.cancel``."""
        task, held = self._asking.pop(id, None), self._held.get(id)
        if task is not None:
            task.queued = False
            self._listener.cancelled(Cancelled(id))
        elif held is not None:
            (self._kernel if held.slot is None else held.slot.pool).cancel(id, how)

    def close(self) -> None:
        """End all slots; nothing is reported any more."""
        self._closed = True
        self._slots.close()
        self._asking.clear()
        self._held.clear()

    # -- shares ----------------------------------------------------------------

    def _wake(self) -> None:
        if not self._fill_due and not self._closed:
            self._fill_due = True
            self._loop.call_soon(self._fill)

    def _fill(self) -> None:
        self._fill_due = False
        if all(held.slot is not None for held in self._held.values()):
            self._start_next(self._for_kernel, in_kernel=True)
        while self._slots.busy < self._most and self._start_next(self._for_slots, in_kernel=False):
            pass

    def _start_next(self, queue: Queue, *, in_kernel: bool) -> bool:
        """Start the most urgent attempt of a queue that there is a share for; whether one was started."""
        line = queue.best(lambda claim: self._devices.find(_read(claim), in_kernel) is not None)
        head = None if line is None or self._closed else line.head()
        if line is None or head is None:
            return False
        task = head[2]
        attempt = task.attempt
        share = self._devices.find(_need(attempt), in_kernel)
        assert share is not None, "it fits"
        if not self._slots.is_clear(share, of_all=in_kernel):
            return False  # it is soon
        line.pop()
        queue.served(attempt.id.run)
        del self._asking[attempt.id]
        self._devices.take(_need(attempt), in_kernel)
        slot = None if in_kernel else self._slots.engage(share)
        self._held[attempt.id] = _Held(share, slot)
        inputs = [value for value in task.inputs if isinstance(value, Frames)]
        (self._kernel if slot is None else slot.pool).run(attempt, inputs)
        return True

    def _over(self, id: AttemptId) -> None:
        held = self._held.pop(id, None)
        if held is None:
            return  # it is another's, in the kernel
        self._devices.give_back(held.share)
        if held.slot is not None:
            self._slots.rest(held.slot)
        self._wake()

    # -- what those who run attempts say -----------------------------------------

    def started(self, event: Started) -> None:
        """An attempt began."""
        self._listener.started(event)

    def finished(self, event: Finished, value: Frames) -> None:
        """An attempt made its result."""
        self._over(event.id)
        self._listener.finished(event, value)

    def finished_many(self, event: FinishedMany, ids: Sequence[AttemptId], values: Sequence[Frames]) -> None:
        """Brief attempts made their results."""
        for id in ids:
            self._over(id)
        self._listener.finished_many(event, ids, values)

    def failed(self, event: Failed) -> None:
        """An attempt failed."""
        self._over(event.id)
        self._listener.failed(event)

    def cancelled(self, event: Cancelled) -> None:
        """An attempt was ended."""
        self._over(event.id)
        self._listener.cancelled(event)

    def wrote(self, event: Wrote) -> None:
        """A running attempt wrote something."""
        self._listener.wrote(event)


def _need(attempt: Attempt) -> Need:
    need = need_of(attempt.cost)
    assert need is not None, "what needs no GPU runs elsewhere"
    return need


def _read(claim: Claim) -> Need:
    return Need(**dict(claim or ()))
