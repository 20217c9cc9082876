import sys

import pytest

from handoff_lab.telemetry import Bus, Event, to_opentelemetry

FUNCTION = ("handoff", "execution", "function")


def attempt(number, **more):
    return {"run": "r1", "function": "blur", "node": "alpha", "attempt": number, "slot": 1, **more}


EVENTS = [
    Event(("handoff", "run", "start"), 1.0, {"functions": 1}, {"run": "r1", "dag": "d", "strategy": "s"}),
    Event(
        (*FUNCTION, "exception"),
        3.0,
        {"started": 2.0, "ended": 3.0, "duration": 1.0},
        attempt(1, kind="exception", error="too dark", type="ValueError", traceback="Traceback"),
    ),
    Event((*FUNCTION, "retry"), 3.0, {"delay": 0.0}, attempt(2, reason="ValueError")),
    Event((*FUNCTION, "stop"), 5.0, {"started": 4.0, "ended": 5.0, "duration": 1.0, "nbytes": 8}, attempt(2, log="")),
    Event(("handoff", "resource", "release"), 5.0, {"cpu": 1.0}, attempt(2, claimed={"cpu": 0.0}, capabilities={})),
    Event(("handoff", "resource", "utilization"), 5.0, {"cpu_percent": 50.0, "memory": 9.0}, {"node": "alpha"}),
    Event(
        ("handoff", "transfer", "stop"),
        5.5,
        {"nbytes": 8, "duration": 0.1, "started": 5.0, "ended": 5.1},
        {"run": "r1", "function": "blur", "source": "alpha", "target": "beta"},
    ),
    Event(("handoff", "node", "down"), 5.6, {}, {"node": "beta", "capabilities": {}, "reason": "killed"}),
    Event(("handoff", "run", "stop"), 6.0, {"duration": 5.0}, {"run": "r1", "dag": "d", "status": "failed"}),
]


@pytest.fixture
def exported():
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    spans, metrics, bus = InMemorySpanExporter(), InMemoryMetricReader(), Bus()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    stop = to_opentelemetry(tracer_provider=tracers, meter_provider=MeterProvider([metrics]), bus=bus)
    for event in EVENTS:
        bus.dispatch(event)
    assert stop()
    bus.dispatch(EVENTS[3])
    return {span.name: span for span in spans.get_finished_spans()}, spans.get_finished_spans(), metrics


def test_a_run_is_a_span_with_its_attempts_below_it(exported):
    by_name, spans, _ = exported
    assert [span.name for span in spans] == ["blur", "blur", "run d"]
    run = by_name["run d"]
    assert (run.start_time, run.end_time) == (10**9, 6 * 10**9)
    assert {span.parent.span_id for span in spans[:2]} == {run.context.span_id}
    assert [(span.start_time / 1e9, span.end_time / 1e9) for span in spans[:2]] == [(2.0, 3.0), (4.0, 5.0)]
    assert [span.attributes["handoff.attempt"] for span in spans[:2]] == [1, 2]


def test_failures_and_what_went_on_in_between_are_told(exported):
    by_name, spans, _ = exported
    assert [span.status.status_code.name for span in spans] == ["ERROR", "UNSET", "ERROR"]
    assert spans[0].events[0].attributes["exception.message"] == "too dark"
    assert [event.name for event in by_name["run d"].events] == ["function.retry", "node.down"]


def test_metrics_are_counted(exported):
    *_, reader = exported
    (resource,) = reader.get_metrics_data().resource_metrics
    found = {metric.name: list(metric.data.data_points) for metric in resource.scope_metrics[0].metrics}
    outcomes = {p.attributes["handoff.outcome"]: p.value for p in found["handoff.functions"]}
    assert outcomes == {"failed": 1, "done": 1}
    assert sum(p.sum for p in found["handoff.function.duration"]) == 2.0
    assert found["handoff.retries"][0].value == 1
    assert found["handoff.transfer.size"][0].value == 8
    assert found["handoff.node.claimed"][0].attributes["handoff.resource"] == "cpu"
    assert found["handoff.node.cpu"][0].value == 50.0


def test_without_the_sdk_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)
    with pytest.raises(ImportError, match="pip install opentelemetry-sdk"):
        to_opentelemetry(bus=Bus())
