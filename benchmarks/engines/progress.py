"""For engines without dependencies of their own: what of a graph can start, kept by the client."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any

from workloads import Graph, Vertex


class Progress:
    """Takes results as they come, and gives the functions whose parents' results are all here."""

    def __init__(self, graph: Graph) -> None:
        self.values: list[Any] = [None] * len(graph)
        self.left = len(graph)
        self._graph = graph
        self._missing = [len(vertex.parents) for vertex in graph]
        self._children: list[list[int]] = [[] for _ in graph]
        self._ready: deque[int] = deque()
        for i, vertex in enumerate(graph):
            for parent in vertex.parents:
                self._children[parent].append(i)
            if not vertex.parents:
                self._ready.append(i)

    def take(self) -> deque[int]:
        """All that became ready since the last time."""
        ready, self._ready = self._ready, deque()
        return ready

    def arguments(self, index: int) -> tuple[Any, ...]:
        vertex = self._graph[index]
        return (*(self.values[parent] for parent in vertex.parents), *vertex.extra)

    def done(self, index: int, value: Any) -> None:
        self.values[index] = value
        self.left -= 1
        for child in self._children[index]:
            self._missing[child] -= 1
            if not self._missing[child]:
                self._ready.append(child)


def drive(graph: Graph, submit: Callable[[Vertex, tuple[Any, ...]], Future[Any]]) -> list[Any]:
    """Run a graph over an engine of futures: a function is submitted when its parents' results are here."""
    progress = Progress(graph)
    finished: SimpleQueue[tuple[int, Future[Any]]] = SimpleQueue()

    def note(index: int, future: Future[Any]) -> None:
        finished.put((index, future))

    while progress.left:
        for i in progress.take():
            submit(graph[i], progress.arguments(i)).add_done_callback(partial(note, i))
        index, future = finished.get()
        progress.done(index, future.result())
    return progress.values
