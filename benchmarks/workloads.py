"""The work that every engine does: graphs as plain data, the functions in them, and the answers to expect."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Vertex:
    """One function of a graph; it is called with its parents' results, then ``extra``."""

    code: Callable[..., Any]
    parents: tuple[int, ...] = ()  # places in the graph, all before this one
    extra: tuple[Any, ...] = ()
    worker: int | None = None  # 0 or 1: the only worker that may run it
    claim: bool = False  # holds its worker's one cpu while it runs


Graph: TypeAlias = Sequence[Vertex]


def fan_out(n: int, claim: bool = False) -> Graph:
    return [Vertex(identity, extra=(i,), claim=claim) for i in range(n)]


def chain(n: int, alternate: bool = False) -> Graph:
    """Each function needs the one before; with ``alternate`` it runs on the other worker."""
    workers = [i % 2 if alternate else None for i in range(n)]
    first = Vertex(identity, extra=(0,), worker=workers[0])
    return [first, *(Vertex(increment, (i - 1,), worker=workers[i]) for i in range(1, n))]


def layered(layers: int, width: int) -> Graph:
    """Each function after the first layer needs three neighbours of the layer before."""
    graph = [Vertex(identity, extra=(i,)) for i in range(width)]
    for layer in range(1, layers):
        before = (layer - 1) * width
        graph += [Vertex(add, tuple(before + (i + k) % width for k in range(3))) for i in range(width)]
    return graph


def tree(n: int) -> Graph:
    """A binary tree of ``n`` functions, half of them leaves, that adds up to its root, the last function."""
    children = [[c for c in (2 * i + 1, 2 * i + 2) if c < n] for i in range(n)]  # numbered from the root
    return [
        Vertex(add, tuple(n - 1 - c for c in children[i])) if children[i] else Vertex(identity, extra=(i,))
        for i in reversed(range(n))
    ]


def passing(nbytes: int) -> Graph:
    """An array made on one worker and summed on the other."""
    return [Vertex(make_array, extra=(nbytes,), worker=0), Vertex(sum_array, (0,), worker=1)]


def sinks(graph: Graph) -> list[int]:
    """The functions that no other needs: when they are done, all are."""
    needed = {parent for vertex in graph for parent in vertex.parents}
    return [i for i in range(len(graph)) if i not in needed]


def evaluate(graph: Graph) -> list[Any]:
    """The result of every function, worked out here."""
    values: list[Any] = []
    for vertex in graph:
        values.append(vertex.code(*(values[parent] for parent in vertex.parents), *vertex.extra))
    return values


def identity(value: int) -> int:
    return value


def increment(value: int) -> int:
    return value + 1


def add(*values: int) -> int:
    return sum(values)


def make_array(nbytes: int) -> Floats:
    """Ones, but for the first number: when the function returned, on the clock that all processes of a host share."""
    array = np.ones(nbytes // 8)
    array[0] = time.monotonic()
    return array


def sum_array(array: Floats) -> float:
    """Seconds from the return of ``make_array`` to the end of the sum."""
    total = float(array.sum())
    elapsed = time.monotonic() - float(array[0])
    expected = array.size - 1 + float(array[0])
    if abs(total - expected) > 1e-3:
        raise ValueError(f"the array came damaged: its sum is {total}, not {expected}")
    return elapsed
