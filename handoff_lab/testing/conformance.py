"""What every backend has to do, as tests: the verbs and rules of `handoff_lab.backends.base.Backend`.

For a backend of your own, in a test module::

    @pytest.fixture(scope="module")
    def bench():
        bench = Bench(MyBackend({"a": {"cpu": 1}, "b": {"cpu": 1}}), ("a", "b"))
        yield bench
        bench.close()

    class TestMyBackend(BackendConformance):
        pass

What was seen is in ``bench.seen`` afterwards: what the backend does, and what it lacks and says so. That is how
``docs/backends.md`` is made.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from handoff_lab._errors import BackendError
from handoff_lab._items import Items
from handoff_lab.backends.base import Feature
from handoff_lab.messages import (
    HERE,
    AttemptId,
    Cancelled,
    Constant,
    Failure,
    FailureKind,
    Finished,
    NodeChanged,
    NodeJoined,
    Recipe,
    Source,
    Started,
    Use,
)
from handoff_lab.store.payload import Frames, Live
from handoff_lab.testing.bench import Bench, CountedCode, Gate
from handoff_lab.testing.rules import each_node, each_way, fail, is_refused, needs_execution, verb


class BackendConformance:
    """Subclass it and give it a fixture ``bench``; that a second terminal event is an error is the bench's part."""

    @pytest.fixture(autouse=True)
    def _note(self, bench: Bench, request: pytest.FixtureRequest) -> Iterator[None]:
        """Keep what the backend was seen to do; a test that fails tells more than this."""
        bench.verdict = "yes"
        yield
        test: Any = request.function
        if hasattr(test, "verb"):  # else it is one of the subclass's own
            bench.seen[test.verb, test.__name__.removeprefix("test_").replace("_", " ")] = bench.verdict

    @pytest.fixture
    def gate(self, tmp_path: Path) -> Iterator[Gate]:
        """What functions wait at."""
        gate = Gate(tmp_path / "gate")
        yield gate
        gate.close()

    @pytest.fixture
    def extra(self, bench: Bench) -> Iterator[str]:
        """A node of two slots, which the test may remove."""
        bench.add_node("extra", 2)
        yield "extra"
        if "extra" in bench.backend.nodes():
            bench.remove_node("extra")

    # -- attempts ------------------------------------------------------------

    @verb("submit")
    @each_node
    def test_an_attempt_starts_and_finishes_once(self, bench: Bench, at: int) -> None:
        attempt = bench.attempt(lambda: 42, bench.nodes[at])
        bench.backend.submit([attempt, attempt])
        bench.backend.submit([attempt])
        end = bench.end(attempt.id)
        assert isinstance(end, Finished)
        assert end.started <= end.ended
        bench.backend.submit([attempt])
        bench.run(lambda: None, bench.nodes[at])
        assert len(bench.starts(attempt.id)) == 1
        kinds = [type(e) for e in bench.events if isinstance(e, Started | Finished) and e.id == attempt.id]
        assert kinds == [Started, Finished]
        if bench.executes:
            assert bench.value(attempt.id, bench.nodes[at]) == 42

    @verb("submit")
    @each_node
    def test_an_attempt_that_failed_is_not_run_again(self, bench: Bench, at: int) -> None:
        attempt = bench.attempt(fail, bench.nodes[at], label="fails")
        bench.backend.submit([attempt])
        assert bench.failure(attempt.id).kind is FailureKind.EXCEPTION
        bench.backend.submit([attempt])
        bench.run(lambda: None, bench.nodes[at])
        assert len(bench.starts(attempt.id)) == 1

    @verb("submit")
    @each_node
    def test_what_a_function_raises_is_told(self, bench: Bench, at: int) -> None:
        needs_execution(bench)
        failure = bench.failure(bench.submit(fail, bench.nodes[at]))
        assert (failure.type_name, failure.retryable) == ("ValueError", True)
        assert "on purpose" in failure.message
        assert "in fail" in failure.traceback
        other = bench.load(KeyError)
        assert not bench.failure(bench.submit(fail, bench.nodes[at], retry_on=other)).retryable

    @verb("submit")
    @each_node
    def test_a_recipe_says_how_a_function_is_called(self, bench: Bench, at: int) -> None:
        needs_execution(bench)
        made = bench.submit(lambda: 5, bench.nodes[at])
        recipe = Recipe((Use(0), Constant(2)), (("plus", Constant(1)),))
        source = Source(made, bench.nodes[at])
        assert bench.run(lambda x, k, plus: x * k + plus, bench.nodes[at], [source], recipe=recipe) == 11

    @verb("submit")
    @each_node
    def test_a_chunk_of_a_map_runs_item_by_item(self, bench: Bench, at: int) -> None:
        needs_execution(bench)
        node = bench.nodes[at]
        source = Source(bench.submit(lambda: 6, node), node)
        recipe = Recipe((Use(0), Constant(range(1, 5)), Constant(1)))
        assert bench.run(Items(lambda x, y: y // x, "'f'"), node, [source], recipe=recipe) == [6, 3, 2, 1]
        failure = bench.failure(bench.submit(Items(lambda x, y: y // (x - 3), "'f'"), node, [source], recipe=recipe))
        assert (failure.type_name, failure.retryable) == ("ZeroDivisionError", True)
        assert "item 3 of 'f': 3" in failure.traceback

    @verb("submit")
    @each_node
    def test_the_most_urgent_of_those_that_wait_starts_first(self, bench: Bench, gate: Gate, at: int) -> None:
        held = bench.hold(gate, bench.nodes[at])
        code = bench.load(lambda: None)
        attempts = [bench.attempt(code, bench.nodes[at], priority=priority) for priority in (3.0, 1.0, 2.0)]
        bench.backend.submit(attempts)
        gate.open()
        for id in (held, *(attempt.id for attempt in attempts)):
            assert isinstance(bench.end(id), Finished)
        order = [event.id for event in bench.of(Started)]
        assert [attempts[i].id for i in (1, 2, 0)] == order[-3:]

    @verb("load")
    @each_node
    def test_code_reaches_a_node_once(self, bench: Bench, at: int) -> None:
        code = CountedCode(lambda: "loaded")
        key = bench.load(code)
        for _ in range(3):
            bench.run(key, bench.nodes[at])
        assert code.count <= (Feature.PROCESSES in bench.backend.features_of(bench.nodes[at]))

    # -- inputs --------------------------------------------------------------

    @verb("submit")
    @each_way
    def test_an_attempt_waits_for_inputs_that_do_not_exist_yet(self, bench: Bench, at: int, to: int) -> None:
        here, there = bench.nodes[at], bench.nodes[to]
        small, large = bench.attempt(lambda: 20, here), bench.attempt(lambda: bytes(100_000), here)
        sources = [Source(large.id, here), Source(small.id, here)]
        last = bench.submit(lambda x, y: len(x) + y, there, sources)
        bench.run(lambda: "meanwhile", there)
        assert not bench.starts(last)
        bench.backend.submit([small])
        bench.end(small.id)
        bench.backend.submit([large])
        value = bench.value(last, there)
        assert value == 100_020 or not bench.executes

    @verb("submit")
    @each_way
    def test_an_attempt_whose_inputs_will_not_come_fails_once(self, bench: Bench, at: int, to: int) -> None:
        needs_execution(bench)
        here, there = bench.nodes[at], bench.nodes[to]
        first, second = bench.attempt(fail, here), bench.attempt(fail, here)
        last = bench.submit(lambda x, y: 0, there, [Source(first.id, here), Source(second.id, here)])
        bench.backend.submit([first, second])
        assert bench.failure(last).kind is FailureKind.INPUT
        late = bench.submit(lambda x, y: 0, there, [Source(first.id, here), Source(second.id, here)])
        assert bench.failure(late).kind is FailureKind.INPUT
        assert not bench.starts(late)

    @verb("submit")
    @each_node
    def test_inputs_of_a_node_that_is_gone_fail_an_attempt_once(self, bench: Bench, at: int, extra: str) -> None:
        needs_execution(bench)
        sources = [Source(bench.submit(lambda: bytes(100_000), extra), extra) for _ in range(2)]
        for source in sources:
            bench.end(source.key)
        bench.remove_node(extra)
        assert bench.failure(bench.submit(lambda x, y: 0, bench.nodes[at], sources)).kind is FailureKind.INPUT
        assert bench.run(lambda: 1, bench.nodes[at]) == 1

    @verb("submit")
    @each_node
    def test_an_input_that_is_lost_in_the_queue_fails_its_attempt_or_was_there(
        self, bench: Bench, gate: Gate, at: int, extra: str
    ) -> None:
        made = bench.submit(lambda: bytes(100_000), extra)
        bench.end(made)
        held = bench.hold(gate, bench.nodes[at])
        queued = bench.submit(len, bench.nodes[at], [Source(made, extra)])
        bench.run(lambda: "meanwhile", bench.nodes[1 - at])
        bench.remove_node(extra)
        gate.open()
        assert isinstance(bench.end(held), Finished)
        end = bench.end(queued)
        assert isinstance(end, Finished) or bench.failure(queued).kind is FailureKind.INPUT
        bench.run(lambda: 1, bench.nodes[at])

    @verb("submit")
    @each_node
    def test_an_input_that_cannot_be_unpickled_fails_its_attempt_alone(self, bench: Bench, at: int) -> None:
        needs_execution(bench)
        key = bench.key()
        bench.backend.put(key, Frames((b"no pickle",)))
        for _ in range(2):
            failure = bench.failure(bench.submit(lambda x: x, bench.nodes[at], [Source(key, HERE)]))
            assert failure.kind is FailureKind.INPUT
            assert bench.run(lambda: 1, bench.nodes[at]) == 1

    # -- values --------------------------------------------------------------

    @verb("put, get")
    @each_node
    @pytest.mark.parametrize("size", [10, 100_000])
    def test_a_given_value_reaches_a_node(self, bench: Bench, at: int, size: int) -> None:
        needs_execution(bench)
        key = bench.key()
        bench.backend.put(key, Live(bytes(size)))
        assert bench.run(len, bench.nodes[at], [Source(key, HERE)]) == size
        got = bench.get(key, HERE)
        assert not isinstance(got, Failure)
        assert got.load() == bytes(size)

    @verb("free")
    @each_way
    def test_a_freed_value_is_nowhere(self, bench: Bench, at: int, to: int) -> None:
        made = bench.submit(lambda: bytes(100_000), bench.nodes[at])
        bench.run(len, bench.nodes[to], [Source(made, bench.nodes[at])])
        bench.backend.free([made])
        bench.run(lambda: "meanwhile", bench.nodes[at])  # a node hears of it in its own time
        assert isinstance(bench.get(made, bench.nodes[at]), Failure)

    @verb("forget")
    @each_way
    def test_of_a_forgotten_run_nothing_is_left_and_of_others_all(self, bench: Bench, at: int, to: int) -> None:
        attempt = bench.attempt(lambda: bytes(100_000), bench.nodes[at])
        attempt.id = attempt.id._replace(run=f"forgotten {at} {to}")
        bench.backend.submit([attempt])
        bench.end(attempt.id)
        kept = bench.submit(len, bench.nodes[to], [Source(attempt.id, bench.nodes[at])])
        bench.end(kept)
        bench.backend.forget(attempt.id.run)
        bench.run(lambda: "meanwhile", bench.nodes[at])  # a node hears of it in its own time
        assert isinstance(bench.get(attempt.id, bench.nodes[at]), Failure)
        assert not isinstance(bench.get(kept, bench.nodes[to]), Failure)

    @verb("get")
    def test_a_value_of_a_node_that_never_was(self, bench: Bench) -> None:
        assert isinstance(bench.get(bench.key(), "never"), Failure)

    # -- ending attempts -------------------------------------------------------

    @verb("cancel")
    @each_node
    def test_what_waits_can_be_cancelled(self, bench: Bench, gate: Gate, at: int) -> None:
        node = bench.nodes[at]
        held = bench.hold(gate, node)
        blocked = bench.submit(lambda x: x, node, [Source(held, node)])
        queued = bench.submit(lambda: 0, node)
        for id in (blocked, queued):
            bench.backend.cancel(id, "interrupt")
            assert isinstance(bench.end(id), Cancelled)
        gate.open()
        assert isinstance(bench.end(held), Finished)
        bench.run(lambda: 1, node)
        assert not bench.starts(blocked)
        assert not bench.starts(queued)

    @verb("cancel")
    @each_node
    @pytest.mark.parametrize("how", ["interrupt", "kill"])
    def test_what_runs_is_ended_or_goes_on(self, bench: Bench, gate: Gate, at: int, how: str) -> None:
        node = bench.nodes[at]
        held = bench.hold(gate, node)
        bench.backend.cancel(held, "interrupt" if how == "interrupt" else "kill")
        if Feature.INTERRUPT in bench.backend.features_of(node):
            assert isinstance(bench.end(held), Cancelled)
        else:
            bench.verdict = "goes on"
        gate.open()
        bench.end(held)
        bench.run(lambda: 1, node)

    @verb("cancel")
    @each_node
    def test_cancelling_what_ended_or_never_was_does_nothing(self, bench: Bench, at: int) -> None:
        id = bench.submit(lambda: 1, bench.nodes[at])
        bench.end(id)
        bench.backend.cancel(id, "kill")
        bench.backend.cancel(AttemptId("none", 0, 1), "kill")
        bench.value(id, bench.nodes[at])

    @verb("submit")
    @each_node
    def test_a_timeout_ends_a_function_or_is_refused(self, bench: Bench, gate: Gate, at: int) -> None:
        node = bench.nodes[at]
        id = bench.submit(gate.function, node, label="held", timeout_s=0.05)
        failure = bench.failure(id)
        if Feature.TIMEOUT in bench.backend.features_of(node):
            assert failure.kind is FailureKind.TIMEOUT
        else:
            is_refused(bench, id, "timeout=0.05")
        bench.run(lambda: 1, node)

    @verb("submit")
    @each_node
    def test_a_function_runs_in_the_kernel_or_is_refused(self, bench: Bench, at: int) -> None:
        node = bench.nodes[at]
        id = bench.submit(lambda: 1, node, runs_in="kernel")
        if Feature.KERNEL in bench.backend.features_of(node):
            assert isinstance(bench.end(id), Finished)
        else:
            is_refused(bench, id, "runs_in='kernel'")

    # -- nodes -----------------------------------------------------------------

    @verb("nodes")
    def test_nodes_are_announced(self, bench: Bench) -> None:
        infos = {event.info.name: event.info for event in bench.of(NodeJoined)}
        for name in bench.nodes:
            assert bench.backend.nodes()[name].slots == infos[name].slots == 1
            assert bench.backend.features_of(name) <= bench.backend.features

    @verb("remove_node")
    def test_a_node_comes_and_goes(self, bench: Bench, extra: str) -> None:
        bench.run(lambda: 1, extra)
        assert bench.remove_node(extra).expected
        assert extra not in bench.backend.nodes()

    @verb("add_node")
    def test_a_node_is_added_or_that_is_refused(self, bench: Bench, extra: str) -> None:
        if Feature.ADD_NODES in bench.backend.features:
            assert bench.backend.nodes()[extra].labels == {"made": "late"}
            with pytest.raises(BackendError, match="already"):
                bench.backend.add_node(extra, {"cpu": 1}, {})
        else:
            bench.verdict = "refused"
            reason = getattr(bench.backend, "lacks", {}).get(Feature.ADD_NODES, "")
            with pytest.raises(BackendError, match=re.escape(reason)):
                bench.backend.add_node("other", {"cpu": 1}, {})

    @verb("events")
    def test_a_lost_node_ends_its_attempts(self, bench: Bench, gate: Gate, extra: str) -> None:
        near = bench.nodes[0]
        held = [bench.hold(gate, extra) for _ in range(2)]
        queued = bench.submit(lambda: 0, extra)
        blocked = bench.submit(lambda x: x, extra, [Source(held[0], extra)])
        elsewhere = bench.submit(lambda x: x, near, [Source(held[0], extra)])
        bench.remove_node(extra)
        gate.open()
        late = bench.submit(lambda: 0, extra)
        bench.add_node(extra, 1)
        bench.run(lambda: 1, extra)
        bench.run(lambda: 1, near)
        assert not bench.ends.keys() & {*held, queued, blocked, late}
        if bench.executes:
            assert bench.failure(elsewhere).kind is FailureKind.INPUT

    @verb("set_capabilities")
    def test_capabilities_change_while_functions_run(self, bench: Bench, gate: Gate, extra: str) -> None:
        """Less and then more again: never more at once than there are slots, nor two in one."""
        held = [bench.hold(gate, extra) for _ in range(2)]
        self._set_cpu(bench, extra, 1)
        self._set_cpu(bench, extra, 2)
        third = bench.submit(gate.function, extra, label="held")
        bench.run(lambda: "meanwhile", bench.nodes[0])
        assert not bench.starts(third)
        self._set_cpu(bench, extra, 3)
        bench.until(lambda: bench.starts(third))
        slots = [start.slot for id in (*held, third) for start in bench.starts(id)]
        assert len(set(slots)) == 3 or not bench.executes, slots
        gate.open()
        for id in (*held, third):
            assert isinstance(bench.end(id), Finished)

    def _set_cpu(self, bench: Bench, node: str, cpu: int) -> None:
        before = len(bench.of(NodeChanged))
        bench.backend.set_capabilities(node, {"cpu": cpu})
        bench.until(lambda: bench.of(NodeChanged)[before:])
        assert bench.of(NodeChanged)[-1] == NodeChanged(node, {"cpu": cpu}, cpu)
        assert bench.backend.nodes()[node].slots == cpu
