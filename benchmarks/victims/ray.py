"""Ray: a head without cpus and nodes of their own, as ``ray.cluster_utils`` starts them for its own tests."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Thread
from typing import Any

import engines.ray  # noqa: F401 - it sets what Ray reads when it is imported
import psutil
import ray
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from victims.base import Step

_STORE_NBYTES = 200_000_000
_OWN_MB = 1_000  # what Ray's own processes take after the limit was set


class RayVictim:
    name = "Ray"
    timeouts = False  # the one of `ray.get` lets the task go on
    node_pattern = r"[Nn]ode(_?[Ii][Dd])?[ =:]+[0-9a-f]{56}"

    def __init__(self) -> None:
        self._cluster: Any = None
        self._nodes: list[Any] = []

    def start(self, nodes: int = 2, cpus: int = 1, memory_mb: int | None = None) -> None:
        config: dict[str, Any] = {  # daemons leave the groups of processes that it looks after by default
            "process_group_cleanup_enabled": False,
            "kill_child_processes_on_worker_exit_with_raylet_subreaper": True,
        }
        if memory_mb is not None:  # the memory monitor knows no limit but that of the whole machine
            memory = psutil.virtual_memory()
            limit = memory.total - memory.available + (memory_mb + _OWN_MB) * 10**6
            config["memory_usage_threshold"] = limit / memory.total
        head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": _STORE_NBYTES}
        self._cluster = Cluster(initialize_head=True, head_node_args={**head, "_system_config": config})
        self._nodes = [self._cluster.add_node(num_cpus=cpus, object_store_memory=_STORE_NBYTES) for _ in range(nodes)]
        for node in self._nodes:  # workers take a raylet for alive while it is a zombie
            Thread(target=node.all_processes["raylet"][0].process.wait, daemon=True).start()
        ray.init(address=self._cluster.address, log_to_driver=False, logging_level="ERROR")

    def begin(self, steps: Sequence[Step]) -> RayWork:
        pin = NodeAffinitySchedulingStrategy(self._nodes[0].node_id, soft=False)
        references: dict[str, Any] = {}
        for step in steps:
            options: dict[str, Any] = {"scheduling_strategy": pin} if step.pinned else {}
            if step.retries is not None:  # else 3, of lost workers and nodes
                options.update(max_retries=step.retries, retry_exceptions=True)
            task = ray.remote(step.code).options(num_cpus=1, **options)
            references[step.name] = task.remote(*(references[parent] for parent in step.parents), *step.extra)
        return RayWork(references)

    def head_of(self, pid: int) -> int:
        return next(process.pid for process in psutil.Process(pid).parents() if process.name() == "raylet")

    def close(self) -> None:
        ray.shutdown()
        if self._cluster is not None:
            self._cluster.shutdown()


class RayWork:
    def __init__(self, references: dict[str, Any]) -> None:
        self._references = references

    def done(self, name: str) -> bool:
        ready, _ = ray.wait([self._references[name]], timeout=0, fetch_local=False)
        return bool(ready)

    def value(self, name: str) -> Any:
        return ray.get(self._references[name])

    def cancel(self, name: str) -> None:
        """End its process: an interrupt needs the GIL, and where that is kept no forced cancel after it works."""
        ray.cancel(self._references[name], force=True)
