"""Which engines there are. Their modules are imported in the child process that measures them, nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module, metadata

from engines.base import Engine


@dataclass(frozen=True, slots=True)
class Entry:
    title: str
    module: str
    factory: str
    package: str | None = None  # what has to be installed, beyond the standard library

    @property
    def version(self) -> str | None:
        try:
            return None if self.package is None else metadata.version(self.package)
        except metadata.PackageNotFoundError:
            return None

    @property
    def installed(self) -> bool:
        return self.package is None or self.version is not None

    def make(self) -> Engine:
        engine: Engine = getattr(import_module(f"engines.{self.module}"), self.factory)()
        return engine


OURS = "handoff"
ENGINES = {
    OURS: Entry("handoff_lab", "handoff", "HandoffEngine", "handoff_lab"),
    "dask": Entry("Dask", "dask", "DaskEngine", "distributed"),
    "ray": Entry("Ray", "ray", "RayEngine", "ray"),
    "ipyparallel": Entry("ipyparallel", "ipyparallel", "IPyParallelEngine", "ipyparallel"),
    "executorlib": Entry("executorlib", "executorlib", "ExecutorlibEngine", "executorlib"),
    "parsl": Entry("Parsl", "parsl", "ParslEngine", "parsl"),
    "pool": Entry("process pool", "pool", "PoolEngine"),
    "pyzmq": Entry("pyzmq (limit)", "pyzmq", "PyZMQEngine", "pyzmq"),
}
PEERS = [name for name in ENGINES if name != OURS]
