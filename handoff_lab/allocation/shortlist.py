"""Which nodes are worth a look where functions times nodes are too many to try them all."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush

from handoff_lab.allocation.problem import Problem
from handoff_lab.allocation.timeline import Need, Timeline

_EXACT = 1_000_000  # functions times nodes up to which all are compared: a second or two
_SOONEST = 4  # nodes that are looked at beside those of the inputs


def is_large(problem: Problem) -> bool:
    """Whether comparing all nodes for each function would take long."""
    return len(problem.seconds) * len(problem.nodes) > _EXACT


class Shortlist:
    """The nodes of a function's inputs, and those that have room for it first.

    Room only gets less, so the heaps may be out of date: entries are corrected when they come to the top.
    """

    def __init__(self, problem: Problem, timelines: Sequence[Timeline]) -> None:
        self._problem = problem
        self._timelines = timelines
        self._heaps: dict[tuple[int, int], list[tuple[float, int]]] = {}  # by identity of need and candidates
        self._allowed: dict[int, frozenset[int]] = {}  # by identity of candidates

    def of(self, function: int, near: Sequence[int]) -> list[int]:
        """Nodes to be compared for ``function``, whose inputs lie on the nodes ``near``; in order."""
        need, candidates = self._problem.needs[function], self._problem.candidates[self._problem.group[function]]
        heap = self._heaps.get((id(need), id(candidates)))
        if heap is None:
            heap = self._heaps[id(need), id(candidates)] = self._all(need, candidates)
            self._allowed[id(candidates)] = frozenset(candidates)
        soonest = self._soonest(heap, need)
        return sorted(self._allowed[id(candidates)].intersection(near).union(soonest))

    def _all(self, need: Need, candidates: Sequence[int]) -> list[tuple[float, int]]:
        heap = [(self._timelines[node].earliest(0.0, 0.0, need), node) for node in candidates]
        heapify(heap)
        return heap

    def _soonest(self, heap: list[tuple[float, int]], need: Need) -> list[int]:
        soonest: list[tuple[float, int]] = []
        while heap and len(soonest) < _SOONEST:
            start, node = heappop(heap)
            now = self._timelines[node].earliest(0.0, 0.0, need)
            if now > start:
                heappush(heap, (now, node))
            else:
                soonest.append((start, node))
        for entry in soonest:
            heappush(heap, entry)
        return [node for _, node in soonest]
