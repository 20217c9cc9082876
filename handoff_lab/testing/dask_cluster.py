"""A Dask cluster in this process, to test against: a scheduler and workers on loopback."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from handoff_lab.backends.dask import DaskBackend
from handoff_lab.backends.dask.link import import_distributed
from handoff_lab.messages import NodeLost
from handoff_lab.testing.bench import Bench


class Watch:
    """A plugin of the scheduler that counts its tasks."""

    def __init__(self, scheduler: Any) -> None:
        self.tasks = 0
        self.most_at_once = 0
        self._scheduler = scheduler

    def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
        """Called by Dask."""
        if finish == "processing":
            self.tasks += 1
        at_once = sum(task.state in ("waiting", "processing", "no-worker") for task in self._scheduler.tasks.values())
        self.most_at_once = max(self.most_at_once, at_once)

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None  # all else that Dask calls


class DaskCluster:
    """Workers with eight threads each; as nodes they have as many cpus as they are said to have."""

    def __init__(self, workers: dict[str, float], security: Any = None, port: int = 0) -> None:
        distributed = import_distributed()
        self._distributed = distributed
        self._processes: subprocess.Popen[str] | None = None  # what forks them
        self._cluster = distributed.LocalCluster(
            n_workers=0,
            processes=False,
            protocol="tls://" if security else "tcp://",
            security=security,
            host="127.0.0.1",
            scheduler_port=port,
            dashboard_address="127.0.0.1:0",
        )
        self.address = str(self._cluster.scheduler_address)
        for name, cpu in workers.items():
            self.add(name, cpu)

    def add(self, name: str, cpu: float) -> None:
        """Start a worker."""
        options = {
            "nthreads": 8,
            "resources": {"cpu": cpu},
            "memory_limit": 0,
            "host": "127.0.0.1",
            "security": self._cluster.security,
        }
        self._cluster.worker_spec[name] = {"cls": self._distributed.Worker, "options": options}
        self._cluster.sync(self._cluster._correct_state)

    def start(self, name: str, cpu: float) -> None:
        """Start a worker that is a process of its own."""
        if self._processes is None:
            command = [sys.executable, "-m", "handoff_lab.testing.dask_workers"]
            self._processes = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
        assert self._processes.stdin is not None
        self._processes.stdin.write(f"{self.address} {name} {cpu}\n")
        self._processes.stdin.flush()

    def remove(self, name: str) -> None:
        """End a worker, whatever it is at."""
        worker: Any = self._cluster.workers[name]
        self._cluster.worker_spec.pop(name)
        self._cluster.sync(worker.close, executor_wait=False, nanny=False)
        self._cluster.sync(self._cluster._correct_state)

    def cut(self) -> None:
        """Break the scheduler's connections to its clients, who connect again."""

        async def abort() -> None:
            for comm in list(self._cluster.scheduler.client_comms.values()):
                comm.abort()

        self._cluster.sync(abort)

    def set_resources(self, name: str, **resources: float) -> None:
        """Change what a worker says that it has."""
        self._cluster.sync(self._cluster.workers[name].set_resources, **resources)

    def client(self) -> Any:
        """A client, to be closed."""
        return self._distributed.Client(self._cluster, set_as_default=False)

    def names(self) -> list[str]:
        """The workers that the scheduler knows."""
        return [str(worker.name) for worker in self._cluster.scheduler.workers.values()]

    def task_keys(self) -> list[str]:
        """The keys of all tasks that the scheduler knows."""
        return [str(key) for key in self._cluster.scheduler.tasks]

    def state(self, key: str) -> str:
        """What the scheduler says of a task."""
        task = self._cluster.scheduler.tasks.get(key)
        return "unknown" if task is None else str(task.state)

    @contextmanager
    def watched(self) -> Iterator[Watch]:
        """See what the scheduler gets meanwhile."""
        watch = Watch(self._cluster.scheduler)
        self._cluster.scheduler.add_plugin(watch, name="watch")
        try:
            yield watch
        finally:
            self._cluster.scheduler.remove_plugin(name="watch")

    def close(self) -> None:
        """End all of it."""
        if self._processes is not None:
            self._processes.communicate()
            self._processes = None
        for name in list(self._cluster.workers):
            self.remove(name)
        self._cluster.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class DaskBench(Bench):
    """Nodes of a Dask cluster come and go with its workers."""

    def __init__(self) -> None:
        self._cluster = DaskCluster({"a": 1, "b": 1})
        super().__init__(DaskBackend(self._cluster.address), ("a", "b"))

    def close(self) -> None:
        """Close the backend, then the cluster."""
        try:
            super().close()
        finally:
            self._cluster.close()

    def add_node(self, name: str, cpu: float) -> None:
        """Start a worker, and wait until it is a node."""
        self._cluster.add(name, cpu)
        self.until(lambda: name in self.backend.nodes())

    def remove_node(self, name: str) -> NodeLost:
        """Remove a node, and end its worker for good."""
        lost = super().remove_node(name)
        self._cluster.remove(name)
        return lost
