"""Dask workers as processes that can be killed: forked from one that has imported Dask, so that each starts at once.

Reads lines of ``scheduler name cpus``; when they end, so do the workers.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from typing import Any


def main() -> None:
    """Fork a worker for each line."""
    import distributed

    workers: list[int] = []
    for line in sys.stdin:
        address, name, cpus = line.split()
        pid = os.fork()
        if not pid:
            sys.stdin.close()
            asyncio.run(_work(distributed, address, name, float(cpus)))
            os._exit(0)
        workers.append(pid)
    for pid in workers:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


async def _work(distributed: Any, address: str, name: str, cpus: float) -> None:
    options = {"nthreads": 8, "resources": {"cpu": cpus}, "memory_limit": 0, "host": "127.0.0.1"}
    async with distributed.Worker(address, name=name, **options) as worker:
        await worker.finished()


if __name__ == "__main__":
    main()
