"""Dask distributed: a local cluster of two single-threaded worker processes, dashboard off."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import distributed
from engines.base import Ability
from workloads import Graph, sinks


class DaskEngine:
    name = "Dask"
    can = frozenset({Ability.GRAPHS, Ability.PINS, Ability.CLAIMS})

    def __init__(self) -> None:
        self._cluster: Any = None
        self._client: Any = None

    def start(self) -> None:
        self._cluster = distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
            resources={"cpu": 1},
        )
        self._client = distributed.Client(self._cluster)

    def build(self, graph: Graph) -> DaskGraph | DaskFutures:
        if any(vertex.worker is not None or vertex.claim for vertex in graph):
            return DaskFutures(self._client, graph)
        return DaskGraph(self._client, graph)

    def close(self) -> None:
        for part in (self._client, self._cluster):
            if part is not None:
                part.close()


class DaskGraph:
    """The graph handed over whole, which is faster than a future for each function."""

    def __init__(self, client: Any, graph: Graph) -> None:
        self._client = client
        self._name = uuid.uuid4().hex
        self._graph = {
            (self._name, i): (vertex.code, *((self._name, parent) for parent in vertex.parents), *vertex.extra)
            for i, vertex in enumerate(graph)
        }
        self._ends = sinks(graph)
        self._futures: dict[int, Any] = {}

    def run(self) -> None:
        futures = self._client.get(self._graph, [(self._name, i) for i in self._ends], sync=False)
        self._futures = dict(zip(self._ends, futures, strict=True))
        distributed.wait(futures)

    def values(self, indices: Sequence[int]) -> Sequence[Any]:
        return list(self._client.gather([self._futures[i] for i in indices]))


class DaskFutures:
    """A future for each function: the only way to name workers and resources function by function."""

    def __init__(self, client: Any, graph: Graph) -> None:
        self._client = client
        self._graph = graph
        self._ends = sinks(graph)
        self._workers = sorted(client.scheduler_info()["workers"])
        self._futures: list[Any] = []

    def run(self) -> None:
        for vertex in self._graph:
            future = self._client.submit(
                vertex.code,
                *(self._futures[parent] for parent in vertex.parents),
                *vertex.extra,
                pure=False,
                workers=None if vertex.worker is None else self._workers[vertex.worker],
                resources={"cpu": 1} if vertex.claim else None,
            )
            self._futures.append(future)
        distributed.wait([self._futures[i] for i in self._ends])

    def values(self, indices: Sequence[int]) -> Sequence[Any]:
        return list(self._client.gather([self._futures[i] for i in indices]))
