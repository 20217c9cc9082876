"""Runs as OpenTelemetry traces and metrics, through the SDK when it is installed.

One span per run, below it one per attempt at a function; retries, moves and node losses are events of the run's span.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from handoff_lab.telemetry import bus as process_bus
from handoff_lab.telemetry import events as names
from handoff_lab.telemetry.bus import Bus
from handoff_lab.telemetry.events import EventName

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, TracerProvider

_NOTED = {
    names.FUNCTION_RETRY, names.FUNCTION_WAIT, names.FUNCTION_MOVE, names.FUNCTION_CACHED, names.FUNCTION_SKIP,
    names.NODE_DOWN,
}  # fmt: skip


def to_opentelemetry(
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    bus: Bus | None = None,
) -> Callable[[], bool]:
    """Export every run from now on; call what it returns to end that.

    Where traces and metrics go is set up on the SDK as for any other program.

    Parameters
    ----------
    tracer_provider, meter_provider
        By default the global ones.
    bus
        By default the process's own.

    Raises
    ------
    ImportError
        When the OpenTelemetry SDK is not installed.
    """
    try:
        import opentelemetry.sdk  # noqa: F401  # the API alone would drop everything without a word
        from opentelemetry import metrics, trace
    except ImportError as error:
        raise ImportError("to_opentelemetry needs the OpenTelemetry SDK: pip install opentelemetry-sdk") from error
    exporter = _Exporter(
        trace.get_tracer("handoff_lab", tracer_provider=tracer_provider),
        metrics.get_meter("handoff_lab", meter_provider=meter_provider),
    )
    attach = bus.attach if bus else process_bus.attach
    detach = bus.detach if bus else process_bus.detach
    attach(exporter, ("handoff",), exporter.handle)
    return lambda: detach(exporter)


class _Exporter:
    """Keeps the spans of the runs that go on."""

    def __init__(self, tracer: Any, meter: Any) -> None:
        self._tracer = tracer
        self._runs: dict[str, Span] = {}
        self._ended = meter.create_counter("handoff.functions", description="attempts that ended, by outcome")
        self._durations = meter.create_histogram("handoff.function.duration", unit="s")
        self._retries = meter.create_counter("handoff.retries")
        self._moved = meter.create_counter("handoff.transfer.size", unit="By")
        self._claimed = meter.create_gauge("handoff.node.claimed", description="held by functions, by resource")
        self._cpu = meter.create_gauge("handoff.node.cpu", unit="%", description="of one core")
        self._memory = meter.create_gauge("handoff.node.memory", unit="By")
        self._handlers: Mapping[EventName, Callable[[dict[str, float], dict[str, Any]], None]] = {
            names.RUN_START: self._run_start,
            names.RUN_STOP: self._run_stop,
            names.FUNCTION_STOP: self._function_stop,
            names.FUNCTION_EXCEPTION: self._function_exception,
            names.RESOURCE_ALLOCATION: self._resource,
            names.RESOURCE_RELEASE: self._resource,
            names.RESOURCE_UTILIZATION: self._load,
            names.TRANSFER_STOP: self._transfer,
        }

    def handle(self, event: EventName, numbers: dict[str, float], facts: dict[str, Any], _config: object) -> None:
        """The handler that is attached to the bus."""
        if event in _NOTED:
            self._note(event, numbers, facts)
        handler = self._handlers.get(event)
        if handler is not None:
            handler(numbers, facts)

    def _run_start(self, numbers: dict[str, float], facts: dict[str, Any]) -> None:
        attributes = {
            "handoff.run": facts["run"],
            "handoff.dag": str(facts.get("dag")),
            "handoff.strategy": str(facts.get("strategy")),
            "handoff.functions": numbers.get("functions", 0),
        }
        name = f"run {facts.get('dag')}"
        self._runs[facts["run"]] = self._tracer.start_span(
            name, attributes=attributes, start_time=_nanoseconds(numbers["time"])
        )

    def _run_stop(self, numbers: dict[str, float], facts: dict[str, Any]) -> None:
        span = self._runs.pop(facts["run"], None)
        if span is not None:
            span.set_attribute("handoff.status", facts["status"])
            if facts["status"] == "failed":
                _set_error(span, "a function failed")
            span.end(end_time=_nanoseconds(numbers["time"]))

    def _function_stop(self, numbers: dict[str, float], facts: dict[str, Any]) -> None:
        self._attempt("done", numbers, facts).end(end_time=_nanoseconds(numbers["ended"]))

    def _function_exception(self, numbers: dict[str, float], facts: dict[str, Any]) -> None:
        ended = _nanoseconds(numbers.get("ended", numbers["time"]))
        span = self._attempt("failed", numbers, facts)
        told = {
            "exception.type": str(facts.get("type") or facts.get("kind")),
            "exception.message": str(facts.get("error")),
            "exception.stacktrace": str(facts.get("traceback")),
        }
        span.add_event("exception", told, timestamp=ended)
        _set_error(span, str(facts.get("error")))
        span.end(end_time=ended)

    def _attempt(self, outcome: str, numbers: dict[str, float], facts: dict[str, Any]) -> Span:
        from opentelemetry import trace

        parent = self._runs.get(facts["run"])
        node = str(facts.get("node"))
        ended = numbers.get("ended", numbers["time"])
        labels = {"handoff.node": node, "handoff.outcome": outcome}
        self._ended.add(1, labels)
        self._durations.record(numbers.get("duration", 0.0), labels)
        span: Span = self._tracer.start_span(
            str(facts["function"]),
            context=trace.set_span_in_context(parent) if parent else None,
            start_time=_nanoseconds(numbers.get("started", ended)),
            attributes={
                "handoff.run": facts["run"],
                "handoff.node": node,
                "handoff.attempt": facts["attempt"],
                "handoff.slot": facts.get("slot", 0),
            },
        )
        return span

    def _note(self, event: EventName, numbers: dict[str, float], facts: dict[str, Any]) -> None:
        if event == names.FUNCTION_RETRY:
            self._retries.add(1)
        spans = [self._runs[facts["run"]]] if facts.get("run") in self._runs else []
        if event == names.NODE_DOWN:
            spans = list(self._runs.values())
        told = {f"handoff.{key}": str(facts[key]) for key in ("function", "node", "target", "reason") if key in facts}
        for span in spans:
            span.add_event(".".join(event[-2:]), told, timestamp=_nanoseconds(numbers["time"]))

    def _resource(self, _numbers: dict[str, float], facts: dict[str, Any]) -> None:
        for resource, amount in facts["claimed"].items():
            self._claimed.set(amount, {"handoff.node": facts["node"], "handoff.resource": resource})

    def _load(self, numbers: dict[str, float], facts: dict[str, Any]) -> None:
        labels = {"handoff.node": facts["node"]}
        self._cpu.set(numbers["cpu_percent"], labels)
        self._memory.set(numbers["memory"], labels)

    def _transfer(self, numbers: dict[str, float], facts: dict[str, Any]) -> None:
        self._moved.add(numbers["nbytes"], {"handoff.source": facts["source"], "handoff.target": facts["target"]})


def _set_error(span: Span, message: str) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.set_status(Status(StatusCode.ERROR, message))


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
