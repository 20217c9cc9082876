"""The earliest finish: HEFT, improved by search."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from handoff_lab.allocation.base import Allocation
from handoff_lab.allocation.heft import heft
from handoff_lab.allocation.problem import Duration, Link, Problem, checked_durations
from handoff_lab.allocation.search import improve
from handoff_lab.graph import Function
from handoff_lab.graph.maps import told
from handoff_lab.resources import Resources


@dataclass(frozen=True, slots=True)
class Schedule:
    """Where and when each function is meant to run, in seconds from the start, by id."""

    nodes: Mapping[Hashable, str]
    start: Mapping[Hashable, float]
    end: Mapping[Hashable, float]
    makespan: float


class TimeOptimized:
    """The placement with the earliest end of the whole run.

    Functions are scheduled by upward rank, each on the node where it ends
    earliest, in a gap if there is one (HEFT); then functions of the critical
    path are moved for as long as that brings the end forward. A node runs as
    many functions at once as it has cpus, within its capabilities.

    Parameters
    ----------
    bandwidth
        Bytes per second between nodes; None: transfers take no time but the latency.
    latency
        Seconds that each transfer between nodes takes in addition.
    durations
        Function id to seconds, or to a mapping of node to seconds, instead of the functions' own.
        A function of unknown duration is taken to need one second.
    search
        Whether to improve on HEFT; it is left as it is where no duration is known, and for very large graphs.

    Raises
    ------
    ValueError
        For a bandwidth, latency or duration that makes no sense.

    References
    ----------
    H. Topcuoglu, S. Hariri, M.-Y. Wu: Performance-effective and low-complexity task scheduling for
    heterogeneous computing. IEEE Transactions on Parallel and Distributed Systems 13 (3), 2002.
    """

    rebalances = True

    def __init__(
        self,
        bandwidth: float | None = None,
        latency: float = 0.0,
        durations: Mapping[Any, Duration] | None = None,
        search: bool = True,
    ) -> None:
        self._link = Link(bandwidth, latency)
        self._durations = checked_durations(durations)
        self._search = search

    def allocate(self, functions: Sequence[Function], capabilities: Mapping[str, Resources]) -> Allocation:
        """Node of each function; those that are planned to start earlier go first."""
        schedule = self.schedule(functions, capabilities)
        return Allocation(schedule.nodes, schedule.start)

    def schedule(self, functions: Sequence[Function], capabilities: Mapping[str, Resources]) -> Schedule:
        """Where and when each function is meant to run."""
        if not functions:
            return Schedule({}, {}, {}, 0.0)
        problem = Problem.build(functions, capabilities, self._link, self._durations)
        table = heft(problem)
        if self._search and self._informed(functions):
            table = improve(problem, table)
        ids = [function.id for function in functions]
        return Schedule(
            nodes={id: problem.nodes[node] for id, node in zip(ids, table.node, strict=True)},
            start=dict(zip(ids, table.start, strict=True)),
            end=dict(zip(ids, table.end, strict=True)),
            makespan=table.makespan,
        )

    def _informed(self, functions: Sequence[Function]) -> bool:
        """Whether any duration is known: to search over guesses takes time and gains nothing."""
        return any(duration is not None for duration in map(told(self._durations), functions))
