"""What a node says of itself: what it has, where it is, and its versions."""

from __future__ import annotations

import logging
import math
import os
import socket
from collections.abc import Mapping

from handoff_lab.messages import NodeInfo
from handoff_lab.node.options import NodeOptions
from handoff_lab.resources import Resources, probe_machine
from handoff_lab.resources.devices import Device
from handoff_lab.resources.gpus import find_gpus, why_only_counted
from handoff_lab.resources.probe import probe_memory
from handoff_lab.store.segments import KEPT_BYTES
from handoff_lab.transport.hello import own_versions

log = logging.getLogger(__name__)

STORE_SHARE = 0.6  # of a node's memory is for results, as long as nothing else is said


def capabilities_of(options: NodeOptions) -> Resources:
    """What the node offers: all that it was given, or what this machine has with single amounts set over it."""
    if options.capabilities is not None:
        return options.capabilities
    found = probe_machine()
    if found["gpu"] and "gpu" in options.resources:  # an equal share of the memory goes with each
        share = min(1.0, options.resources["gpu"] / found["gpu"])
        found = Resources({**found, "gpu_memory": found["gpu_memory"] * share})
    return Resources({**found, **options.resources})


def slots_of(capabilities: Mapping[str, float]) -> int:
    """Functions that a node with these capabilities runs at the same time: its whole cpus, at least one."""
    return max(1, int(capabilities.get("cpu", 1)))


def gpus_of(capabilities: Mapping[str, float]) -> tuple[Device, ...]:
    """The GPUs that the node hands out to functions that claim them.

    None if it says that it has more than are known: then it counts claims, and functions see what the node sees.
    """
    if not (gpus := capabilities.get("gpu", 0)):
        return ()
    found = find_gpus()
    if found and gpus > len(found):
        log.warning("it offers %g GPUs and sees %d: functions are not told which to use", gpus, len(found))
    elif not found and (reason := why_only_counted()):
        log.warning("it offers %g GPUs, and %s", gpus, reason)
    return found if gpus <= len(found) else ()


def store_limit_of(options: NodeOptions, capabilities: Mapping[str, float]) -> int:
    """Bytes of values that the node's store holds in memory.

    What the slots keep for their next values is set aside, up to half; a node's share of memory is not all for values.
    """
    limit = options.store_limit
    if limit is None:
        memory = min(capabilities.get("memory", math.inf) * 10**6, probe_memory())
        limit = int(memory * STORE_SHARE)
    return max(limit - slots_of(capabilities) * KEPT_BYTES, limit // 2)


def report(options: NodeOptions, connection_file: str) -> NodeInfo:
    """The node's own account of itself."""
    capabilities = capabilities_of(options)
    return NodeInfo(
        name=options.name,
        capabilities=capabilities,
        slots=slots_of(capabilities),
        host=socket.gethostname(),
        pid=os.getpid(),
        versions=own_versions(),
        labels=options.labels,
        connection_file=connection_file,
        keeps_ledger=True,
    )
