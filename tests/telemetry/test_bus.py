import asyncio
import logging
import threading
import warnings

import pytest

from handoff_lab.telemetry import Bus, Event

START = Event(("handoff", "run", "start"), 7.5, {"functions": 2}, {"run": "r1"})


class Ear:
    """Remembers what it was called with."""

    def __init__(self):
        self.heard = []

    def __call__(self, event, measurements, metadata, config):
        self.heard.append((event, measurements, metadata, config))

    @property
    def names(self):
        return [event[-1] for event, *_ in self.heard]


def event(*name):
    return Event(("handoff", *name), 1.0)


def test_handler_gets_the_event_its_time_and_the_config():
    bus, ear = Bus(), Ear()
    bus.attach("ear", START.name, ear, {"colour": "blue"})
    bus.dispatch(START)
    assert ear.heard == [(START.name, {"time": 7.5, "functions": 2}, {"run": "r1"}, {"colour": "blue"})]


@pytest.mark.parametrize(
    ("prefix", "names"),
    [
        ((), ["start", "stop", "up"]),
        (("handoff",), ["start", "stop", "up"]),
        (("handoff", "run"), ["start", "stop"]),
        (["handoff", "run", "stop"], ["stop"]),
        (("handoff", "run", "stop", "more"), []),
        (("hand",), []),
    ],
)
def test_a_prefix_hears_all_below_it(prefix, names):
    bus, ear = Bus(), Ear()
    bus.attach("ear", prefix, ear)
    for name in (("run", "start"), ("run", "stop"), ("node", "up")):
        bus.dispatch(event(*name))
    assert ear.names == names


def test_handlers_are_called_in_the_order_of_attaching():
    bus, order = Bus(), []
    for name in "abc":
        bus.attach(name, ("handoff",), lambda *_, name=name: order.append(name))
    bus.dispatch(START)
    assert order == ["a", "b", "c"]


def test_a_taken_id_is_refused_until_it_is_detached():
    bus = Bus()
    bus.attach("ear", ("handoff",), Ear())
    with pytest.raises(ValueError, match="'ear' is taken; detach it first"):
        bus.attach("ear", ("handoff",), Ear())
    assert bus.detach("ear")
    assert not bus.detach("ear")
    bus.attach("ear", ("handoff",), Ear())


def test_a_detached_handler_hears_no_more():
    bus, ear = Bus(), Ear()
    bus.attach("ear", ("handoff",), ear)
    bus.dispatch(START)
    bus.detach("ear")
    bus.dispatch(START)
    assert len(ear.heard) == 1


def test_a_string_for_an_event_is_refused_with_a_hint():
    with pytest.raises(TypeError, match=r"write \('handoff',\)"):
        Bus().attach("ear", "handoff", Ear())


def test_a_handler_that_is_not_callable_is_refused():
    with pytest.raises(TypeError, match="not callable"):
        Bus().attach("ear", ("handoff",), 3)


class Unspeakable(Exception):
    def __repr__(self):
        raise asyncio.CancelledError


@pytest.mark.parametrize("error", [KeyError("x"), SystemExit(2), asyncio.CancelledError(), Unspeakable()])
def test_a_handler_that_raises_is_detached_and_the_others_still_hear(error, caplog):
    def bad(*_):
        raise error

    bus, before, after = Bus(), Ear(), Ear()
    bus.attach("before", ("handoff",), before)
    bus.attach("bad", ("handoff",), bad)
    bus.attach("after", ("handoff",), after)
    with pytest.warns(RuntimeWarning, match=r"'bad' raised .* at handoff\.run\.start and was detached"):
        bus.dispatch(START)
    bus.dispatch(START)
    assert len(before.heard) == len(after.heard) == 2
    assert not bus.detach("bad")
    assert caplog.records[0].exc_info[1] is error


def test_the_users_interrupt_of_a_span_goes_through():
    bus = Bus()

    def interrupted(*_):
        raise KeyboardInterrupt

    bus.attach("ear", ("app",), interrupted)
    with pytest.raises(KeyboardInterrupt), bus.span(("app", "load")):
        pass
    assert bus.detach("ear")


def test_a_bad_handler_does_no_harm_where_warnings_are_errors(caplog):
    bus, ear = Bus(), Ear()
    bus.attach("bad", ("handoff",), lambda *_: 1 / 0)
    bus.attach("ear", ("handoff",), ear)
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        bus.dispatch(START)
    assert len(ear.heard) == 1
    assert "ZeroDivisionError" in caplog.text


def test_what_a_handler_does_to_its_arguments_reaches_nobody():
    def vandal(event, measurements, metadata, config):
        measurements.clear()
        metadata["run"] = "mine"

    bus, ear = Bus(), Ear()
    bus.attach("vandal", ("handoff",), vandal)
    bus.attach("ear", ("handoff",), ear)
    bus.dispatch(START)
    assert ear.heard[0][1:3] == ({"time": 7.5, "functions": 2}, {"run": "r1"})
    assert START.metadata == {"run": "r1"}


def test_a_handler_may_attach_and_detach():
    bus, ear = Bus(), Ear()

    def once(*_):
        bus.detach("once")
        bus.attach("ear", ("handoff",), ear)

    bus.attach("once", ("handoff",), once)
    bus.dispatch(START)
    bus.dispatch(START)
    assert len(ear.heard) == 1


def test_threads_may_attach_and_dispatch_at_once():
    bus, ear = Bus(), Ear()
    bus.attach("ear", ("handoff",), ear)
    start = threading.Barrier(5)

    def restless(name):
        start.wait()
        for _ in range(200):
            bus.attach(name, ("handoff", "run"), lambda *_: None)
            bus.detach(name)

    def loud():
        start.wait()
        for _ in range(200):
            bus.dispatch(START)

    threads = [threading.Thread(target=restless, args=(n,)) for n in range(2)]
    threads += [threading.Thread(target=loud) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ear.heard) == 600


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


def test_spans_nest():
    bus, ear = Bus(wall_clock=lambda: 5.0, clock=Clock()), Ear()
    bus.attach("ear", ("app",), ear)
    with bus.span(("app", "outer"), {"who": "me"}), bus.span(("app", "inner")) as result:
        result["rows"] = 3
    events = [(event[1:], measurements, metadata) for event, measurements, metadata, _ in ear.heard]
    outer, inner = events[0][2]["span"], events[1][2]["span"]
    assert events == [
        (("outer", "start"), {"time": 5.0}, {"who": "me", "span": outer, "parent": None}),
        (("inner", "start"), {"time": 5.0}, {"span": inner, "parent": outer}),
        (("inner", "stop"), {"time": 5.0, "duration": 1.0}, {"span": inner, "parent": outer, "rows": 3}),
        (("outer", "stop"), {"time": 5.0, "duration": 3.0}, {"who": "me", "span": outer, "parent": None}),
    ]


def test_a_span_that_fails_says_so_and_lets_the_error_through():
    bus, ear = Bus(), Ear()
    bus.attach("ear", ("app",), ear)
    with pytest.raises(ValueError, match="no rows"), bus.span(("app", "load")):
        raise ValueError("no rows")
    assert ear.names == ["start", "exception"]
    story = ear.heard[1][2]
    assert (story["type"], story["error"]) == ("ValueError", "no rows")
    assert "Traceback" in story["traceback"]
    with bus.span(("app", "next")):
        pass
    assert ear.heard[-1][2]["parent"] is None
