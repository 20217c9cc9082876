"""Parsl: its high-throughput executor with two workers on loopback; an app takes the futures of others."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from functools import cache
from pathlib import Path
from typing import Any

import parsl
from engines.base import Ability
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider
from workloads import Graph, identity, sinks

# It looks for its own programs there.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


class ParslEngine:
    name = "Parsl"
    can: frozenset[Ability] = frozenset()

    def __init__(self) -> None:
        self._kernel: Any = None
        self._folder = tempfile.TemporaryDirectory(prefix="parsl-", ignore_cleanup_errors=True)

    def start(self) -> None:
        executor = HighThroughputExecutor(
            address="127.0.0.1",
            loopback_address="127.0.0.1",
            max_workers_per_node=2,
            encrypted=False,
            provider=LocalProvider(init_blocks=1, max_blocks=1),
        )
        self._kernel = parsl.load(
            Config(
                executors=[executor],
                strategy="none",
                usage_tracking=0,
                initialize_logging=False,
                run_dir=self._folder.name,
            )
        )
        wait([_app(identity)(i) for i in range(2)])

    def build(self, graph: Graph) -> ParslWork:
        return ParslWork(graph)

    def close(self) -> None:
        if self._kernel is not None:
            self._kernel.cleanup()
            parsl.clear()
        self._folder.cleanup()


class ParslWork:
    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._ends = sinks(graph)
        self._futures: list[Future[Any]] = []

    def run(self) -> None:
        self._futures = []
        for vertex in self._graph:
            self._futures.append(_app(vertex.code)(*(self._futures[i] for i in vertex.parents), *vertex.extra))
        wait([self._futures[i] for i in self._ends])

    def values(self, indices: Sequence[int]) -> Sequence[Any]:
        return [self._futures[i].result() for i in indices]


@cache
def _app(code: Callable[..., Any]) -> Callable[..., Future[Any]]:
    app: Callable[..., Future[Any]] = parsl.python_app(code)
    return app
