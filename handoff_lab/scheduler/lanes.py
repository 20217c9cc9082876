"""Lanes: what waits on a node, grouped so that all of a lane starts or none."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from heapq import heapify, heappop

from handoff_lab.resources import Resources
from handoff_lab.scheduler.ledger import NodeState
from handoff_lab.scheduler.state import READY, Progress


class Lane:
    """Ready functions of one run that cost the same on one node, the most urgent first.

    Functions that are ready no more, or on another node by now, stay in the heap until they come to its top.
    """

    __slots__ = ("aside", "cost", "counted", "entry", "heap", "node", "order", "run")

    def __init__(self, run: Progress, node: NodeState, cost: Resources, counted: bool, order: int) -> None:
        self.run = run
        self.node = node
        self.cost = cost or None
        self.counted = counted  # by max_concurrency
        self.order = order
        self.heap: list[tuple[float, int]] = []
        self.entry: tuple[float, int, Lane] | None = None  # its place in the node's heap
        self.aside = False  # refused its claim, or the run is at its limit

    def head(self) -> int | None:
        """The function to start next."""
        heap, state, node = self.heap, self.run.state, self.run.node
        while heap:
            i = heap[0][1]
            if state[i] == READY and node[i] == self.node.name:
                return i
            self.pop()
        return None

    def pop(self) -> None:
        heappop(self.heap)
        if self.cost:
            self.node.costed -= 1

    def take(self, most: int, until: float) -> list[int]:
        """Take out the next functions to hand over: so many at most, of a priority up to ``until``, within the limit.

        For lanes of nodes that keep their own ledger, where no cost is counted.
        """
        limit = self.run.options.max_concurrency
        if limit is not None and self.counted:
            most = min(most, limit - self.run.in_flight)
        heap, state, node, name = self.heap, self.run.state, self.run.node, self.node.name
        taken: dict[int, None] = {}  # what left and came back is in the heap twice
        while heap and len(taken) < most and heap[0][0] <= until:
            _, i = heappop(heap)
            if state[i] == READY and node[i] == name:
                taken[i] = None
        return [*taken]

    def clear(self) -> None:
        if self.cost:
            self.node.costed -= len(self.heap)
        self.heap.clear()
        self.entry = None

    def take_out(self, functions: AbstractSet[int]) -> None:
        """Some of those in it wait elsewhere from now on."""
        before = len(self.heap)
        self.heap = [entry for entry in self.heap if entry[1] not in functions]
        heapify(self.heap)
        if self.cost:
            self.node.costed -= before - len(self.heap)

    def is_at_limit(self) -> bool:
        limit = self.run.options.max_concurrency
        return limit is not None and self.counted and self.run.in_flight >= limit
