"""ipyparallel: a controller and two engines on loopback; the client keeps the order of dependent functions."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import ipyparallel
from engines.base import Ability
from engines.progress import drive
from workloads import Graph, Vertex


class IPyParallelEngine:
    name = "ipyparallel"
    can = frozenset({Ability.PINS})

    def __init__(self) -> None:
        self._cluster: Any = None
        self._client: Any = None

    def start(self) -> None:
        self._cluster = ipyparallel.Cluster(n=2, controller_ip="127.0.0.1", log_level=logging.WARNING)
        self._client = self._cluster.start_and_connect_sync()

    def build(self, graph: Graph) -> IPyParallelWork:
        return IPyParallelWork(self._client, graph)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
        if self._cluster is not None:
            self._cluster.stop_cluster_sync()


class IPyParallelWork:
    def __init__(self, client: Any, graph: Graph) -> None:
        self._client = client
        self._graph = graph
        self._any = client.load_balanced_view()
        self._places = [client[worker] for worker in client.ids]
        self._values: list[Any] = []

    def run(self) -> None:
        self._values = drive(self._graph, self._submit)

    def values(self, indices: Sequence[int]) -> Sequence[Any]:
        values = [self._values[i] for i in indices]
        self._client.purge_local_results("all")
        return values

    def _submit(self, vertex: Vertex, args: tuple[Any, ...]) -> Future[Any]:
        view = self._any if vertex.worker is None else self._places[vertex.worker]
        future: Future[Any] = view.apply_async(vertex.code, *args)
        return future
