"""The GPUs of a node, and who has which part of them: decides, starts nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from handoff_lab.resources.amounts import SLACK

_WHOLE = 10**6  # shares are counted in millionths, so that what was taken and given back leaves nothing
_SPECK = 1e-6  # MB that rounding may lose, beside the slack of any claim


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU.

    Parameters
    ----------
    id
        Its name in ``CUDA_VISIBLE_DEVICES``: a number or a UUID.
    memory
        MB that it has.
    """

    id: str
    memory: float = math.inf


class Need(NamedTuple):
    """What a function needs of GPUs: how many (a fraction of one, or some and a fraction), and MB on each."""

    gpus: float
    memory: float = 0.0


@dataclass(frozen=True, slots=True)
class Share:
    """What was taken of GPUs, to be given back: the ids of those taken wholly come first."""

    whole: tuple[str, ...]
    part: str | None = None  # the id of one that others may have parts of, too
    millionths: int = 0  # of that one
    memory: float = 0.0  # MB of that one

    @property
    def ids(self) -> tuple[str, ...]:
        """All of them."""
        return self.whole if self.part is None else (*self.whole, self.part)


@dataclass(slots=True)
class _Left:
    """What is free of a device."""

    device: Device
    millionths: int = _WHOLE
    memory: float = field(init=False)
    holders: int = 0

    def __post_init__(self) -> None:
        self.memory = self.device.memory

    def has(self, millionths: int, memory: float) -> bool:
        return self.millionths >= millionths and _enough(self.memory, memory)


class Devices:
    """The ledger of a node's GPUs.

    Whole GPUs are given to one function alone. Parts of one are packed: each goes to the GPU with the least room that
    is enough, so that whole ones stay free.

    Parameters
    ----------
    devices
        In the order in which they are given out.

    Examples
    --------
    >>> devices = Devices([Device("0"), Device("1")])
    >>> half, other, one = devices.take(Need(0.5)), devices.take(Need(0.5)), devices.take(Need(1))
    >>> half.ids, other.ids, one.ids
    (('0',), ('0',), ('1',))
    >>> devices.give_back(one)
    >>> devices.take(Need(2)) is None
    True
    """

    def __init__(self, devices: Sequence[Device]) -> None:
        self._left = {device.id: _Left(device) for device in devices}
        self._offered = len(self._left)

    def resize(self, gpus: float) -> None:
        """Give out of the first so many alone; what is taken of the others stays taken."""
        self._offered = math.ceil(gpus)

    def could_hold(self, need: Need) -> bool:
        """Whether the GPUs would be enough if all were offered and nobody had any of them."""
        return sum(_enough(left.device.memory, need.memory) for left in self._left.values()) >= _count(need)

    def find(self, need: Need, first: bool = False) -> Share | None:
        """The share that ``take`` would take now."""
        whole, millionths = _parts(need.gpus)
        among = list(self._left.values())[: min(self._offered, _count(need)) if first else self._offered]
        untouched = [left for left in among if not left.holders and _enough(left.memory, need.memory)]
        if len(untouched) < whole:
            return None
        taken = tuple([left.device.id for left in untouched[:whole]])
        if whole and not millionths:
            return Share(taken)
        roomy = [left for left in among if left.device.id not in taken and left.has(millionths, need.memory)]
        if not roomy:
            return None
        tightest = min(roomy, key=lambda left: (left.millionths, left.memory))
        return Share(taken, tightest.device.id, millionths, need.memory)

    def take(self, need: Need, first: bool = False) -> Share | None:
        """A share that is enough, now taken; None if there is no room.

        ``first``: of the first GPUs alone, those that a process which sees all of them uses by itself.
        """
        share = self.find(need, first)
        if share is not None:
            for id in share.whole:
                left = self._left[id]
                left.millionths, left.memory, left.holders = 0, -1.0, 1
            if share.part is not None:
                self._add(share, -1)
        return share

    def give_back(self, share: Share) -> None:
        """Free what was taken."""
        for id in share.whole:
            left = self._left[id]
            left.millionths, left.memory, left.holders = _WHOLE, left.device.memory, 0
        if share.part is not None:
            self._add(share, +1)

    def free(self) -> dict[str, float]:
        """How much of each GPU is free, from 0 to 1."""
        return {id: left.millionths / _WHOLE for id, left in self._left.items()}

    def _add(self, share: Share, sign: int) -> None:
        assert share.part is not None
        left = self._left[share.part]
        left.millionths += sign * share.millionths
        left.holders -= sign
        left.memory = left.memory + sign * share.memory if left.holders else left.device.memory


def need_of(cost: Mapping[str, float]) -> Need | None:
    """What a function with this cost needs of GPUs, if anything.

    >>> need_of({"cpu": 1}), need_of({"gpu": 0.5, "gpu_memory": 4000})
    (None, Need(gpus=0.5, memory=4000))
    """
    gpus, memory = cost.get("gpu", 0), cost.get("gpu_memory", 0)
    return Need(gpus, memory) if gpus or memory else None


def _enough(memory: float, amount: float) -> bool:
    return amount <= memory * SLACK + _SPECK


def _parts(gpus: float) -> tuple[int, int]:
    """How many whole GPUs, and how many millionths of another: rounded down, so that three thirds fit."""
    return divmod(max(1, int(gpus * _WHOLE + 1e-3)) if gpus else 0, _WHOLE)


def _count(need: Need) -> int:
    """How many GPUs; what needs nothing but memory needs one to have it on."""
    whole, millionths = _parts(need.gpus)
    return whole + (millionths > 0 or not whole)
