"""Bare pyzmq: two processes, batches over ipc, no more than it takes. A limit to compare with, not an engine to use.

The client sends ``("call", [(index, code, args), ...])`` and gets ``[(index, value), ...]``. An array stays where it
was made and travels as a ``Kept``; ``("give", index)`` sends it to the other worker, ``("fetch", index)`` to the
client.
"""

from __future__ import annotations

import multiprocessing
import pickle
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zmq
from engines.base import Ability
from engines.progress import Progress
from workloads import Floats, Graph

_WORKERS = 2
_BATCH = 256
_IN_FLIGHT = 2  # batches: one that is worked on, one that waits


@dataclass(frozen=True, slots=True)
class Kept:
    index: int
    worker: int


class PyZMQEngine:
    name = "pyzmq"
    can = frozenset({Ability.PINS})

    def __init__(self) -> None:
        self._context = zmq.Context()
        self._folder = tempfile.TemporaryDirectory(prefix="pyzmq-")
        self._pipes: list[zmq.Socket[bytes]] = []
        self._processes: list[Any] = []

    def start(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        for worker in range(_WORKERS):
            pipe = self._context.socket(zmq.PAIR)
            pipe.bind(_address(self._folder.name, f"worker-{worker}"))
            process = spawn.Process(target=serve, args=(self._folder.name, worker), daemon=True)
            process.start()
            self._pipes.append(pipe)
            self._processes.append(process)
        for pipe in self._pipes:
            pipe.recv()

    def build(self, graph: Graph) -> PyZMQWork:
        return PyZMQWork(self._pipes, graph)

    def close(self) -> None:
        for pipe in self._pipes:
            pipe.send(pickle.dumps(("stop", None)))
        for process in self._processes:
            process.join(5)
            process.kill()
            process.join()
        self._context.destroy(linger=0)
        self._folder.cleanup()


class PyZMQWork:
    def __init__(self, pipes: Sequence[zmq.Socket[bytes]], graph: Graph) -> None:
        self._pipes = pipes
        self._graph = graph
        self._values: list[Any] = []

    def run(self) -> None:
        progress = Progress(self._graph)
        self._values = progress.values
        ready: list[deque[int]] = [deque() for _ in range(_WORKERS + 1)]  # pinned by worker, then what may go anywhere
        room = [_IN_FLIGHT] * _WORKERS
        poller = zmq.Poller()
        workers = {pipe: worker for worker, pipe in enumerate(self._pipes)}
        for pipe in self._pipes:
            poller.register(pipe, zmq.POLLIN)
        while progress.left:
            for i in progress.take():
                pinned = self._graph[i].worker
                ready[_WORKERS if pinned is None else pinned].append(i)
            while batches := _cut(ready, room):
                for worker, batch in batches:
                    room[worker] -= 1
                    self._send(worker, batch, progress)
            for pipe, _ in poller.poll():
                room[workers[pipe]] += 1
                for index, value in pickle.loads(pipe.recv()):
                    progress.done(index, value)

    def values(self, indices: Sequence[int]) -> Sequence[Any]:
        return [self._value(self._values[i]) for i in indices]

    def _send(self, worker: int, batch: Sequence[int], progress: Progress) -> None:
        calls = [(i, self._graph[i].code, progress.arguments(i)) for i in batch]
        for _, _, args in calls:
            for arg in args:
                if isinstance(arg, Kept) and arg.worker != worker:
                    self._pipes[arg.worker].send(pickle.dumps(("give", arg.index)))
        self._pipes[worker].send(pickle.dumps(("call", calls), protocol=5))

    def _value(self, value: Any) -> Any:
        if not isinstance(value, Kept):
            return value
        pipe = self._pipes[value.worker]
        pipe.send(pickle.dumps(("fetch", value.index)))
        return _as_array(pipe.recv(copy=False))


def _cut(ready: Sequence[deque[int]], room: Sequence[int]) -> list[tuple[int, list[int]]]:
    """One batch for each worker that has room: what is pinned to it, else its share of the rest."""
    free = [worker for worker in range(_WORKERS) if room[worker]]
    batches = []
    for place, worker in enumerate(free):
        source = ready[worker] or ready[_WORKERS]
        share = len(source) if source is ready[worker] else -(-len(source) // (len(free) - place))
        if share:
            batches.append((worker, [source.popleft() for _ in range(min(share, _BATCH))]))
    return batches


def serve(folder: str, worker: int) -> None:
    """A worker process."""
    context = zmq.Context()
    Worker(context, folder, worker).serve()
    context.destroy(linger=0)


class Worker:
    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], folder: str, worker: int) -> None:
        self._worker = worker
        self._kept: dict[int, Floats] = {}
        self._client = context.socket(zmq.PAIR)
        self._client.connect(_address(folder, f"worker-{worker}"))
        self._peer = context.socket(zmq.PAIR)
        (self._peer.connect if worker else self._peer.bind)(_address(folder, "peer"))

    def serve(self) -> None:
        self._client.send(b"")
        while True:
            verb, body = pickle.loads(self._client.recv())
            if verb == "call":
                done = [(index, self._call(index, code, args)) for index, code, args in body]
                self._client.send(pickle.dumps(done, protocol=5))
            elif verb == "give":
                self._peer.send(self._kept.pop(body).data, copy=False)
            elif verb == "fetch":
                self._client.send(self._kept.pop(body).data, copy=False)
            else:
                return

    def _call(self, index: int, code: Callable[..., Any], args: Sequence[Any]) -> Any:
        value = code(*map(self._argument, args))
        if not isinstance(value, np.ndarray):
            return value
        self._kept[index] = value
        return Kept(index, self._worker)

    def _argument(self, value: Any) -> Any:
        if not isinstance(value, Kept):
            return value
        return self._kept.pop(value.index) if value.worker == self._worker else _as_array(self._peer.recv(copy=False))


def _as_array(frame: zmq.Frame) -> Floats:
    return np.frombuffer(frame.buffer)


def _address(folder: str, name: str) -> str:
    return f"ipc://{Path(folder) / name}"
