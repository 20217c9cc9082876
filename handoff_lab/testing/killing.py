"""Kills nodes of a cluster at random times, and starts them again. Only processes that this one started are killed."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Collection
from types import TracebackType
from typing import Self

from handoff_lab.cluster import Cluster
from handoff_lab.node.lifeline import descendants

LOOK_S = 0.05


class Killer:
    """Kills a node every ``mean_s`` seconds on average, from ``with`` on until its end.

    Parameters
    ----------
    spared
        Names of nodes that live on.
    """

    def __init__(self, cluster: Cluster, rng: random.Random, mean_s: float, spared: Collection[str] = ()) -> None:
        self.killed: list[str] = []
        self._cluster = cluster
        self._random = rng
        self._mean_s = mean_s
        self._spared = set(spared)
        self._over = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="killer")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill no more; every node is there again then."""
        self._over.set()
        self._thread.join()
        if self._failure is not None and error is None:
            raise self._failure

    def _work(self) -> None:
        try:
            while not self._over.wait(self._random.expovariate(1 / self._mean_s)):
                self._kill_one()
        except BaseException as error:
            self._failure = error

    def _kill_one(self) -> None:
        nodes = self._cluster.nodes
        name = self._random.choice(sorted(nodes.keys() - self._spared))
        victim = nodes[name]
        if victim.pid not in descendants(os.getpid()):
            raise RuntimeError(f"node {name!r} is not ours to kill: process {victim.pid} was started elsewhere")
        os.kill(victim.pid, signal.SIGKILL)
        self.killed.append(name)
        while name in self._cluster.nodes:
            threading.Event().wait(LOOK_S)
        self._cluster.add_node(victim.capabilities, name=name)
