"""A function that uses far more memory than it claims is ended, alone; what it shares with others does not count."""

from __future__ import annotations

import mmap
import os
import pickle
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from handoff_lab.messages import Attempt, AttemptId, FailureKind, Finished
from handoff_lab.node import rounds
from handoff_lab.node.memory import Footprint, claimed_by, excess_of, limit_of, own_memory
from handoff_lab.store.payload import Frames
from handoff_lab.store.segments import SegmentMaker

if TYPE_CHECKING:
    from conftest import Bench

ID = AttemptId("run", 0, 1)
MB = 10**6


def attempt(**cost: float) -> Attempt:
    return Attempt(ID, "alpha", "f", (), cost=cost)


def take(megabytes: int, seconds: float) -> int:
    """Use memory of this process's own, as a list of bytes or an array would, and hold it for a while."""
    import os
    import time

    held = [b"x" * MB for _ in range(megabytes)]
    time.sleep(seconds)
    return len(held) and os.getpid()


# -- what counts ---------------------------------------------------------------


def test_a_claim_is_in_megabytes() -> None:
    assert claimed_by(attempt(cpu=1, memory=100.5)) == 100_500_000
    assert claimed_by(attempt(cpu=1)) == claimed_by(attempt()) == 0


def test_the_story_names_what_was_claimed_and_what_was_used() -> None:
    failure = excess_of(attempt(memory=100), 212 * MB, None)
    assert (failure.kind, failure.type_name, failure.retryable) == (FailureKind.MEMORY, "MemoryError", False)
    assert "claimed 100 MB of memory and used 212 MB when it was ended" in failure.message
    assert failure.exception is not None
    assert isinstance(pickle.loads(failure.exception), MemoryError)


def fresh(nbytes: int) -> mmap.mmap:
    """Memory that this process did not have before: what ``malloc`` gives may have been freed by an earlier test."""
    memory = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for at in range(0, nbytes, mmap.PAGESIZE):
        memory[at] = 1
    return memory


def test_memory_is_seen_alike_from_inside_and_outside() -> None:
    footprint = Footprint(os.getpid())
    before = own_memory()
    assert abs(footprint.own() - before) < 5 * MB
    more = fresh(20 * MB)
    assert 19 * MB < footprint.own() - before < 25 * MB
    assert 19 * MB < own_memory() - before < 25 * MB
    del more
    footprint.close()


def test_inputs_in_shared_memory_do_not_count() -> None:
    maker = SegmentMaker()
    value = Frames(maker.share(Frames.dump(np.ones(20 * MB // 8)).buffers))
    before = own_memory()
    assert value.load().sum() == 20 * MB // 8
    assert own_memory() - before < 5 * MB
    maker.release()


def test_a_process_that_ended_uses_nothing() -> None:
    pid = os.fork()
    if not pid:
        os._exit(0)
    footprint = Footprint(pid)
    os.waitpid(pid, 0)
    assert footprint.own() == 0
    footprint.close()


def test_a_process_that_cannot_look_has_used_nothing_since(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("too many open files")

    monkeypatch.setattr("builtins.open", fail)
    assert own_memory() > 2**60


# -- in a slot -----------------------------------------------------------------


@pytest.mark.real
def test_who_uses_too_much_is_ended_alone(bench_of_two: Bench) -> None:
    bench = bench_of_two
    bench.wait_for(lambda: len(bench.runner.pids) == 2)
    pids = set(bench.runner.pids)
    other = bench.submit(take, inputs=[1, 0.5], cost={"memory": 50})
    bench.wait_for(lambda: other in bench.told.starts)
    id = bench.submit(take, inputs=[250, 60.0], cost={"memory": 50})
    end = bench.failure(id)
    assert end.failure.kind is FailureKind.MEMORY
    told = re.fullmatch(
        r"it claimed 50 MB of memory and used (\d+) MB when it was ended; raise .*", end.failure.message
    )
    assert told is not None
    assert 114 <= int(told[1]) <= 300
    assert bench.value(other) in pids
    bench.wait_for(lambda: len(bench.runner.pids) == 2)
    assert len(pids & set(bench.runner.pids)) == 1


@pytest.mark.real
@pytest.mark.parametrize(("megabytes", "cost"), [(90, {"memory": 50}), (250, {"cpu": 1}), (250, {"memory": 200})])
def test_who_uses_what_it_may_goes_on(bench: Bench, megabytes: int, cost: dict[str, float]) -> None:
    bench.wait_for(lambda: bench.runner.pids)
    pids = bench.runner.pids
    assert bench.value(bench.submit(take, inputs=[megabytes, 0.2], cost=cost)) == pids[0]
    assert bench.runner.pids == pids


@pytest.mark.real
@pytest.mark.parametrize("look_every_s", [0.002, rounds.MEMORY_S, 0.15])
def test_a_claim_counts_for_each_function_of_a_batch_on_its_own(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, look_every_s: float
) -> None:
    """Brief functions, each of which leaves a little: together they use more than any may, also between two looks."""
    monkeypatch.setattr(rounds, "MEMORY_S", look_every_s)

    def leave(megabytes: int) -> int:
        import builtins

        left: list[bytes] = vars(builtins).setdefault("left_by_test", [])
        left.append(b"x" * MB * megabytes)
        return len(left)

    ids = [bench.submit(leave, inputs=[2], cost={"memory": 1}) for _ in range(150)]
    assert sorted(bench.value(id) for id in ids) == list(range(1, 151))


@pytest.mark.real
def test_one_that_uses_too_much_behind_brief_ones_is_found(bench: Bench) -> None:
    for _ in range(20):
        bench.value(bench.submit(take, inputs=[0, 0.0], cost={"memory": 1}))
    brief = [bench.submit(take, inputs=[0, 0.0], cost={"memory": 1}) for _ in range(10)]
    id = bench.submit(take, inputs=[200, 60.0], cost={"memory": 1})
    behind = [bench.submit(take, inputs=[0, 0.0], cost={"memory": 1}) for _ in range(10)]
    assert bench.failure(id).failure.kind is FailureKind.MEMORY
    assert all(isinstance(bench.end(other), Finished) for other in brief + behind)


@pytest.mark.real
def test_memory_is_looked_at_only_while_someone_claims_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[Any] = []
    monkeypatch.setattr(Footprint, "own", lambda self: looks.append(self) or 0)
    bench.value(bench.submit(take, inputs=[1, 0.2]))
    assert not looks
    claims = bench.submit(take, inputs=[1, 600.0], cost={"memory": 50})
    bench.wait_for(lambda: looks)
    bench.runner.cancel(claims)
    bench.end(claims)
    count = len(looks)
    bench.value(bench.submit(take, inputs=[1, 0.2]))
    assert len(looks) == count


def test_small_claims_leave_room_for_modules() -> None:
    assert limit_of(1 * MB) > 50 * MB
    assert limit_of(1000 * MB) == 1500 * MB
