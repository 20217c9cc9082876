"""A graph, its nodes and its links as numbers, which is what schedulers count with."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from statistics import fmean

from handoff_lab.allocation.edges import edges
from handoff_lab.allocation.groups import Feasible, collocation_groups
from handoff_lab.allocation.loads import slots
from handoff_lab.allocation.timeline import Need
from handoff_lab.graph import Function, checks, maps
from handoff_lab.resources import Resources
from handoff_lab.resources.amounts import SLACK

Duration = float | Mapping[str, float]


def checked_durations(durations: Mapping[Hashable, Duration | None] | None) -> dict[Hashable, Duration | None]:
    """Durations that override the functions' own, if they make sense."""
    if durations is None:
        return {}
    if not isinstance(durations, Mapping):
        raise TypeError(f"durations is {durations!r}; give a mapping of function id to seconds")
    return {id: checks.duration(id, duration) for id, duration in durations.items()}


def seconds_on(nodes: Sequence[str], duration: Duration | None) -> list[float]:
    """Duration on each node; 1 s where nothing is known, the mean of the others on a node that is not named."""
    if duration is None:
        return [1.0] * len(nodes)
    if not isinstance(duration, Mapping):
        return [float(duration)] * len(nodes)
    mean = fmean(duration.values()) if duration else 1.0
    return [duration.get(node, mean) for node in nodes]


@dataclass(frozen=True, slots=True)
class Link:
    """Links between any two nodes; within a node, transfers take no time.

    ``bandwidth`` is in bytes per second, None for transfers that take no time
    but the ``latency``, which is in seconds.
    """

    bandwidth: float | None = None
    latency: float = 0.0

    def __post_init__(self) -> None:
        if self.bandwidth is not None and not (isinstance(self.bandwidth, Real) and self.bandwidth > 0):
            raise ValueError(f"bandwidth is {self.bandwidth!r}; it must be bytes per second, more than zero, or None")
        if not (isinstance(self.latency, Real) and 0 <= self.latency < math.inf):
            raise ValueError(f"latency is {self.latency!r}; it must be seconds, zero or more")

    def seconds(self, nbytes: float) -> float:
        """Time that ``nbytes`` take from one node to another."""
        return self.latency + (nbytes / self.bandwidth if self.bandwidth is not None else 0.0)


@dataclass(frozen=True, slots=True)
class Block:
    """A group of several functions as one on some node: side by side, as far as there is room for them."""

    seconds: float  # the longest of them, or all their work at the rate that the node allows
    need: Need


@dataclass(frozen=True, slots=True)
class Problem:
    """What is to be scheduled; functions, nodes and groups are numbered from 0.

    Functions are in topological order. ``inputs`` and ``outputs`` list, for
    each function, the other end of each edge, the seconds that it takes
    between nodes, and its weight in bytes (1 where unknown).
    """

    nodes: list[str]
    limits: list[list[float]]  # by node, then dimension; dimension 0 is slots
    seconds: list[list[float]]  # by function, then node
    needs: list[Need]
    inputs: list[list[tuple[int, float, float]]]
    outputs: list[list[tuple[int, float, float]]]
    group: list[int]  # by function
    candidates: list[list[int]]  # by group: the nodes that can hold it
    blocks: dict[int, dict[int, Block]]  # by group, those of several functions only; then by candidate

    @classmethod
    def build(
        cls,
        functions: Sequence[Function],
        capabilities: Mapping[str, Resources],
        link: Link,
        durations: Mapping[Hashable, Duration | None],
    ) -> Problem:
        """The problem that ``functions`` on these nodes are; ``durations`` override their own."""
        nodes = sorted(capabilities)
        names = sorted({name for function in functions for name in function.cost})
        number = {function.id: place for place, function in enumerate(functions)}
        inputs = [_inputs(function, functions, number, link) for function in functions]
        limits = [
            [float(slots(capabilities[node])), *(capabilities[node][name] * SLACK for name in names)] for node in nodes
        ]
        seconds = _seconds(functions, nodes, durations)
        needs = _needs(functions, names)
        group, candidates = _groups(functions, capabilities, nodes, number)
        return cls(
            nodes=nodes,
            limits=limits,
            seconds=seconds,
            needs=needs,
            inputs=inputs,
            outputs=_turned(inputs),
            group=group,
            candidates=candidates,
            blocks=_blocks(group, candidates, limits, seconds, needs),
        )


def _seconds(
    functions: Sequence[Function], nodes: Sequence[str], durations: Mapping[Hashable, Duration | None]
) -> list[list[float]]:
    """Seconds by function and node; functions of equal duration share a row."""
    rows: dict[object, list[float]] = {}
    seconds = []
    for duration in list(map(maps.told(durations), functions)):  # all are kept, so that no two have one ``id``
        key = ("by node", id(duration)) if isinstance(duration, Mapping) else duration
        row = rows.get(key)
        if row is None:
            row = rows[key] = seconds_on(nodes, duration)
        seconds.append(row)
    return seconds


def _needs(functions: Sequence[Function], names: Sequence[str]) -> list[Need]:
    """What each function needs of each dimension; those of equal cost share a list."""
    known: dict[Resources, Need] = {}
    needs = []
    for function in functions:
        cost = function.cost
        need = known.get(cost)
        if need is None:
            claimed = [(place, cost[name]) for place, name in enumerate(names, 1) if name in cost]
            need = known[cost] = [(0, 1.0), *claimed]
        needs.append(need)
    return needs


def _inputs(
    function: Function, functions: Sequence[Function], number: Mapping[Hashable, int], link: Link
) -> list[tuple[int, float, float]]:
    inputs = []
    for id, nbytes in edges(function):
        producer = number.get(id)
        if producer is not None:
            size = functions[producer].output_size if nbytes is None else nbytes
            inputs.append((producer, link.seconds(size or 0.0), 1.0 if size is None else float(size)))
    return inputs


def _turned(inputs: list[list[tuple[int, float, float]]]) -> list[list[tuple[int, float, float]]]:
    outputs: list[list[tuple[int, float, float]]] = [[] for _ in inputs]
    for consumer, taken in enumerate(inputs):
        for producer, seconds, nbytes in taken:
            outputs[producer].append((consumer, seconds, nbytes))
    return outputs


def _groups(
    functions: Sequence[Function],
    capabilities: Mapping[str, Resources],
    nodes: list[str],
    number: Mapping[Hashable, int],
) -> tuple[list[int], list[list[int]]]:
    feasible = Feasible(capabilities)
    place = {node: index for index, node in enumerate(nodes)}
    group = [0] * len(functions)
    numbered: dict[int, list[int]] = {}  # lists of nodes by their identity: ``feasible`` gives few, again and again
    candidates = []
    for index, members in enumerate(collocation_groups(functions)):
        nodes_of = feasible(members)
        numbers = numbered.get(id(nodes_of))
        if numbers is None:
            numbers = numbered[id(nodes_of)] = [place[node] for node in nodes_of]
        candidates.append(numbers)
        for function in members.members:
            group[number[function.id]] = index
    return group, candidates


def _blocks(
    group: Sequence[int],
    candidates: Sequence[Sequence[int]],
    limits: Sequence[Sequence[float]],
    seconds: Sequence[Sequence[float]],
    needs: Sequence[Need],
) -> dict[int, dict[int, Block]]:
    if len(candidates) == len(group):
        return {}
    members: dict[int, list[int]] = {}
    for function, index in enumerate(group):
        members.setdefault(index, []).append(function)
    return {
        index: {
            node: _block([(seconds[function][node], needs[function]) for function in those], limits[node])
            for node in candidates[index]
        }
        for index, those in members.items()
        if len(those) > 1
    }


def _block(members: Sequence[tuple[float, Need]], limits: Sequence[float]) -> Block:
    total, work = [0.0] * len(limits), [0.0] * len(limits)
    for seconds, need in members:
        for dimension, amount in need:
            total[dimension] += amount
            work[dimension] += amount * seconds
    longest = max(seconds for seconds, _ in members)
    return Block(
        max([longest, *(done / limit for done, limit in zip(work, limits, strict=True) if done)]),
        [(dimension, min(amount, limits[dimension])) for dimension, amount in enumerate(total) if amount],
    )
