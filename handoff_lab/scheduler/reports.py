"""What the scheduler tells the outside world: one function per event of the catalogue in ``telemetry.events``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from handoff_lab.messages import (
    Cancelled,
    Failed,
    Finished,
    GpuLoad,
    GpuUse,
    NodeLoad,
    Report,
    ReportTransferred,
    Transferred,
    TransferredMany,
)
from handoff_lab.resources import Resources
from handoff_lab.scheduler.ledger import NodeState
from handoff_lab.scheduler.state import CANCELLED, DONE, FAILED, SKIPPED, Progress

_NOTHING: Mapping[str, float] = {}
_RUN_START = ("handoff", "run", "start")
_RUN_STOP = ("handoff", "run", "stop")
_QUEUED = ("handoff", "execution", "function", "queued")
_START = ("handoff", "execution", "function", "start")
_STOP = ("handoff", "execution", "function", "stop")
_EXCEPTION = ("handoff", "execution", "function", "exception")
_RETRY = ("handoff", "execution", "function", "retry")
_CACHED = ("handoff", "execution", "function", "cached")
_CANCEL = ("handoff", "execution", "function", "cancel")
_SKIP = ("handoff", "execution", "function", "skip")
_WAIT = ("handoff", "execution", "function", "wait")
_MOVE = ("handoff", "execution", "function", "move")
_LOG = ("handoff", "execution", "function", "log")
_ALLOCATION = ("handoff", "resource", "allocation")
_RELEASE = ("handoff", "resource", "release")
_UTILIZATION = ("handoff", "resource", "utilization")
_TRANSFER = ("handoff", "transfer", "stop")


class _Timed(Protocol):
    @property
    def started(self) -> float | None: ...
    @property
    def ended(self) -> float | None: ...


def run_start(run: Progress, capabilities: Mapping[str, Resources]) -> Report:
    functions = run.program.functions
    placed = [i for i, function in enumerate(functions) if function.is_to_run]
    cached = sum(function.given is not None and function.function is not None for function in functions)
    metadata = {
        "run": run.id,
        "dag": run.program.dag,
        "allocations": {functions[i].id: node for i in placed if (node := run.node[i]) is not None},
        "capabilities": dict(capabilities),
        "costs": {functions[i].id: functions[i].cost for i in placed},
        "strategy": run.options.strategy,
    }
    return Report(_RUN_START, {"functions": len(placed) + cached}, metadata)


def run_stop(run: Progress, now: float) -> Report:
    counts = run.counts()
    measurements = {
        "duration": now - run.started,
        "done": counts[DONE],
        "failed": counts[FAILED],
        "skipped": counts[SKIPPED],
        "cancelled": counts[CANCELLED],
        "retries": run.retries,
    }
    return Report(_RUN_STOP, measurements, {"run": run.id, "dag": run.program.dag, "status": run.status})


def queued(run: Progress, i: int) -> Report:
    metadata = {"run": run.id, "function": run.program.functions[i].id, "node": run.node[i]}
    return Report(_QUEUED, _NOTHING, metadata)


def start(run: Progress, i: int, started: float, slot: int) -> Report:
    return Report(_START, {"started": started}, {**_attempt(run, i), "slot": slot})


def stop(run: Progress, i: int, event: Finished) -> Report:
    measurements: dict[str, float] = {
        "started": event.started,
        "ended": event.ended,
        "duration": event.ended - event.started,
        "nbytes": event.nbytes,
    }
    if event.peak_memory is not None:
        measurements["peak_memory"] = event.peak_memory
    return Report(_STOP, measurements, {**_attempt(run, i), "slot": event.slot, "log": event.log})


def exception(run: Progress, i: int, event: Failed) -> Report:
    failure = event.failure
    metadata = {
        **_attempt(run, i),
        "slot": event.slot,
        "kind": failure.kind.value,
        "error": failure.message.partition("\n")[0],
        "type": failure.type_name,
        "traceback": failure.traceback,
        "log": event.log,
    }
    times = _times(event)
    times["duration"] = times["ended"] - times["started"] if len(times) == 2 else 0.0
    return Report(_EXCEPTION, times, metadata)


def retry(run: Progress, i: int, delay: float, reason: str) -> Report:
    metadata = _attempt(run, i)
    metadata["attempt"] += 1
    return Report(_RETRY, {"delay": delay}, {**metadata, "reason": reason})


def cached(run: Progress, i: int) -> Report:
    return Report(_CACHED, _NOTHING, {"run": run.id, "function": run.program.functions[i].id, "node": run.holder[i]})


def cancel(run: Progress, i: int, event: Cancelled | Failed | Finished | None) -> Report:
    return Report(_CANCEL, _NOTHING if event is None else _times(event), _attempt(run, i))


def skip(run: Progress, i: int, because: int) -> Report:
    functions = run.program.functions
    return Report(_SKIP, _NOTHING, {"run": run.id, "function": functions[i].id, "because": functions[because].id})


def wait(run: Progress, i: int, awaited: str) -> Report:
    return Report(_WAIT, _NOTHING, {"run": run.id, "function": run.program.functions[i].id, "awaited": awaited})


def move(run: Progress, i: int, source: str, target: str, reason: str) -> Report:
    metadata = {"source": source, "target": target, "reason": reason}
    return Report(_MOVE, _NOTHING, {"run": run.id, "function": run.program.functions[i].id, **metadata})


def log(run: Progress, i: int, attempt: int, text: str) -> Report:
    return Report(_LOG, _NOTHING, {**_attempt(run, i), "attempt": attempt, "text": text})


def claimed(run: Progress, i: int, cost: Resources, node: NodeState) -> Report:
    return Report(_ALLOCATION, cost, _claim(run, i, node))


def released(run: Progress, i: int, cost: Resources, node: NodeState) -> Report:
    return Report(_RELEASE, cost, _claim(run, i, node))


def transferred(run: Progress, i: int, event: Transferred) -> Report:
    measurements = {
        "nbytes": event.nbytes,
        "duration": event.ended - event.started,
        "started": event.started,
        "ended": event.ended,
    }
    function = run.program.functions[i]
    if function.beside is not None:
        function = run.program.functions[function.beside]
    metadata = {"run": run.id, "function": function.id, "source": event.source, "target": event.target}
    return Report(_TRANSFER, measurements, metadata)


def transferred_many(run: Progress, event: TransferredMany) -> ReportTransferred:
    functions = run.program.functions
    shown = [beside if (beside := functions[i].beside) is not None else i for i in event.functions]
    return ReportTransferred(run.id, event.target, shown, event.sources, event.nbytes, event.started, event.ended)


def node(what: str, state: NodeState, **facts: object) -> Report:
    metadata = {"node": state.name, "capabilities": state.capabilities, **facts}
    return Report(("handoff", "node", what), _NOTHING, metadata)


def utilization(event: NodeLoad, state: NodeState, runs: Mapping[str, Progress]) -> Report:
    measurements = {"cpu_percent": event.cpu_percent, "memory": event.memory}
    metadata: dict[str, Any] = {"node": state.name, "claimed": state.claimed, "capabilities": state.capabilities}
    if event.gpus:
        measurements["gpu_percent"] = sum(gpu.percent or 0.0 for gpu in event.gpus)
        measurements["gpu_memory"] = sum(gpu.memory for gpu in event.gpus)
        metadata["gpus"] = [_gpu(gpu, state.name, runs) for gpu in event.gpus]
    return Report(_UTILIZATION, measurements, metadata)


def _gpu(gpu: GpuLoad, node: str, runs: Mapping[str, Progress]) -> dict[str, Any]:
    uses = [found for use in gpu.functions if (found := _gpu_use(use, node, runs)) is not None]
    return {"gpu": gpu.gpu, "percent": gpu.percent, "memory": gpu.memory, "total": gpu.total, "functions": uses}


def _gpu_use(use: GpuUse, node: str, runs: Mapping[str, Progress]) -> dict[str, Any] | None:
    """None for what is over, and for what the node has no business with."""
    run, i, number = use.id
    progress = runs.get(run)
    if progress is None or not 0 <= i < len(progress.node) or (progress.node[i], progress.number[i]) != (node, number):
        return None
    return {
        "run": run,
        "function": progress.program.functions[i].id,
        "attempt": progress.attempt(i),
        "percent": use.percent,
        "memory": use.memory,
    }


def _attempt(run: Progress, i: int) -> dict[str, Any]:
    return {
        "run": run.id,
        "function": run.program.functions[i].id,
        "node": run.node[i],
        "attempt": run.attempt(i),
    }


def _claim(run: Progress, i: int, node: NodeState) -> dict[str, Any]:
    return {**_attempt(run, i), "claimed": node.claimed, "capabilities": node.capabilities}


def _times(event: _Timed) -> dict[str, float]:
    times = {}
    if event.started is not None:
        times["started"] = event.started
    if event.ended is not None:
        times["ended"] = event.ended
    return times
