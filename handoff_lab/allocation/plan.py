"""A run that was predicted: where and when each function runs, and what bounds the end."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sized
from dataclasses import dataclass

from handoff_lab._units import format_seconds
from handoff_lab.graph import DAG
from handoff_lab.resources import Resources

# Two moments closer than this share of the makespan are one.
_SAME = 1e-9


@dataclass(frozen=True, slots=True, repr=False)
class Plan:
    """A predicted run.

    Attributes
    ----------
    allocations
        Node of each function, by id.
    start, end
        Seconds from the start of the run, by id.
    makespan
        Seconds that the run takes.
    critical_path
        Ids from first to last; each starts when the one before it has ended, for it needs
        its result or its room on the node. Shorten one of these to shorten the run.
    utilization
        Node to resource to the share (0 to 1) that is claimed, on average over the run.
    capabilities
        What each node has.
    dag_name
        Name of the DAG.
    """

    allocations: Mapping[Hashable, str]
    start: Mapping[Hashable, float]
    end: Mapping[Hashable, float]
    makespan: float
    critical_path: tuple[Hashable, ...]
    utilization: Mapping[str, Mapping[str, float]]
    capabilities: Mapping[str, Resources]
    dag_name: str

    @classmethod
    def from_times(
        cls,
        dag: DAG,
        allocations: Mapping[Hashable, str],
        start: Mapping[Hashable, float],
        end: Mapping[Hashable, float],
        capabilities: Mapping[str, Resources],
    ) -> Plan:
        """The plan that these times make.

        Parameters
        ----------
        dag
            The DAG; its functions that are not in ``start`` are not part of the run.
        allocations, start, end
            Node, and seconds from the start of the run, by id of function.
        capabilities
            What each node has.
        """
        makespan = max(end.values(), default=0.0)
        return cls(
            allocations=dict(allocations),
            start=dict(start),
            end=dict(end),
            makespan=makespan,
            critical_path=_critical_path(dag, allocations, start, end, makespan),
            utilization=_utilization(dag, allocations, start, end, capabilities, makespan),
            capabilities=dict(capabilities),
            dag_name=dag.name,
        )

    def __repr__(self) -> str:
        size = f"{_count(self.start, 'function')} on {_count(self.capabilities, 'node')}"
        return f"<Plan of {self.dag_name!r}: {format_seconds(self.makespan)}; {size}>"


def _count(things: Sized, what: str) -> str:
    return f"{len(things)} {what}{'s' * (len(things) != 1)}"


def _utilization(
    dag: DAG,
    allocations: Mapping[Hashable, str],
    start: Mapping[Hashable, float],
    end: Mapping[Hashable, float],
    capabilities: Mapping[str, Resources],
    makespan: float,
) -> dict[str, dict[str, float]]:
    shares = {node: dict.fromkeys(has, 0.0) for node, has in capabilities.items()}
    for id, began in start.items():
        node = allocations[id]
        for name, amount in dag.functions[id].cost.items():
            if makespan:
                shares[node][name] += amount / capabilities[node][name] * (end[id] - began) / makespan
    return shares


def _critical_path(
    dag: DAG,
    allocations: Mapping[Hashable, str],
    start: Mapping[Hashable, float],
    end: Mapping[Hashable, float],
    makespan: float,
) -> tuple[Hashable, ...]:
    """From the last function back: to the input that came last, or to who left the node just then."""
    if not end:
        return ()
    began = {id: _moment(seconds, makespan) for id, seconds in start.items()}
    ended = {id: _moment(seconds, makespan) for id, seconds in end.items()}
    left = {(allocations[id], ended[id]): id for id in ended if ended[id] > began[id]}
    place = {id: place for place, id in enumerate(dag.functions)}

    def end_of(id: Hashable) -> tuple[int, int]:
        return ended[id], place[id]  # of those that end together, the last needs the others

    at: Hashable = max(end, key=end_of)
    path = [at]
    while True:
        last = max(_producers(dag, at, start), key=end_of, default=None)
        if last is None or ended[last] < began[at]:
            last = left.get((allocations[at], began[at]), last)
        if last is None:
            return tuple(reversed(path))
        path.append(last)
        at = last


def _moment(seconds: float, makespan: float) -> int:
    return round(seconds / (makespan * _SAME)) if makespan else 0


def _producers(dag: DAG, id: Hashable, ran: Mapping[Hashable, float]) -> list[Hashable]:
    """Functions of the run whose results ``id`` needs, those that its inline functions need among them."""
    found: list[Hashable] = []
    seen: set[Hashable] = set()
    ahead = [*dag.functions[id].dependencies]
    while ahead:
        producer = ahead.pop()
        if producer in seen:
            continue
        seen.add(producer)
        if producer in ran:
            found.append(producer)
        elif producer in dag.functions:
            ahead.extend(dag.functions[producer].dependencies)
    return found
