"""Which of this machine's GPUs each node that is started here sees: no two nodes are given the same part of one."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from handoff_lab.resources.devices import Devices, Need, Share
from handoff_lab.resources.gpus import find_gpus, sight_of, why_only_counted

log = logging.getLogger(__name__)


class LocalGpus:
    """The GPUs of this machine, looked for when the first node wants one."""

    def __init__(self) -> None:
        self._devices: Devices | None = None
        self._shares: dict[str, Share] = {}

    def environment(self, node: str, capabilities: Mapping[str, float]) -> dict[str, str]:
        """Variables that let a node see its GPUs alone; none if there are not enough, and it sees all."""
        self.give_back(node)
        if not (gpus := capabilities.get("gpu", 0)):
            return {}
        if self._devices is None:
            self._devices = Devices(found := find_gpus())
            if not found and (reason := why_only_counted()):
                log.warning("node %r offers %g GPUs, and %s", node, gpus, reason)
        share = self._devices.take(Need(gpus))
        if share is None:
            if self._devices.free():
                log.warning("node %r offers %g GPUs, which this machine has not left: it sees all", node, gpus)
            return {}
        self._shares[node] = share
        return sight_of(share.ids)

    def give_back(self, node: str) -> None:
        """The node is no more."""
        share = self._shares.pop(node, None)
        if share is not None and self._devices is not None:
            self._devices.give_back(share)
