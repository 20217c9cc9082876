"""ipyparallel: a controller and engines with nannies; the client keeps the order of dependent functions."""

from __future__ import annotations

import logging
import signal
from collections.abc import Sequence
from threading import Thread
from typing import Any

import ipyparallel
from victims.base import Step

_RETRIES = 3  # its own default is none, also for a lost engine


class IPyParallelVictim:
    name = "ipyparallel"
    timeouts = False  # its `timeout` is how long dependencies may take
    node_pattern = r"[Ee]ngine"

    def __init__(self) -> None:
        self._cluster: Any = None
        self._client: Any = None

    def start(self, nodes: int = 2, cpus: int = 1, memory_mb: int | None = None) -> None:
        # An engine runs one function at a time, so each cpu is one; memory can't be limited.
        self._cluster = ipyparallel.Cluster(n=nodes * cpus, controller_ip="127.0.0.1", log_level=logging.WARNING)
        self._client = self._cluster.start_and_connect_sync()

    def begin(self, steps: Sequence[Step]) -> IPyParallelWork:
        return IPyParallelWork(self._client, steps)

    def head_of(self, pid: int) -> int:
        return pid

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
        if self._cluster is not None:
            self._cluster.stop_cluster_sync()


class IPyParallelWork:
    def __init__(self, client: Any, steps: Sequence[Step]) -> None:
        self._client = client
        self._any = client.load_balanced_view()
        self._calls: dict[str, Any] = {}
        for step in steps:
            if step.parents:
                Thread(target=self._submit, args=[step], daemon=True).start()
            else:
                self._submit(step)

    def _submit(self, step: Step) -> None:
        values = [self._calls[parent].get() for parent in step.parents]
        if step.pinned:  # a direct view knows no retries
            call = self._client[self._client.ids[0]].apply_async(step.code, *values, *step.extra)
        else:
            retries = _RETRIES if step.retries is None else step.retries
            with self._any.temp_flags(retries=retries):
                call = self._any.apply_async(step.code, *values, *step.extra)
        self._calls[step.name] = call

    def done(self, name: str) -> bool:
        return name in self._calls and self._calls[name].ready()

    def value(self, name: str) -> Any:
        return self._calls[name].get()

    def cancel(self, name: str) -> None:
        """``abort`` takes only what waits; a signal goes to an engine, whatever that runs."""
        engine = self._calls[name].engine_id
        self._client.send_signal(signal.SIGINT, targets=self._client.ids[0] if engine is None else engine, block=False)
