"""List scheduling by upward rank: HEFT (Topcuoglu, Hariri and Wu, 2002), with slots, claims and groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from handoff_lab.allocation.problem import Block, Problem
from handoff_lab.allocation.shortlist import Shortlist, is_large
from handoff_lab.allocation.timeline import Timeline


@dataclass(frozen=True, slots=True)
class Timetable:
    """Node, start and end of each function, by its number."""

    node: list[int]
    start: list[float]
    end: list[float]
    makespan: float


def heft(problem: Problem) -> Timetable:
    """Each function, the most urgent first, goes where it ends earliest."""
    return timetable(problem, urgency_order(mean_ranks(problem)), [None] * len(problem.candidates))


def mean_ranks(problem: Problem, stretch: Sequence[float] | None = None) -> list[float]:
    """Upward ranks over mean durations and transfers: the longest way from a function's start to the end of the run.

    ``stretch`` multiplies the durations.
    """
    between = 1.0 if len(problem.nodes) > 1 else 0.0
    ranks = [0.0] * len(problem.seconds)
    means: dict[tuple[int, int], float] = {}  # rows of seconds and lists of candidates are shared by many
    for function in reversed(range(len(ranks))):
        seconds, candidates = problem.seconds[function], problem.candidates[problem.group[function]]
        mean = means.get((id(seconds), id(candidates)))
        if mean is None:
            mean = sum(seconds[node] for node in candidates) / len(candidates)
            means[id(seconds), id(candidates)] = mean
        if stretch is not None:
            mean *= stretch[function]
        tail = 0.0
        for to, transfer, _ in problem.outputs[function]:
            tail = max(tail, transfer * between + ranks[to])
        ranks[function] = mean + tail
    return ranks


def placed_ranks(problem: Problem, placed: Sequence[int]) -> list[float]:
    """Upward ranks when the node of each group is known."""
    node = [placed[group] for group in problem.group]
    ranks = [0.0] * len(problem.seconds)
    for function in reversed(range(len(ranks))):
        here = node[function]
        tail = 0.0
        for to, seconds, _ in problem.outputs[function]:
            way = ranks[to] if node[to] == here else ranks[to] + seconds
            tail = max(tail, way)
        ranks[function] = problem.seconds[function][here] + tail
    return ranks


def urgency_order(ranks: Sequence[float]) -> list[int]:
    """By falling rank; functions of equal rank stay in topological order."""
    quantum = max(ranks) * 1e-9 or 1.0  # sums of the same numbers in another order are equal
    return sorted(range(len(ranks)), key=lambda function: -round(ranks[function] / quantum))


def timetable(problem: Problem, order: Sequence[int], placed: Sequence[int | None]) -> Timetable:
    """Schedule in ``order``, each group where ``placed`` says, or where all of it ends earliest."""
    count = len(problem.seconds)
    timelines = [Timeline(limits) for limits in problem.limits]
    table = Timetable([0] * count, [0.0] * count, [0.0] * count, 0.0)
    fixed = list(placed)
    makespan = 0.0
    shortlist = Shortlist(problem, timelines) if is_large(problem) else None
    for function in order:
        group = problem.group[function]
        at = fixed[group]
        if at is None and group in problem.blocks:
            at = _place_of_block(problem, timelines, table, function)
        nodes: Sequence[int] = problem.candidates[group] if at is None else (at,)
        if shortlist is not None and len(nodes) > 1:
            nodes = shortlist.of(function, [table.node[producer] for producer, _, _ in problem.inputs[function]])
        node, start = _best(problem, timelines, table, function, nodes)
        end = start + problem.seconds[function][node]
        timelines[node].add(start, end, problem.needs[function])
        table.node[function], table.start[function], table.end[function] = node, start, end
        fixed[group] = node
        makespan = max(makespan, end)
    return Timetable(table.node, table.start, table.end, makespan)


def _best(
    problem: Problem, timelines: Sequence[Timeline], table: Timetable, function: int, nodes: Sequence[int]
) -> tuple[int, float]:
    """The node on which ``function`` ends earliest, the one with most of its inputs among equals; and its start."""
    inputs, need, seconds = problem.inputs[function], problem.needs[function], problem.seconds[function]
    best, best_start, best_end = -1, 0.0, float("inf")
    for node in nodes:
        ready = _ready(table, inputs, node)
        if ready + seconds[node] > best_end:
            continue
        start = timelines[node].earliest(ready, seconds[node], need)
        end = start + seconds[node]
        if end < best_end or (end == best_end and _lying(table, inputs, node) > _lying(table, inputs, best)):
            best, best_start, best_end = node, start, end
    return best, best_start


def _place_of_block(problem: Problem, timelines: Sequence[Timeline], table: Timetable, first: int) -> int:
    """The node on which the group ends earliest whose ``first`` member has its turn."""
    inputs = problem.inputs[first]

    def badness(item: tuple[int, Block]) -> tuple[float, float]:
        node, block = item
        start = timelines[node].earliest(_ready(table, inputs, node), block.seconds, block.need)
        return start + block.seconds, -_lying(table, inputs, node)

    return min(problem.blocks[problem.group[first]].items(), key=badness)[0]


def _ready(table: Timetable, inputs: Sequence[tuple[int, float, float]], node: int) -> float:
    """When all ``inputs`` are on ``node``."""
    ready = 0.0
    for producer, transfer, _ in inputs:
        there = table.end[producer]
        if table.node[producer] != node:
            there += transfer
        ready = max(ready, there)
    return ready


def _lying(table: Timetable, inputs: Sequence[tuple[int, float, float]], node: int) -> float:
    """Bytes of ``inputs`` that lie on ``node``."""
    return sum(nbytes for producer, _, nbytes in inputs if table.node[producer] == node)
