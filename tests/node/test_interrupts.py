"""Interrupts hit the attempt they were meant for: none strays, none is lost."""

from __future__ import annotations

import random
import signal
from typing import TYPE_CHECKING

import pytest

from handoff_lab.messages import AttemptId, Cancelled, Finished
from handoff_lab.node.fence import Fence, Fenced, Mark

if TYPE_CHECKING:
    from conftest import Bench


def spin(seconds: float) -> str:
    import time

    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return "done"


@pytest.mark.real
@pytest.mark.parametrize("seed", [1, 2])
def test_thousands_of_interrupts_at_random_moments(
    bench_of_two: Bench, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handoff_lab.node.pool.GRACE_S", 600.0)  # no slot is killed because it is slow
    bench = bench_of_two
    dice = random.Random(seed)
    wanted: set[AttemptId] = set()
    ids: list[AttemptId] = []
    pids: set[int] = set()
    bench.wait_for(lambda: len(bench.runner.pids) == 2)
    pids.update(bench.runner.pids)
    while len(ids) < 3000:
        fresh = [bench.submit(spin, inputs=[dice.choice([0.0, 0.0001, 0.0005])]) for _ in range(dice.randrange(1, 60))]
        ids += fresh
        # Some at once, some while the batch runs, some when it may be over.
        for id in dice.sample(fresh, k=len(fresh) * 2 // 3):
            bench.runner.cancel(id)
            wanted.add(id)
            if dice.random() < 0.3:
                bench.loop.call_later(dice.random() * 0.002, lambda: None)
                bench.loop.run_once()
    ends = {id: bench.end(id) for id in ids}
    # None strays: what was not cancelled is finished; the slots were hit by nothing else.
    assert all(isinstance(ends[id], Finished) for id in ids if id not in wanted)
    assert all(isinstance(ends[id], Cancelled | Finished) for id in wanted)
    assert sum(isinstance(ends[id], Cancelled) for id in wanted) > 100  # the more, the less else runs
    assert set(bench.runner.pids) == pids


@pytest.mark.real
def test_no_interrupt_is_lost(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that runs for ever ends, at whatever moment of its start the interrupt comes."""
    monkeypatch.setattr("handoff_lab.node.pool.GRACE_S", 600.0)  # a kill would end it, too
    dice = random.Random(3)
    for _ in range(300):
        id = bench.submit(spin, inputs=[600.0])
        bench.wait_for(lambda wanted=id: wanted in bench.told.starts)  # type: ignore[misc]
        if dice.random() < 0.7:
            bench.loop.call_later(dice.random() * 0.001, lambda: None)
            bench.loop.run_once()
        bench.runner.cancel(id)
        assert isinstance(bench.end(id), Cancelled)


def test_a_marked_attempt_is_interrupted_when_it_begins_and_only_once() -> None:
    fence = Fence()
    fenced = Fenced(fence.fd)
    fence.mark(5, Mark.INTERRUPT)
    fenced.begin(4)
    fenced.end()
    with pytest.raises(KeyboardInterrupt):
        fenced.begin(5)
    fenced.begin(6)
    fenced.end()
    assert not fenced.broke_import
    fence.close()


def test_a_number_that_shares_the_place_of_a_marked_one_is_not_meant() -> None:
    fence = Fence()
    fenced = Fenced(fence.fd)
    fence.mark(5, Mark.SKIP)
    assert fenced.skips(5)
    assert fence.current == 5
    assert not fenced.skips(5 + 511)
    fenced.begin(5 + 511)
    fenced.idle()
    assert fence.current == 0
    fence.close()


def test_what_a_nudge_sends_is_whole_before_anything_else_comes() -> None:
    fence = Fence()
    fenced = Fenced(fence.fd)
    steps: list[str] = []

    def send() -> None:
        steps.append("begin")
        fence.mark(5, Mark.INTERRUPT)
        signal.raise_signal(signal.SIGINT)
        steps.append("end")

    before = signal.getsignal(signal.SIGINT)
    fenced.handle_sigint(send)
    try:
        fenced.begin(5)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert steps == ["begin", "end"]
    fence.close()
