"""A node that may have no more descriptors: what was opened is closed, its slots go on, and others come later."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from handoff_lab.node import pool
from handoff_lab.node.kernel import KernelProcess
from handoff_lab.node.launchers import SharedZygote
from handoff_lab.node.worker import Worker
from handoff_lab.transport.loop import Loop

if TYPE_CHECKING:
    from conftest import Bench

pytestmark = pytest.mark.real


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def refuse(*args: Any, **options: Any) -> Any:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def nothing(*args: Any) -> None:
    return None


@contextlib.contextmanager
def room_for(more: int) -> Iterator[None]:
    """Let this process have just so many descriptors more than it has."""
    highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    fillers = [os.dup(0)]
    while fillers[-1] < highest:
        fillers.append(os.dup(0))
    limit, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (fillers[-1] + 1 + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        for fd in fillers:
            os.close(fd)


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of each slot that the pools tried to start since."""
    tried: list[int] = []

    def start(index: int, *args: Any) -> Worker:
        tried.append(index)
        return Worker(index, *args)

    monkeypatch.setattr(pool, "Worker", start)
    return tried


@pytest.mark.parametrize(
    "step", ["fence.os.ftruncate", "fence.mmap.mmap", "output.fcntl.fcntl", "worker.pair", "worker.Channel", ""]
)
def test_a_slot_that_cannot_be_started_leaves_nothing_open(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = Loop()
    before = open_descriptors()
    launch = nothing if step else refuse
    with monkeypatch.context() as patch, pytest.raises(OSError, match="Too many open files"):
        if step:
            patch.setattr(f"handoff_lab.node.{step}", refuse)
        Worker(0, 0, launch, loop, nothing, nothing)
    assert open_descriptors() == before
    Worker(0, 0, nothing, loop, nothing, nothing).close()
    assert open_descriptors() == before
    loop.close()


def test_what_was_not_launched_does_not_count_as_alive() -> None:
    class Refusing:
        watch, launch = staticmethod(nothing), staticmethod(refuse)

    loop = Loop()
    launcher = SharedZygote(loop, Refusing(), nothing).launcher({})  # type: ignore[arg-type]
    with pytest.raises(OSError, match="Too many open files"):
        launcher.launch(0, [])
    assert not launcher.alive
    loop.close()


def test_a_kernel_that_cannot_be_started_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = Loop()
    kernel = KernelProcess(loop, tmp_path)
    before, dup, made = open_descriptors(), os.dup, []

    def dup_twice(fd: int) -> int:
        made.append(refuse() if len(made) == 2 else dup(fd))
        return made[-1]

    with monkeypatch.context() as patch, pytest.raises(OSError, match="Too many open files"):
        patch.setattr(os, "dup", dup_twice)
        kernel._launcher.launch(0, [0, 1, 2])
    assert len(made) == 2
    assert open_descriptors() == before
    kernel.close()
    loop.close()


def test_at_the_limit_the_slots_that_there_are_go_on_and_others_come_later(
    bench: Bench, tries: list[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pool, "RELAUNCH_S", 0.01)
    bench.wait_for(lambda: bench.runner.pids)
    with room_for(52):
        bench.runner.resize(pool.AHEAD)
        bench.wait_for(lambda: len(tries) > pool.AHEAD)
        slots = len({*tries})  # the last one can't be started, but the first was there before
        bench.wait_for(lambda: len(bench.runner.pids) == slots)
        assert 1 < slots < pool.AHEAD
        before = open_descriptors()
        pids = {bench.value(id) for id in [bench.submit(os.getpid) for _ in range(100)]}
        assert pids <= {*bench.runner.pids}
        so_far = len(tries)
        bench.wait_for(lambda: len(tries) > so_far + 5)
        assert open_descriptors() == before
    bench.wait_for(lambda: len(bench.runner.pids) == pool.AHEAD)
    (record,) = caplog.records
    assert f"could start {slots} of its {pool.AHEAD} slots, and tries again: [Errno 24]" in record.getMessage()
    assert "raise `ulimit -n`" in record.getMessage()


def test_it_is_not_tried_again_by_all_that_happens(
    bench: Bench, tries: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "RELAUNCH_S", 600.0)
    monkeypatch.setattr("handoff_lab.node.worker.pair", refuse)
    bench.runner.resize(3)
    for number in range(20):
        assert bench.value(bench.submit(abs, inputs=[-number])) == number
    bench.runner.resize(4)
    assert tries == [1]


def test_a_node_without_any_slot_keeps_what_waits(
    bench: Bench, tries: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "RELAUNCH_S", 0.01)
    bench.wait_for(lambda: bench.runner.pids)
    with monkeypatch.context() as patch:
        patch.setattr("handoff_lab.node.worker.pair", refuse)
        os.kill(bench.runner.pids[0], signal.SIGKILL)
        bench.wait_for(lambda: tries)
        id = bench.submit(abs, inputs=[-7])
        so_far = len(tries)
        bench.wait_for(lambda: len(tries) > so_far + 5)
        assert not bench.runner.pids
    assert bench.value(id) == 7


def test_a_slot_whose_handle_cannot_be_received_ends(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "RELAUNCH_S", 0.01)
    with room_for(0):
        failure = bench.failure(bench.submit(abs, inputs=[-7])).failure
    assert failure.retryable
    assert bench.value(bench.submit(abs, inputs=[-7])) == 7
