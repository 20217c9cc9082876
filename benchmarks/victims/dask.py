"""Dask distributed: a local cluster, whose nannies start lost workers again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import distributed
from victims.base import Step


class DaskVictim:
    name = "Dask"
    timeouts = False
    node_pattern = r"tcp://127.0.0.1:\d+"

    def __init__(self) -> None:
        self._cluster: Any = None
        self._client: Any = None

    def start(self, nodes: int = 2, cpus: int = 1, memory_mb: int | None = None) -> None:
        self._cluster = distributed.LocalCluster(
            n_workers=nodes,
            threads_per_worker=cpus,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
            memory_limit="auto" if memory_mb is None else f"{memory_mb}MB",  # the nanny ends what takes 95 % of it
        )
        self._client = distributed.Client(self._cluster)

    def begin(self, steps: Sequence[Step]) -> DaskWork:
        # `allow_other_workers` would be no pin. A name is looked up at once: it means the worker that has it now.
        first = min(self._client.scheduler_info()["workers"])
        futures: dict[str, Any] = {}
        for step in steps:
            futures[step.name] = self._client.submit(
                step.code,
                *(futures[parent] for parent in step.parents),
                *step.extra,
                pure=False,
                workers=[first] if step.pinned else None,
                retries=step.retries,  # of errors; lost workers are counted apart, 3 by default
            )
        return DaskWork(futures)

    def head_of(self, pid: int) -> int:
        return pid

    def close(self) -> None:
        for part in (self._client, self._cluster):
            if part is not None:
                part.close()


class DaskWork:
    def __init__(self, futures: dict[str, Any]) -> None:
        self._futures = futures

    def done(self, name: str) -> bool:
        return bool(self._futures[name].done())

    def value(self, name: str) -> Any:
        return self._futures[name].result()

    def cancel(self, name: str) -> None:
        self._futures[name].cancel(force=True)
