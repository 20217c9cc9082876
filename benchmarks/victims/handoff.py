"""handoff_lab: kernel nodes, with what they do by default."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_lowercase
from typing import Any

import psutil
from victims.base import Step

from handoff_lab import DAG, Cluster, Function, Run

_FIRST = ascii_lowercase[0]


class HandoffVictim:
    name = "handoff_lab"
    timeouts = True
    node_pattern = "node 'a'"

    def __init__(self) -> None:
        self._cluster: Cluster | None = None

    def start(self, nodes: int = 2, cpus: int = 1, memory_mb: int | None = None) -> None:
        memory = {} if memory_mb is None else {"memory": memory_mb}
        self._cluster = Cluster({name: {"cpu": cpus, **memory} for name in ascii_lowercase[:nodes]})

    def begin(self, steps: Sequence[Step]) -> HandoffWork:
        assert self._cluster is not None
        dag = DAG("faults").add(*map(_as_function, steps))
        run = self._cluster.submit(dag, allocation_strategy="load_balanced", on_error="continue")
        return HandoffWork(run)

    def head_of(self, pid: int) -> int:
        assert self._cluster is not None
        agents = {node.pid for node in self._cluster.nodes.values()}
        return next(process.pid for process in psutil.Process(pid).parents() if process.pid in agents)

    def close(self) -> None:
        if self._cluster is not None:
            self._cluster.close()


class HandoffWork:
    def __init__(self, run: Run) -> None:
        self._run = run

    def done(self, name: str) -> bool:
        return self._run.error(name) is not None or name in self._run.results

    def value(self, name: str) -> Any:
        error = self._run.error(name)
        if error is not None:
            raise error
        return self._run.results[name]

    def cancel(self, name: str) -> None:
        self._run.cancel(name)


def _as_function(step: Step) -> Function:
    return Function(
        step.name,
        step.code,
        args=step.parents,
        extra_args=step.extra,
        cost={"cpu": 1} if step.memory_mb is None else {"cpu": 1, "memory": step.memory_mb},
        node=_FIRST if step.pinned else None,
        max_retries=step.retries,
        timeout=step.timeout_s,
    )
