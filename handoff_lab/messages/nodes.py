"""What nodes are, and what is told of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from handoff_lab.messages.attempts import AttemptId


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """What a node says of itself when it joins."""

    name: str
    capabilities: Mapping[str, float]
    slots: int  # functions that it really runs at the same time
    host: str = ""
    pid: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    connection_file: str = ""
    keeps_ledger: bool = False  # it takes functions before their inputs and room for their costs are there


@dataclass(frozen=True, slots=True)
class NodeJoined:
    """A node is there and can run functions."""

    info: NodeInfo


@dataclass(frozen=True, slots=True)
class NodeChanged:
    """A node's capabilities changed."""

    name: str
    capabilities: Mapping[str, float]
    slots: int


@dataclass(frozen=True, slots=True)
class NodeLost:
    """A node is gone, with all its attempts and results. ``expected``: it was asked to go."""

    name: str
    reason: str
    expected: bool = False


@dataclass(frozen=True, slots=True)
class GpuUse:
    """What an attempt's process has of a GPU: percent of its time, bytes of its memory; None is unknown."""

    id: AttemptId
    percent: float | None
    memory: int | None


@dataclass(frozen=True, slots=True)
class GpuLoad:
    """How busy a GPU is, by whomever: percent of its time (None: unknown), bytes of memory, and how many it has."""

    gpu: str  # as in CUDA_VISIBLE_DEVICES
    percent: float | None
    memory: int
    total: int
    functions: tuple[GpuUse, ...] = ()  # of this cluster


@dataclass(frozen=True, slots=True)
class NodeLoad:
    """What a node really uses now: percent of one core, bytes of memory; and its GPUs."""

    name: str
    cpu_percent: float
    memory: int
    gpus: tuple[GpuLoad, ...] = ()
