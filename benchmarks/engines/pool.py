"""The process pool of the standard library: results go through the client, which also keeps the order."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from typing import Any

from engines.base import Ability
from engines.progress import drive
from workloads import Graph, identity


class PoolEngine:
    name = "process pool"
    can: frozenset[Ability] = frozenset()

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None

    def start(self) -> None:
        self._pool = ProcessPoolExecutor(2)
        wait([self._pool.submit(identity, i) for i in range(2)])  # it starts a process for each waiting function

    def build(self, graph: Graph) -> PoolWork:
        assert self._pool is not None
        return PoolWork(self._pool, graph)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()


class PoolWork:
    def __init__(self, pool: ProcessPoolExecutor, graph: Graph) -> None:
        self._pool = pool
        self._graph = graph
        self._values: list[Any] = []

    def run(self) -> None:
        self._values = drive(self._graph, lambda vertex, args: self._pool.submit(vertex.code, *args))

    def values(self, indices: Sequence[int]) -> Sequence[Any]:
        return [self._values[i] for i in indices]
