"""The numbers behind the pictures, as plain dicts and lists."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from typing import Any

from handoff_lab._units import MEMORIES
from handoff_lab.allocation import Plan
from handoff_lab.telemetry import FunctionStatus, RunRecord
from handoff_lab.telemetry.events import NODE_CHANGED, NODE_DOWN, NODE_UP, RUN_START
from handoff_lab.visualization.sources import AnyRun, record_of

Steps = list[list[float]]
_SAME_S = 1e-9  # times closer than this are one


@dataclass(frozen=True, slots=True)
class Bar:
    """A stretch of time in a lane of a node. Times are seconds from the start of the run."""

    function: Hashable
    node: str
    lane: int
    start: float
    end: float
    status: FunctionStatus = FunctionStatus.DONE
    number: int = 1


def resource_utilization(run: AnyRun) -> dict[str, Any]:
    """How full each node was, resource by resource, over the time of a run.

    Parameters
    ----------
    run
        A run, while it goes on or after; or its record.

    Returns
    -------
    dict
        ``{"run": id, "duration": seconds, "nodes": {node: {resource: {...}}}}``. Of each resource: ``capability``;
        ``claimed``, ``capabilities`` and ``used``, lists of ``[seconds from the start, amount]``, each holding until
        the next; ``peak``, the most that was claimed; ``busy``, the mean share (0 to 1) of the capability that was
        claimed. ``used`` is what the node measured, of ``cpu`` (1 is one core), ``memory`` (MB), ``gpu`` (1 is one
        GPU, whoever uses it) and ``gpu_memory`` (MB), else empty.
    """
    record = record_of(run)
    start = record.started or 0.0
    end = max(record.last_time, start)
    claims, loads = _by_node(record.claims), _by_node(record.loads)
    gpu_loads = _by_node([*_gpu_loads(record)])
    capabilities = _capability_steps(record, start)
    nodes: dict[str, dict[str, Any]] = {}
    for node, steps in capabilities.items():
        nodes[node] = {}
        for name in dict.fromkeys(name for _, has in steps for name in has):
            had = [(time, has.get(name, 0.0)) for time, has in steps]
            measured = (gpu_loads if name in ("gpu", "gpu_memory") else loads).get(node, [])
            nodes[node][name] = _resource(name, had, claims.get(node, []), measured, start, end)
    return {"run": record.id, "duration": end - start, "nodes": nodes}


def run_bars(record: RunRecord) -> list[Bar]:
    """The attempts of a run that began; one that still goes on ends with the last news."""
    start = record.started or 0.0
    bars = [
        Bar(
            function=attempt.function,
            node=attempt.node,
            lane=attempt.slot or 0,
            start=attempt.started - start,
            end=(max(record.last_time, attempt.started) if attempt.ended is None else attempt.ended) - start,
            status=attempt.status,
            number=attempt.number,
        )
        for attempt in list(record.attempts)
        if attempt.started is not None and attempt.node is not None
    ]
    return bars if _apart(bars) else _stacked(bars)


def plan_bars(plan: Plan) -> list[Bar]:
    """The functions of a plan, each in the first lane of its node that is free."""
    return _stacked(
        Bar(id, plan.allocations[id], 0, start, plan.end[id], FunctionStatus.WAITING)
        for id, start in plan.start.items()
    )


def _apart(bars: Iterable[Bar]) -> bool:
    """Whether no two bars of a lane overlap; they do where slots are not told apart."""
    until: dict[tuple[str, int], float] = {}
    for bar in sorted(bars, key=lambda bar: bar.start):
        if bar.start < until.get((bar.node, bar.lane), bar.start) - _SAME_S:
            return False
        until[bar.node, bar.lane] = bar.end
    return True


def _stacked(bars: Iterable[Bar]) -> list[Bar]:
    """The bars, each in the first lane of its node that is free."""
    free: dict[str, list[float]] = {}
    stacked = []
    for bar in sorted(bars, key=lambda bar: (bar.start, bar.end)):
        lanes = free.setdefault(bar.node, [])
        lane = next((n for n, until in enumerate(lanes) if until <= bar.start + _SAME_S), len(lanes))
        lanes[lane : lane + 1] = [bar.end]
        stacked.append(replace(bar, lane=lane))
    return stacked


def _by_node(rows: Sequence[tuple[Any, ...]]) -> dict[str, list[tuple[Any, ...]]]:
    found: dict[str, list[tuple[Any, ...]]] = {}
    for row in list(rows):
        found.setdefault(row[1], []).append(row)
    return found


def _capability_steps(record: RunRecord, start: float) -> dict[str, list[tuple[float, Mapping[str, float]]]]:
    """What each node had, from when on."""
    steps: dict[str, list[tuple[float, Mapping[str, float]]]] = {}
    for event in list(record.events):
        if event.name in (NODE_UP, NODE_CHANGED, NODE_DOWN):
            has = {} if event.name == NODE_DOWN else event.metadata.get("capabilities") or {}
            steps.setdefault(event.metadata["node"], []).append((max(0.0, event.time - start), has))
        elif event.name == RUN_START:
            for node, has in (event.metadata.get("capabilities") or {}).items():
                steps.setdefault(node, []).append((0.0, has))
    return steps


def _resource(
    name: str,
    capabilities: list[tuple[float, float]],
    claims: Iterable[tuple[Any, ...]],
    loads: Iterable[tuple[Any, ...]],
    start: float,
    end: float,
) -> dict[str, Any]:
    claimed = _steps([(0.0, 0.0), *((time - start, total.get(name, 0.0)) for time, _, total in claims)])
    held, had = _area(claimed, end - start), _area(capabilities, end - start)
    return {
        "capability": capabilities[-1][1] or max(amount for _, amount in capabilities),
        "capabilities": _steps(capabilities),
        "claimed": claimed,
        "used": _used(name, loads, start),
        "peak": max(amount for _, amount in claimed),
        "busy": min(1.0, held / had) if had else 0.0,
    }


def _used(name: str, loads: Iterable[tuple[Any, ...]], start: float) -> Steps:
    if name in ("cpu", "gpu"):
        return [[time - start, percent / 100] for time, _, percent, _ in loads]
    if name in MEMORIES:
        return [[time - start, nbytes / 10**6] for time, _, _, nbytes in loads]
    return []


def _gpu_loads(record: RunRecord) -> Iterable[tuple[float, str, float, float]]:
    """As ``record.loads``: all GPUs of a node together."""
    for (time, node), gpus in groupby(record.gpus, attrgetter("time", "node")):
        seen = list(gpus)
        yield time, node, sum(gpu.percent or 0.0 for gpu in seen), sum(gpu.memory for gpu in seen)


def _steps(points: Iterable[tuple[float, float]]) -> Steps:
    """Points without those that change nothing; of several at one time the last."""
    steps: Steps = []
    for time, amount in points:
        if steps and steps[-1][0] == time:
            steps[-1][1] = amount
        elif not steps or steps[-1][1] != amount:
            steps.append([time, amount])
    return steps


def _area(steps: Iterable[Sequence[float]], end: float) -> float:
    """What lies under a step function up to ``end``."""
    area, since, height = 0.0, 0.0, 0.0
    for time, amount in steps:
        area += height * max(0.0, min(time, end) - since)
        since, height = max(since, time), amount
    return area + height * max(0.0, end - since)
