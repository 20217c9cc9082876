"""Ray: one node of two cpus, bound to loopback, without dashboard and usage reports."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from engines.base import Ability
from workloads import Graph, sinks

# Read when Ray is imported.
os.environ.update(
    RAY_USAGE_STATS_ENABLED="0",
    RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",  # keeps its servers on 127.0.0.1, on Linux too
    RAY_AUTH_MODE="token",
    RAY_AUTH_TOKEN=secrets.token_hex(32),  # else it leaves one in the user's home
)

import ray

_STORE_NBYTES = 1_000_000_000


class RayEngine:
    name = "Ray"
    can = frozenset({Ability.PINS, Ability.CLAIMS})

    def __init__(self) -> None:
        self._places: list[Any] = []

    def start(self) -> None:
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=_STORE_NBYTES,
        )

    def build(self, graph: Graph) -> RayWork:
        if not self._places and any(vertex.worker is not None for vertex in graph):
            place = ray.remote(num_cpus=0)(Place)
            self._places = [place.remote() for _ in range(2)]
            ray.get([place.call.remote(int) for place in self._places])
        return RayWork(graph, self._places)

    def close(self) -> None:
        ray.shutdown()


class Place:
    """A process that can be named: Ray pins tasks to nodes, and both workers are on one."""

    def call(self, code: Callable[..., Any], *args: Any) -> Any:
        return code(*args)


class RayWork:
    def __init__(self, graph: Graph, places: Sequence[Any]) -> None:
        self._graph = graph
        self._places = places
        self._ends = sinks(graph)
        self._references: list[Any] = []

    def run(self) -> None:
        references = self._references
        for vertex in self._graph:
            args = (*(references[parent] for parent in vertex.parents), *vertex.extra)
            if vertex.worker is None:
                references.append(_remote(vertex.code).remote(*args))
            else:
                references.append(self._places[vertex.worker].call.remote(vertex.code, *args))
        ray.wait([references[i] for i in self._ends], num_returns=len(self._ends), fetch_local=False)

    def values(self, indices: Sequence[int]) -> Sequence[Any]:
        return list(ray.get([self._references[i] for i in indices]))


@cache
def _remote(code: Callable[..., Any]) -> Any:
    """A task that claims one cpu, which is Ray's default: without a claim it would start more processes."""
    return ray.remote(code)
