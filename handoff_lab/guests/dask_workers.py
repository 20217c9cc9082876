"""The workers of Dask: a guest is tasks that hold every thread of a worker, so that Dask counts them as taken."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from handoff_lab._errors import BackendError
from handoff_lab.backends.dask.workers import capabilities_of
from handoff_lab.guests.host import stay
from handoff_lab.guests.places import Place
from handoff_lab.node.options import NodeOptions
from handoff_lab.resources import Resources


class DaskWorkers:
    """Those that a ``distributed.Client`` is connected to, or that of a cluster."""

    def __init__(self, source: Any) -> None:
        get_client = getattr(source, "get_client", None)
        self._client = source if get_client is None else get_client()
        if self._client.asynchronous:
            raise BackendError("the Dask client is asynchronous; give one that was made with asynchronous=False")

    def places(self) -> Sequence[Place]:
        """One for each worker, called as Dask calls it."""
        # Not scheduler_info(): the client may overwrite what that asked for, before it is read, with less.
        workers = self._client.sync(self._client.scheduler.identity)["workers"]
        places = [
            Place(f"dask-{str(worker['name']).rpartition('://')[2]}", f"dask {address}", (address, worker))
            for address, worker in workers.items()
        ]
        return sorted(places, key=lambda place: (len(place.name), place.name))  # 2 before 10

    def capabilities(self, places: Sequence[Place], timeout_s: float) -> Mapping[str, Resources]:
        """What Dask was told that the workers have."""
        return {place.name: capabilities_of(place.handle[1]) for place in places}

    def lend(self, place: Place, options: NodeOptions) -> WorkerStay:
        """Hold the threads of a worker.

        The tasks need something that lies there alone: without it Dask would keep them when the worker dies, for one
        that comes under the same address.
        """
        address, worker = place.handle
        guest, threads = f"handoff-{uuid.uuid4().hex}", worker["nthreads"]
        try:
            (anchor,) = self._client.scatter([guest], workers=[address], hash=False)
        except Exception as error:
            raise BackendError(f"{place.name!r} cannot take a node: {type(error).__name__}: {error}") from error
        futures = [
            self._client.submit(hold, anchor, threads, given, key=f"{guest}-{number}", workers=[address], pure=False)
            for number, given in enumerate([options] + [None] * (threads - 1))
        ]
        return WorkerStay(futures)


class WorkerStay:
    """Tasks on a worker, of which the first is the node's."""

    def __init__(self, futures: Sequence[Any]) -> None:
        self._futures = futures

    def ended(self) -> str | None:
        """How the first task ended."""
        first = self._futures[0]
        if not first.done():
            return None
        if first.status == "finished":
            return str(first.result())
        return repr(first.exception()) if first.status == "error" else f"Dask says that its task is {first.status}"

    def cancel(self) -> None:
        """Take the tasks back, without waiting for Dask; those that run go on."""
        for future in self._futures:
            future.release()


# -- on the worker ---------------------------------------------------------------


def hold(guest: str, threads: int, options: NodeOptions | None) -> str:
    """Hold a thread of this worker until the guest has ended; with ``options``, this is the one that starts it."""
    with _held(guest, threads) as over:
        if options is None:
            over.wait()
            return ""
        try:
            return stay(options, _why_over)
        finally:
            over.set()


def _why_over() -> str | None:
    from distributed import Status, get_worker

    return None if get_worker().status in (Status.running, Status.paused) else "its Dask worker closes"


_holds: dict[str, tuple[threading.Event, list[None]]] = {}  # by guest: whether it is over, and threads to come or go
_lock = threading.Lock()


@contextmanager
def _held(guest: str, threads: int) -> Iterator[threading.Event]:
    with _lock:
        over, left = _holds.setdefault(guest, (threading.Event(), [None] * threads))
    try:
        yield over
    finally:
        with _lock:
            left.pop()
            if not left:
                del _holds[guest]
