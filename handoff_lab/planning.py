"""Predicting a run without running it: the real scheduler in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Protocol

from handoff_lab._errors import MissingFunctionError
from handoff_lab.allocation import AllocatorLike, Plan, TimeOptimized
from handoff_lab.allocation.problem import Duration, checked_durations, seconds_on
from handoff_lab.backends.simulated import SimulatedBackend
from handoff_lab.backends.simulation import Simulation
from handoff_lab.graph import DAG, maps
from handoff_lab.graph.closest import closest
from handoff_lab.messages import Attempt, AttemptId
from handoff_lab.resources import Resources, parse_capabilities
from handoff_lab.scheduler import Program, RunOptions, compile_program

Durations = Mapping[Hashable, Duration]


class HasNodes(Protocol):
    """A cluster, or whatever else has nodes with capabilities."""

    @property
    def nodes(self) -> Mapping[str, Any]: ...


def plan(
    dag: DAG,
    nodes: Mapping[str, Mapping[str, float | str]] | HasNodes,
    *,
    allocation_strategy: AllocatorLike = "time_optimized",
    bandwidth: float | None = None,
    latency: float = 0.0,
    durations: Durations | None = None,
) -> Plan:
    """Predict a run of ``dag`` in which nothing fails; timeouts end nothing.

    Parameters
    ----------
    dag
        Its functions' ``duration`` and ``output_size`` say what they need.
    nodes
        A cluster, or capabilities by name.
    allocation_strategy
        As for a run.
    bandwidth
        Bytes per second between nodes; None: transfers are free. Within a node they always are.
    latency
        Seconds that each transfer between nodes takes in addition.
    durations
        Function id to seconds, or to a mapping of node to seconds, instead of the functions' own; a map's for one item.
        A function of unknown duration is taken to need one second.

    Raises
    ------
    InvalidDAGError
        When the DAG cannot be run.
    AllocationError
        When a function fits on no node.
    MissingFunctionError
        When ``durations`` names a function that is not there.
    ValueError, TypeError
        For an argument that makes no sense.

    Examples
    --------
    >>> from handoff_lab.graph import Function
    >>> dag = DAG().add(Function("xs", list, duration=2.0), Function("n", len, args=["xs"], duration=3.0))
    >>> prediction = plan(dag, {"alpha": {"cpu": 1}, "beta": {"cpu": 1}}, bandwidth=10e6)
    >>> prediction.makespan, prediction.critical_path
    (5.0, ('xs', 'n'))
    """
    capabilities = _capabilities(nodes)
    dag = maps.cut(dag.validate(), maps.by_capacity(lambda: capabilities))
    told = checked_durations(durations)
    for id in told:
        if id not in dag.functions:
            raise MissingFunctionError(id, "durations", closest(id, dag.functions))
    program = compile_program(dag, run="plan")
    if allocation_strategy == "time_optimized":
        allocation_strategy = TimeOptimized(bandwidth, latency, durations)
    backend = SimulatedBackend(
        capabilities,
        duration=_duration(program, told),
        bandwidth=bandwidth,
        latency=latency,
        nbytes=_nbytes(dag, program),
    )
    simulation = Simulation(backend, timeouts=False)
    simulation.submit(program, RunOptions(allocator=allocation_strategy))
    simulation.run()
    times = {
        program.functions[id.function].id: event
        for id, event in simulation.finished.items()
        if program.functions[id.function].function is not None
    }
    progress = simulation.scheduler.progress(program.run)
    return Plan.from_times(
        dag,
        {id: progress.node[program.index[id]] or "" for id in times},
        {id: event.started for id, event in times.items()},
        {id: event.ended for id, event in times.items()},
        capabilities,
    )


def _capabilities(nodes: Mapping[str, Mapping[str, float | str]] | HasNodes) -> dict[str, Resources]:
    if isinstance(nodes, Mapping):
        return {name: parse_capabilities(has) for name, has in nodes.items()}
    there = getattr(nodes, "nodes", None)
    if not isinstance(there, Mapping):
        raise TypeError(
            f"nodes is {nodes!r}; give a cluster, or capabilities by name such as {{'alpha': {{'cpu': 2}}}}"
        )
    return {name: parse_capabilities(node.capabilities) for name, node in there.items()}


def _duration(program: Program, durations: Mapping[Hashable, Duration | None]) -> Callable[[Attempt], float]:
    seconds_of = maps.told(durations)

    def seconds(attempt: Attempt) -> float:
        function = program.functions[attempt.id.function].function
        if function is None:
            return 0.0  # a serializer: its time is part of the transfer
        return seconds_on([attempt.node], seconds_of(function))[0]

    return seconds


def _nbytes(dag: DAG, program: Program) -> Callable[[AttemptId, AttemptId], float]:
    """Bytes that cross each edge: what its argument says, else the size of the producer's result."""
    edges: dict[tuple[int, int], float] = {}
    for i, scheduled in enumerate(program.functions):
        if scheduled.allocated is None:
            continue
        for argument in scheduled.allocated.arguments:
            nbytes = dag.functions[argument.id].output_size if argument.nbytes is None else argument.nbytes
            edges[program.producer(argument, scheduled.allocated), i] = nbytes or 0.0
    sizes = [function.function.output_size or 0.0 if function.function else 0.0 for function in program.functions]
    return lambda key, consumer: edges.get((key.function, consumer.function), sizes[key.function])
