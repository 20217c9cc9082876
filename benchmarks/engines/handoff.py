"""handoff_lab itself: two kernel nodes, CURVE, telemetry and run log on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engines.base import Ability
from workloads import Graph, Vertex

from handoff_lab import DAG, Cluster, Function, Run

_NODES = ("a", "b")


class HandoffEngine:
    name = "handoff_lab"
    can = frozenset({Ability.GRAPHS, Ability.PINS, Ability.CLAIMS})

    def __init__(self) -> None:
        self._cluster: Cluster | None = None

    def start(self) -> None:
        self._cluster = Cluster(nodes={name: {"cpu": 1} for name in _NODES})

    def settle(self) -> None:
        assert self._cluster is not None
        for name in _NODES:  # functions run before the nodes' kernels have started
            self._cluster.run_cell(name, "pass", lambda message: None)

    def build(self, graph: Graph) -> HandoffWork:
        assert self._cluster is not None
        return HandoffWork(self._cluster, DAG("benchmark").add(*map(as_function, range(len(graph)), graph)))

    def close(self) -> None:
        if self._cluster is not None:
            self._cluster.close()


class HandoffWork:
    def __init__(self, cluster: Cluster, dag: DAG) -> None:
        self._cluster = cluster
        self._dag = dag
        self._run: Run | None = None

    def run(self) -> None:
        # Both nodes are to work, as all workers of the peers do; the default keeps to the first that fits.
        self._run = self._cluster.execute(self._dag, allocation_strategy="locality")

    def values(self, indices: Sequence[int]) -> Sequence[Any]:
        assert self._run is not None
        return [self._run.results[i] for i in indices]


def as_function(index: int, vertex: Vertex) -> Function:
    return Function(
        index,
        vertex.code,
        args=vertex.parents,
        extra_args=vertex.extra,
        cost={"cpu": 1} if vertex.claim else None,
        node=None if vertex.worker is None else _NODES[vertex.worker],
    )
