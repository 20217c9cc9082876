from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest

from handoff_lab import BackendError
from handoff_lab.coordinator.thread import LoopThread
from tests.others import said_in_a_fork


@pytest.fixture
def shut() -> list[str]:
    return []


@pytest.fixture
def thread(shut: list[str]) -> Iterator[LoopThread]:
    thread = LoopThread("test", lambda: shut.append(threading.current_thread().name))
    thread.start()
    yield thread
    thread.close()


def test_calls_return_and_raise(thread: LoopThread) -> None:
    assert thread.call(lambda: threading.current_thread().name) == "test"
    assert thread.call(lambda: thread.call(lambda: 7)) == 7
    with pytest.raises(ZeroDivisionError):
        thread.call(lambda: 1 / 0)


def test_those_who_wait_go_on_when_it_is_true(thread: LoopThread) -> None:
    happened: list[int] = []
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(thread.wait_until, lambda: bool(happened))
        thread.call(thread.look)
        assert not waiting.done()
        happened.append(1)
        thread.call(thread.look)
        waiting.result(60)


def test_a_condition_that_raises_is_its_own_callers_matter(thread: LoopThread) -> None:
    known = {"a": 1}
    with ThreadPoolExecutor(2) as pool:
        bad = pool.submit(thread.wait_until, lambda: known["a"] == 2)
        good = pool.submit(thread.wait_until, lambda: not known)
        thread.call(lambda: None)
        known.clear()
        thread.call(thread.look)
        with pytest.raises(KeyError):
            bad.result(60)
        good.result(60)


def test_one_who_is_interrupted_just_then_keeps_no_other_waiting(thread: LoopThread) -> None:
    interrupted = threading.Event()

    def come_true() -> bool:
        thread._waiters[0][1].cancel()
        return interrupted.is_set()

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(thread.wait_until, come_true)
        thread.call(lambda: None)
        interrupted.set()
        second = pool.submit(thread.wait_until, interrupted.is_set)
        second.result(60)
        with pytest.raises(CancelledError):
            first.result(60)


def test_whoever_waits_for_a_thread_that_ends_is_told(thread: LoopThread, shut: list[str]) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(thread.wait_until, lambda: False)
        thread.call(lambda: None)
        promise = thread.promise()
        thread.close()
        for future in (waiting, promise):
            with pytest.raises(BackendError, match="closed"):
                future.result(60)
    assert shut == ["test"]
    with pytest.raises(BackendError, match="closed"):
        thread.call(lambda: None)


def test_every_close_waits_until_it_is_closed(thread: LoopThread, shut: list[str]) -> None:
    entered, go = threading.Event(), threading.Event()

    def busy() -> None:
        entered.set()
        assert go.wait(60)

    thread.loop.call_soon_threadsafe(busy)
    assert entered.wait(60)
    with ThreadPoolExecutor(3) as pool:
        closing = [pool.submit(thread.close) for _ in range(3)]
        assert not any(future.done() for future in closing)
        go.set()
        for future in closing:
            future.result(60)
    assert shut == ["test"]


def test_a_loop_that_fails_shuts_all_the_same(
    thread: LoopThread, shut: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise OverflowError("bug")

    waiting = thread.promise()
    monkeypatch.setattr(thread.loop, "run_once", broken)
    thread.loop.call_soon_threadsafe(lambda: None)
    with pytest.raises(BackendError):
        waiting.result(60)
    assert shut == ["test"]


def test_a_forked_child_is_told_whose_it_is(thread: LoopThread) -> None:
    said = said_in_a_fork(lambda: thread.call(lambda: None), BackendError)
    assert f"belongs to process {os.getpid()}" in said
