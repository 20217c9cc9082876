"""executorlib: two worker processes that stay; results go through the client, which also keeps the order.

Its own dependencies are off: with them it looks every few milliseconds what is ready, and takes 300 functions a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import wait
from typing import Any

from engines.base import Ability
from engines.progress import drive
from executorlib import SingleNodeExecutor
from workloads import Graph, identity


class ExecutorlibEngine:
    name = "executorlib"
    can: frozenset[Ability] = frozenset()

    def __init__(self) -> None:
        self._executor: Any = None

    def start(self) -> None:
        self._executor = SingleNodeExecutor(
            max_workers=2, block_allocation=True, hostname_localhost=True, disable_dependencies=True
        )
        wait([self._executor.submit(identity, i) for i in range(2)])

    def build(self, graph: Graph) -> ExecutorlibWork:
        return ExecutorlibWork(self._executor, graph)

    def close(self) -> None:
        if self._executor is not None:
            self._executor.shutdown()


class ExecutorlibWork:
    def __init__(self, executor: Any, graph: Graph) -> None:
        self._executor = executor
        self._graph = graph
        self._values: list[Any] = []

    def run(self) -> None:
        self._values = drive(self._graph, lambda vertex, args: self._executor.submit(vertex.code, *args))

    def values(self, indices: Sequence[int]) -> Sequence[Any]:
        return [self._values[i] for i in indices]
