"""Improves a timetable: other orders first, then moves of groups of the critical path to other nodes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

from handoff_lab.allocation.heft import Timetable, mean_ranks, placed_ranks, timetable, urgency_order
from handoff_lab.allocation.problem import Problem

_EFFORT = 50_000  # functions placed anew on a given node, all tries together: under half a second
_FEWEST = 16  # tries; where there would be fewer, none of them finds anything
_PATIENCE = 60  # tries, or restarts, without a better timetable before it goes on to the next thing
_NOISE = 0.5  # durations are stretched by up to this share, either way
_COMPARED = 5  # nodes that are compared in the time in which a function is placed on a given one
_CLEARLY = 1 - 1e-9


def improve(problem: Problem, found: Timetable) -> Timetable:
    """The best timetable that is found by HEFT with noise on the durations, then by iterated local search.

    The same problem gives the same timetable: the random numbers have a fixed
    seed, and effort is counted, not timed.
    """
    if len(found.end) * _FEWEST > _EFFORT:
        return found
    return _Search(problem, found).run()


class _Search:
    def __init__(self, problem: Problem, found: Timetable) -> None:
        self._problem = problem
        self._best = found
        self._placed = _by_group(problem, found)
        self._bound = lower_bound(problem)
        self._random = random.Random(0)
        self._effort = _EFFORT  # that is left
        self._try_costs = len(found.end)
        compared = sum(len(problem.candidates[group]) for group in problem.group)
        self._reorder_costs = self._try_costs + compared // _COMPARED
        self._movable = [group for group, nodes in enumerate(problem.candidates) if len(nodes) > 1]

    def run(self) -> Timetable:
        self._repeat(self._reorder, until=_EFFORT // 2 + self._reorder_costs)
        if self._movable and not self._optimal():
            self._descend(self._placed, self._best)
            self._repeat(self._restart, until=self._try_costs)
        return self._best

    def _repeat(self, step: Callable[[], None], until: int) -> None:
        idle = 0
        while self._effort >= until and idle < _PATIENCE and not self._optimal():
            before = self._best.makespan
            step()
            idle = 0 if self._best.makespan < before else idle + 1

    def _reorder(self) -> None:
        """HEFT, as if some functions took longer and others shorter than they do."""
        self._effort -= self._reorder_costs
        stretch = [self._random.uniform(1 - _NOISE, 1 + _NOISE) for _ in self._problem.seconds]
        order = urgency_order(mean_ranks(self._problem, stretch))
        self._keep(timetable(self._problem, order, [None] * len(self._problem.candidates)))

    def _restart(self) -> None:
        """Local search from the best placement with a few groups moved at random."""
        placed = [*self._placed]
        for group in self._random.choices(self._movable, k=self._random.randint(2, 4)):
            placed[group] = self._random.choice(self._problem.candidates[group])
        self._descend(placed, self._try(placed))

    def _optimal(self) -> bool:
        return self._best.makespan * _CLEARLY <= self._bound

    def _descend(self, placed: list[int], table: Timetable) -> None:
        """Take moves that shorten the critical path until there are none."""
        moves = self._moves(placed, table)
        while self._effort >= self._try_costs and (move := next(moves, None)):
            group, node = move
            tried = [*placed]
            tried[group] = node
            result = self._try(tried)
            if result.makespan < table.makespan * _CLEARLY:
                placed, table = tried, result
                moves = self._moves(placed, table)

    def _try(self, placed: list[int]) -> Timetable:
        self._effort -= self._try_costs
        ranks = placed_ranks(self._problem, placed)
        table = timetable(self._problem, urgency_order(ranks), placed)
        self._keep(table)
        return table

    def _keep(self, table: Timetable) -> None:
        if table.makespan < self._best.makespan * _CLEARLY:
            self._best, self._placed = table, _by_group(self._problem, table)

    def _moves(self, placed: Sequence[int], table: Timetable) -> Iterator[tuple[int, int]]:
        groups = dict.fromkeys(self._problem.group[function] for function in critical_path(self._problem, table))
        moves = [(group, node) for group in groups for node in self._problem.candidates[group] if node != placed[group]]
        self._effort -= len(moves) // _COMPARED
        self._random.shuffle(moves)
        return iter(moves)


def critical_path(problem: Problem, table: Timetable) -> list[int]:
    """Functions that bound the makespan, the last first: each waited for the next one's result or room."""
    ended = {(table.node[function], end): function for function, end in enumerate(table.end)}
    function: int | None = max(range(len(table.end)), key=table.end.__getitem__)
    path: list[int] = []
    while function is not None:
        path.append(function)
        function = _waited_for(problem, table, function, ended)
    return path


def _waited_for(problem: Problem, table: Timetable, function: int, ended: dict[tuple[int, float], int]) -> int | None:
    start, node = table.start[function], table.node[function]
    for producer, transfer, _ in problem.inputs[function]:
        if table.end[producer] + (transfer if table.node[producer] != node else 0.0) >= start:
            return producer
    before = ended.get((node, start))
    # A function that takes no time ends where it starts, and would wait for itself.
    return before if before is not None and table.start[before] < start else None


def lower_bound(problem: Problem) -> float:
    """A makespan that no timetable beats: the longest chain, or the work over what all nodes have."""
    quickest = [
        min(seconds[node] for node in problem.candidates[group])
        for seconds, group in zip(problem.seconds, problem.group, strict=True)
    ]
    chain = [0.0] * len(quickest)
    for function, edges in enumerate(problem.inputs):
        chain[function] = quickest[function] + max((chain[producer] for producer, _, _ in edges), default=0.0)
    work = [0.0] * len(problem.limits[0])
    for need, seconds in zip(problem.needs, quickest, strict=True):
        for dimension, amount in need:
            work[dimension] += amount * seconds
    has = [sum(limits[dimension] for limits in problem.limits) for dimension in range(len(work))]
    return max([*chain, *(done / there for done, there in zip(work, has, strict=True) if done)])


def _by_group(problem: Problem, table: Timetable) -> list[int]:
    placed = [0] * len(problem.candidates)
    for function, group in enumerate(problem.group):
        placed[group] = table.node[function]
    return placed
