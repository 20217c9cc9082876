from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator

import pytest

from handoff_lab.transport.loop import Loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


def test_timers_come_in_order_and_can_be_taken_back(loop: Loop) -> None:
    told: list[str] = []
    loop.call_later(0.02, lambda: told.append("late"))
    loop.call_later(0.0, lambda: told.append("soon"))
    loop.call_later(0.01, lambda: told.append("never")).cancel()
    while "late" not in told:
        loop.run_once()
    assert told == ["soon", "late"]


def test_a_timer_for_never_is_no_error(loop: Loop) -> None:
    loop.call_later(math.inf, lambda: None)
    loop.call_soon(lambda: None)
    loop.run_once()
    assert loop._patience_ms() == 3_600_001


def test_a_callback_that_raises_is_told_and_the_loop_goes_on() -> None:
    errors: list[BaseException] = []
    told: list[int] = []
    loop = Loop(errors.append)
    loop.call_soon(lambda: told.append(1 // 0))
    loop.call_soon(lambda: told.append(1))
    loop.run_once()
    loop.close()
    assert told == [1]
    assert isinstance(errors[0], ZeroDivisionError)


def test_other_threads_wake_it(loop: Loop) -> None:
    told: list[str] = []

    def call() -> None:
        loop.call_soon_threadsafe(lambda: told.append(threading.current_thread().name))

    thread = threading.Thread(target=call)
    thread.start()
    while not told:
        loop.run_once()
    thread.join()
    assert told == [threading.current_thread().name]


def test_readers_and_writers(loop: Loop) -> None:
    told: list[str] = []
    read, write = os.pipe()
    try:
        loop.add_reader(read, lambda: told.append(os.read(read, 10).decode()))
        loop.add_writer(write, lambda: (os.write(write, b"x"), loop.remove_writer(write)))
        while not told:
            loop.run_once()
        loop.remove_reader(read)
        loop.remove_reader(read)
    finally:
        os.close(read)
        os.close(write)
    assert told == ["x"]


def test_a_call_to_a_closed_loop_writes_into_nobodys_file() -> None:
    loop = Loop()
    loop.close()
    reused = [os.memfd_create("test") for _ in range(8)]
    try:
        loop.call_soon_threadsafe(lambda: None)
        assert all(os.fstat(descriptor).st_size == 0 for descriptor in reused)
    finally:
        for descriptor in reused:
            os.close(descriptor)
