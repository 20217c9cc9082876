"""Messages that are dropped, doubled, late and out of order change nothing but the time that a run takes."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handoff_lab.backends.simulation import Simulation
from handoff_lab.messages import Attempt, BackendEvent, Cancelled, Failed, Failure, FailureKind, Finished
from handoff_lab.resources import Resources
from handoff_lab.scheduler import RunOptions, State, compile_program
from handoff_lab.testing.faults import Faults
from handoff_lab.testing.lossy import LossyBackend
from handoff_lab.testing.random_dags import random_dag
from handoff_lab.transport.loop import Timer
from handoff_lab.transport.stream import AHEAD, Stream, is_numbered
from handoff_lab.transport.wire import WireError, pack

NODES = {"n0": {"cpu": 2}, "n1": {"cpu": 1}, "n2": {"cpu": 4}}
MAX_RETRIES = 2


# -- streams ---------------------------------------------------------------------


class VirtualTime:
    """A clock that stands still until someone turns it."""

    def __init__(self) -> None:
        self.now = 0.0
        self._order = itertools.count()
        self._timers: list[tuple[float, int, Timer]] = []

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(self.now + seconds, callback)
        heapq.heappush(self._timers, (timer.due, next(self._order), timer))
        return timer

    def run(self, seconds: float = 3600.0) -> None:
        end = self.now + seconds
        while self._timers and self._timers[0][0] <= end:
            self.now, _, timer = heapq.heappop(self._timers)
            if timer.callback is not None:
                timer.callback()

    @property
    def is_idle(self) -> bool:
        return all(timer.callback is None for _, _, timer in self._timers)


class Wire:
    """Two streams and what lies between them."""

    def __init__(self, clock: VirtualTime, fates: Callable[[str], Sequence[float]]) -> None:
        self.clock, self.fates = clock, fates
        self.crossed = 0
        self.got: dict[str, list[bytes]] = {"a": [], "b": []}
        self.a = Stream(clock, lambda frames: self._carry(frames, "b"))
        self.b = Stream(clock, lambda frames: self._carry(frames, "a"))

    def _carry(self, frames: Sequence[Any], to: str) -> None:
        self.crossed += 1
        for delay in self.fates(to):
            self.clock.call_later(0.001 + delay, lambda: self._arrive(frames, to))

    def _arrive(self, frames: Sequence[Any], to: str) -> None:
        end = self.a if to == "a" else self.b
        self.got[to] += [b"".join(map(bytes, message)) for message in end.take(frames)]


@settings(max_examples=200)
@given(
    seed=st.integers(0, 2**32),
    count=st.integers(1, 80),
    pause=st.sampled_from([0.0, 0.01, 1.0]),
    rate=st.floats(0, 0.5),
)
def test_whatever_happens_on_the_way_messages_come_in_order_and_once(
    seed: int, count: int, pause: float, rate: float
) -> None:
    clock = VirtualTime()
    wire = Wire(clock, Faults(seed, lowest=rate, highest=rate, delay_s=0.4).fates)
    for number in range(count):
        wire.a.send(b"to b", b"%d" % number)
        if number % 3 == 0:
            wire.b.send(b"to a %d" % number)
        clock.run(pause)
    clock.run()
    assert wire.got["b"] == [b"to b%d" % number for number in range(count)]
    assert wire.got["a"] == [b"to a %d" % number for number in range(0, count, 3)]
    assert clock.is_idle, "they still send each other something"


def test_what_arrives_is_not_sent_again() -> None:
    clock = VirtualTime()
    wire = Wire(clock, lambda kind: [0.0])
    for number in range(1000):
        wire.a.send(b"%d" % number)
        clock.run(0.001)
    clock.run()
    assert 1000 < wire.crossed <= 1000 + 1 / 0.05 + 1  # the messages, and a few words that they came


def test_a_burst_longer_than_what_is_kept_gets_through() -> None:
    clock = VirtualTime()
    fates = itertools.chain([[]], itertools.repeat([0.0]))  # the first is lost
    wire = Wire(clock, lambda kind: next(fates))
    for number in range(3 * AHEAD):
        wire.a.send(b"%d" % number)
    clock.run()
    assert wire.got["b"] == [b"%d" % number for number in range(3 * AHEAD)]


def test_nothing_is_sent_for_ever_to_one_who_is_silent() -> None:
    clock = VirtualTime()
    wire = Wire(clock, lambda kind: [])
    wire.a.send(b"hello?")
    clock.run(60.0)
    assert wire.crossed < 20
    wire.a.close()
    assert clock.is_idle


@pytest.mark.parametrize(
    "frame",
    [b"", b"\0", b"\1" + bytes(16), bytes(9), bytes(18), bytes(9) + b"\1" + bytes(7), bytes(17) + bytes(8 * 65)],
    ids=["nothing", "too short", "no mark", "half", "no list", "not sent", "long list"],
)
def test_what_no_stream_sends_is_refused(frame: bytes) -> None:
    stream = Stream(VirtualTime(), lambda frames: None)
    with pytest.raises(WireError):
        stream.take([frame])


@given(st.binary(max_size=60))
def test_any_bytes_are_taken_or_refused(data: bytes) -> None:
    stream = Stream(VirtualTime(), lambda frames: None)
    try:
        list(stream.take([data]))
    except WireError:
        pass


def test_a_message_without_a_number_is_told_from_one_with() -> None:
    sent: list[Any] = []
    Stream(VirtualTime(), sent.append).send(pack("ready"))
    assert is_numbered(sent[0][0])
    assert not is_numbered(pack("ready"))
    assert not is_numbered(b"")


# -- runs, in virtual time ---------------------------------------------------------


class Watched(Simulation):
    """Counts what the scheduler starts, and what it is told."""

    def __init__(self, backend: LossyBackend) -> None:
        self.starts: list[Any] = []
        self.ends: list[Any] = []
        super().__init__(backend, watch=self._look)

    def _look(self, events: Sequence[BackendEvent], commands: Sequence[Any]) -> None:
        self.starts += [command.id for command in commands if type(command).__name__ == "Start"]
        self.ends += [event.id for event in events if isinstance(event, Finished | Failed | Cancelled)]


@settings(max_examples=300)
@given(
    seed=st.integers(0, 2**32),
    size=st.integers(1, 30),
    keeps=st.booleans(),
    scripted=st.dictionaries(
        st.tuples(st.integers(0, 30), st.integers(1, 3)), st.just(FailureKind.EXCEPTION), max_size=6
    ),
)
def test_a_run_ends_as_if_it_had_been_serial(
    seed: int, size: int, keeps: bool, scripted: dict[Any, FailureKind]
) -> None:
    rng = random.Random(seed)
    dag = random_dag(rng, size, pins=["n0", "n1"])
    program = compile_program(dag.validate(), run="run")

    tried: Counter[int] = Counter()  # attempts that ran

    def outcome(attempt: Attempt) -> Failure | None:
        tried[attempt.id.function] += 1
        kind = scripted.get((attempt.id.function, tried[attempt.id.function]))
        return None if kind is None else Failure(kind, "scripted")

    faults = Faults(seed)
    seconds = [rng.choice((0.0, 0.001, 0.02, 0.5)) for _ in range(7)]
    backend = LossyBackend(
        NODES, faults, keep_ledgers=keeps, outcome=outcome, duration=lambda attempt: seconds[attempt.id.function % 7]
    )
    simulation = Watched(backend)
    strategy = rng.choice(["first_available", "load_balanced", "time_optimized"])
    simulation.submit(program, RunOptions(strategy, max_retries=MAX_RETRIES, on_error="continue"))
    progress = simulation.scheduler.progress("run")
    simulation.run()
    assert "run" in simulation.ended, [State(state).name for state in progress.state]
    for i, (states, tries) in serial_states(program, scripted).items():
        assert progress.state[i] in states
        assert (progress.attempt(i), tried[i]) == (tries, tries)
    assert len(simulation.ends) == len(set(simulation.ends)), "an attempt ended twice"
    for node in simulation.scheduler.nodes.values():
        assert (node.in_flight, node.claimed) == (0, Resources())
    assert backend.results().keys() <= {
        source[0] for source in map(progress.source, range(len(progress.state))) if source
    }
    simulation.forget("run")
    simulation.run()
    assert not backend.results()


@settings(max_examples=200)
@given(
    seed=st.integers(0, 2**32),
    size=st.integers(5, 40),
    losses=st.lists(st.sampled_from((0.0, 0.02, 0.05, 0.3, 0.6, 1.0, 1.7)), min_size=1, max_size=2, unique=True),
)
def test_nodes_that_are_lost_meanwhile_cost_time_only(seed: int, size: int, losses: list[float]) -> None:
    rng = random.Random(seed)
    seconds = [rng.choice((0.0, 0.001, 0.05, 0.4)) for _ in range(7)]
    backend = LossyBackend(
        NODES, Faults(seed), keep_ledgers=True, duration=lambda attempt: seconds[attempt.id.function % 7]
    )
    simulation = Watched(backend)
    program = compile_program(random_dag(rng, size, pins=["n0", "n1"]).validate(), run="run")
    simulation.submit(program, RunOptions(rng.choice(["first_available", "load_balanced"])))
    for moment in losses:
        backend.at(backend.now + moment, lambda: backend.lose_node("n2", "it was killed"))
        backend.at(backend.now + moment, lambda: backend.add_node("n2", NODES["n2"], {}))
    progress = simulation.scheduler.progress("run")
    simulation.run()
    assert "run" in simulation.ended, [State(state).name for state in progress.state]
    assert simulation.ended["run"].status == "done"
    assert max(progress.attempt(i) for i in range(len(progress.state))) <= 1 + 2 * len(losses)
    assert len(simulation.ends) == len(set(simulation.ends)), "an attempt ended twice"
    for node in simulation.scheduler.nodes.values():
        assert (node.in_flight, node.claimed) == (0, Resources())
    assert backend.results().keys() <= {
        source[0] for source in map(progress.source, range(len(progress.state))) if source
    }
    simulation.forget("run")
    simulation.run()
    assert not backend.results()


def serial_states(program: Any, scripted: dict[Any, FailureKind]) -> dict[int, tuple[set[State], int]]:
    """How functions may end that are run one after the other, and how often each is tried.

    But for serializers whose consumer does not run: they may have run before that was known.
    """
    found: dict[int, tuple[set[State], int]] = {}
    for i, function in enumerate(program.functions):
        missing = [producer for producer in function.inputs if found[producer][0] != {State.DONE}]
        if missing:  # a serializer fails in the name of its consumer
            failed = {p for p in missing if found[p][0] == {State.FAILED} and program.functions[p].toward == i}
            found[i] = ({State.FAILED if p in failed else State.SKIPPED for p in missing}, 0)
        else:
            tries = next(n for n in itertools.count(1) if (i, n) not in scripted or n > MAX_RETRIES)
            found[i] = ({State.FAILED} if (i, tries) in scripted else {State.DONE}, tries)
    in_vain = {i for i, f in enumerate(program.functions) if f.toward is not None and found[f.toward][1] == 0}
    return {i: end for i, end in found.items() if i not in in_vain}


def test_every_kind_of_message_meets_every_fault() -> None:
    faults = Faults(1)
    simulation = Watched(LossyBackend(NODES, faults))
    simulation.submit(compile_program(random_dag(random.Random(1), 300), run="run"), RunOptions())
    simulation.run()
    simulation.forget("run")
    simulation.run()
    assert simulation.ended["run"].status == "done"
    kinds = {kind for kind, _ in faults.counts}
    assert {"submit", "Started", "Finished", "acknowledgement"} <= kinds
    for kind in ("submit", "Started", "Finished", "acknowledgement"):
        assert all(faults.counts[kind, fault] for fault in ("dropped", "doubled", "late"))
