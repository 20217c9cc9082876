"""What a user asks of nodes, and sees of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from handoff_lab._errors import BackendError
from handoff_lab._names import name_fault
from handoff_lab._units import format_amount
from handoff_lab.messages import GpuLoad, NodeInfo, NodeLoad
from handoff_lab.resources import Resources, parse_capabilities, probe_machine

Capabilities: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Node:
    """A node as it was when it was looked at.

    Attributes
    ----------
    capabilities, available, used : Resources
        What it has, what is free, what running functions claim. Memory in MB.
    pid : int
        The process id of its agent, on ``host``.
    status : {"up", "draining"}
        A node that drains takes nothing new.
    last_seen : float
        When it last said anything, in wall-clock seconds.
    connection_file : str
        Of its Jupyter kernel: ``jupyter console --existing FILE`` opens a console in it.
    load : Resources or None
        What its processes really use, cpu in cores and memory in MB; None until it was measured. Of ``gpu`` and
        ``gpu_memory`` it is what anybody uses.
    gpus : tuple
        How busy each of its GPUs is: ``gpu`` (its id), ``percent``, ``memory`` and ``total`` in bytes, and what
        functions of this cluster have of it.
    """

    name: str
    host: str
    pid: int
    capabilities: Resources
    available: Resources
    used: Resources
    status: Literal["up", "draining"]
    last_seen: float
    versions: Mapping[str, str]
    labels: Mapping[str, str]
    connection_file: str
    load: Resources | None = None
    gpus: tuple[GpuLoad, ...] = ()

    def __repr__(self) -> str:
        has = self.capabilities.items()
        free = [f"{r} {format_amount(r, self.available[r])} of {format_amount(r, amount)}" for r, amount in has]
        return f"<Node {self.name!r} on {self.host}: {self.status}; free: {', '.join(free) or 'nothing'}>"


def name_nodes(nodes: int | Sequence[Capabilities] | Mapping[str, Capabilities] | None) -> dict[str, Resources]:
    """Names and capabilities of the nodes that a user asks for."""
    if nodes is None:
        return {"node-1": probe_machine()}
    if isinstance(nodes, Mapping):
        for name in nodes:
            if not isinstance(name, str):
                raise TypeError(f"nodes: {name!r} is no name; nodes are named by strings")
            if fault := name_fault(name, "node"):
                raise BackendError(fault)
        return {name: parse_capabilities(capabilities) for name, capabilities in nodes.items()}
    if isinstance(nodes, int):
        if nodes < 0:
            raise ValueError(f"nodes is {nodes}; it must be at least 0")
        machine, each = probe_machine(), max(nodes, 1)
        share = {k: max(1.0, v // each) if k == "cpu" else v / each for k, v in machine.items() if "gpu" not in k}
        if gpus := machine["gpu"]:
            share["gpu"] = gpus // each or gpus / each
            share["gpu_memory"] = machine["gpu_memory"] * share["gpu"] / gpus
        return {f"node-{i}": parse_capabilities(share) for i in range(1, nodes + 1)}
    given: object = nodes
    if not isinstance(given, list | tuple) or not all(isinstance(capabilities, Mapping) for capabilities in given):
        raise TypeError(f"nodes is {nodes!r}; give a number, a list of capabilities or {{name: capabilities}}")
    return {f"node-{i}": parse_capabilities(capabilities) for i, capabilities in enumerate(nodes, 1)}


def node_of(info: NodeInfo, used: Resources, draining: bool, last_seen: float, load: NodeLoad | None) -> Node:
    capabilities = parse_capabilities(info.capabilities)
    return Node(
        info.name,
        info.host,
        info.pid,
        capabilities,
        capabilities - used,
        used,
        "draining" if draining else "up",
        last_seen,
        info.versions,
        info.labels,
        info.connection_file,
        None if load is None else _used_by(load),
        () if load is None else load.gpus,
    )


def _used_by(load: NodeLoad) -> Resources:
    used = {"cpu": load.cpu_percent / 100, "memory": load.memory / 10**6}
    if load.gpus:
        used["gpu"] = sum(gpu.percent or 0.0 for gpu in load.gpus) / 100
        used["gpu_memory"] = sum(gpu.memory for gpu in load.gpus) / 10**6
    return Resources(used)
