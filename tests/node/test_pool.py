"""Slots: real parallelism, every way in which a function can end, order, batches, and the size of the pool."""

from __future__ import annotations

import os
import select
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle
import pytest

from handoff_lab.messages import Cancelled, Constant, Failed, FailureKind, Finished, Recipe, Use
from handoff_lab.node.pool import AHEAD, SlotPool

if TYPE_CHECKING:
    from conftest import Bench

pytestmark = pytest.mark.real


def nothing() -> None:
    return None


def whole_path() -> Any:
    import os
    import pathlib

    return os.getpid(), str(pathlib.Path.cwd()), os.getsid(0) == os.getpid()


def test_a_function_runs_elsewhere_and_its_result_comes_back(bench: Bench) -> None:
    bench.wait_for(lambda: bench.runner.pids)  # else it is told to start when the agent hears of its slot
    id = bench.submit(lambda a, b: a + b, inputs=[[1], [2]])
    assert bench.value(id) == [1, 2]
    end = bench.told.ends[id]
    assert isinstance(end, Finished)
    assert end.ended >= end.started >= bench.told.starts[id].started - 1
    assert end.peak_memory is not None
    assert end.peak_memory > 10**6
    pid, directory, own_session = bench.value(bench.submit(whole_path))
    assert pid in bench.runner.pids
    assert directory == str(Path.cwd())
    assert own_session


def test_recipes_and_arrays_travel(bench: Bench) -> None:
    import numpy as np

    array = np.arange(100_000.0)
    recipe = Recipe((Use(0, deserialize=1), Constant(2)))

    def double(x: Any, k: int) -> Any:
        return x * k

    def received(value: Any, source: str, target: str) -> Any:
        assert (source, target) == ("alpha", "beta")
        return value + 1

    id = bench.submit(double, received, inputs=[array], recipe=recipe)
    assert np.array_equal(bench.value(id), (array + 1) * 2)
    pickled = bench.submit(double, received, inputs=[array], recipe=cloudpickle.dumps(recipe))
    assert np.array_equal(bench.value(pickled), (array + 1) * 2)


def test_two_slots_really_run_in_parallel(bench_of_two: Bench, tmp_path: Path) -> None:
    def meet() -> int:
        (tmp_path / str(os.getpid())).touch()
        while len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.005)
        return os.getpid()

    bench = bench_of_two
    ids = [bench.submit(meet), bench.submit(meet)]
    assert len({bench.value(id) for id in ids}) == 2
    ends = [bench.told.ends[id] for id in ids]
    assert {end.slot for end in ends} == {0, 1}  # type: ignore[union-attr]


def test_lower_priority_starts_first(bench: Bench) -> None:
    ids = {priority: bench.submit(time.sleep, inputs=[0.002], priority=priority) for priority in (3.0, 1.0, 2.0)}
    for id in ids.values():
        bench.end(id)
    assert bench.told.order == [ids[1.0], ids[2.0], ids[3.0]]


def test_thousands_of_brief_functions(bench_of_two: Bench) -> None:
    bench = bench_of_two
    double = lambda x: x * 2  # noqa: E731
    ids = [bench.submit(double, inputs=[number]) for number in range(3000)]
    assert [bench.value(id) for id in ids] == [2 * number for number in range(3000)]


def test_a_long_function_among_brief_ones_holds_up_no_others(bench_of_two: Bench) -> None:
    bench = bench_of_two

    def maybe_long(seconds: float) -> int:
        import os
        import time

        time.sleep(seconds)
        return os.getpid()

    for _ in range(20):  # learn that it is brief
        bench.value(bench.submit(maybe_long, inputs=[0.0]))
    long = bench.submit(maybe_long, inputs=[60.0])
    brief = [bench.submit(maybe_long, inputs=[0.0]) for _ in range(300)]
    for id in brief:
        bench.value(id)
    assert long not in bench.told.ends
    bench.runner.cancel(long)
    assert isinstance(bench.end(long), Cancelled)


def test_what_was_done_before_a_function_that_hangs_is_not_held_back(bench: Bench) -> None:
    for _ in range(20):
        bench.value(bench.submit(time.sleep, inputs=[0.0]))
    batch = [bench.submit(time.sleep, inputs=[0.0], timeout_s=30) for _ in range(10)]
    hangs = bench.submit(time.sleep, inputs=[600.0])
    late = bench.submit(time.sleep, inputs=[600.0], timeout_s=0.2)
    behind = bench.submit(time.sleep, inputs=[0.0])
    for id in batch:
        assert bench.value(id) is None
    assert hangs not in bench.told.ends
    bench.runner.cancel(hangs)
    assert isinstance(bench.end(hangs), Cancelled)
    assert bench.failure(late).failure.kind is FailureKind.TIMEOUT
    assert bench.value(behind) is None


@pytest.mark.parametrize("timeout_s", [None, 0.5])
def test_what_hangs_in_c_behind_one_that_is_done_is_killed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, timeout_s: float | None
) -> None:
    def hang(long: bool) -> None:
        import itertools

        sum(itertools.repeat(0) if long else ())

    monkeypatch.setattr("handoff_lab.node.pool.GRACE_S", 0.1)
    for _ in range(20):
        bench.value(bench.submit(hang, inputs=[False]))
    first = bench.submit(hang, inputs=[False], timeout_s=timeout_s)
    hangs = bench.submit(hang, inputs=[True], timeout_s=timeout_s)  # in the same batch
    if timeout_s is None:
        bench.wait_for(lambda: hangs in bench.told.starts)
        bench.runner.cancel(hangs)
        assert isinstance(bench.end(hangs), Cancelled)
    else:
        assert bench.failure(hangs).failure.kind is FailureKind.TIMEOUT
    assert bench.value(first) is None


def test_slots_draw_different_random_numbers(bench_of_two: Bench) -> None:
    import random

    def draw() -> Any:
        import os
        import random
        import time

        time.sleep(0.05)
        return os.getpid(), random.random()

    random.random()
    drawn = [bench_of_two.value(id) for id in [bench_of_two.submit(draw) for _ in range(4)]]
    assert len({pid for pid, _ in drawn}) == 2
    assert len({number for _, number in drawn}) == 4


# -- odd endings ---------------------------------------------------------------


def leave(code: int) -> None:
    import os

    os._exit(code)


def crash() -> None:
    import os

    os.kill(os.getpid(), 11)


def close_everything() -> None:
    import os
    import time

    os.closerange(3, 200)
    time.sleep(60)


def return_twice() -> int:
    import os

    os.fork()
    return 7


def recurse_in_c() -> Any:
    import sys

    sys.setrecursionlimit(10**9)
    value: Any = ()
    for _ in range(10**6):
        value = (value,)
    return repr(value)


def test_a_death_that_is_told_long_after_the_connection_ended_keeps_its_cause(bench: Bench) -> None:
    bench.value(bench.submit(nothing))
    (worker,) = bench.runner._workers.values()
    worker.hung_up = True
    assert "killed by SIGSEGV" in bench.failure(bench.submit(crash)).failure.message


def test_a_slot_that_was_killed_did_not_hang_up(bench: Bench) -> None:
    bench.value(bench.submit(nothing))
    (worker,) = bench.runner._workers.values()
    handle = worker._handle
    assert worker.pid is not None
    assert handle is not None
    os.kill(worker.pid, signal.SIGKILL)
    select.select([handle], [], [])
    worker._hang_up()  # before its death is told
    assert not worker.hung_up


@pytest.mark.parametrize(
    ("function", "inputs", "message"),
    [
        (leave, [3], "ended with exit code 3, as by os._exit(3)"),
        (leave, [0], "ended with exit code 0"),
        (crash, [], "killed by SIGSEGV"),
        (recurse_in_c, [], "killed by SIGSEGV"),
        (close_everything, [], "did it close file descriptors"),
    ],
)
def test_a_function_that_ends_its_process_fails_alone(
    bench: Bench, function: Any, inputs: list[Any], message: str
) -> None:
    before = bench.submit(nothing)
    id = bench.submit(function, inputs=inputs)
    after = bench.submit(nothing)
    story = bench.failure(id).failure
    assert story.kind is FailureKind.DIED
    assert message in story.message
    assert story.retryable
    assert bench.value(before) is None
    assert bench.value(after) is None


def test_a_crash_leaves_its_log_and_where_it_was(bench: Bench) -> None:
    def shout_and_crash() -> None:
        import os

        print("last words")  # noqa: T201
        os.kill(os.getpid(), 11)

    log = bench.failure(bench.submit(shout_and_crash)).log
    assert "last words" in log
    assert "shout_and_crash" in log  # faulthandler


def test_sys_exit_fails_alone_and_the_slot_stays(bench: Bench) -> None:
    import sys

    bench.value(bench.submit(nothing))
    pids = bench.runner.pids
    story = bench.failure(bench.submit(sys.exit, inputs=["enough"])).failure
    assert story.message == "SystemExit: it called sys.exit('enough')"
    assert bench.runner.pids == pids


def test_a_fork_that_comes_back_is_not_a_second_slot(bench: Bench) -> None:
    assert bench.value(bench.submit(return_twice)) == 7
    assert bench.value(bench.submit(return_twice)) == 7


def test_a_result_that_cannot_be_pickled(bench: Bench) -> None:
    import threading

    story = bench.failure(bench.submit(threading.Lock)).failure
    assert story.kind is FailureKind.RESULT
    assert "a lock that cannot be pickled" in story.message
    assert not story.retryable


def test_code_that_needs_a_missing_module_names_it(bench: Bench) -> None:
    pickled = b"cno_such_module_here\nfunction\n."
    story = bench.failure(bench.submit(pickled, label="train")).failure
    assert story.kind is FailureKind.CODE
    assert "'train' needs the module 'no_such_module_here'" in story.message


def test_an_input_that_cannot_be_unpickled(bench: Bench) -> None:
    class Sour:
        def __reduce__(self) -> Any:
            return int, ("not a number",)

    story = bench.failure(bench.submit(nothing, inputs=[Sour()])).failure
    assert story.kind is FailureKind.INPUT
    assert "input 0" in story.message


def test_set_up_runs_first_and_once_in_each_slot(bench: Bench) -> None:
    source = "counts = []\ndef tool(): return 'made by set-up'\ncounts.append(1)"

    names: dict[str, Any] = {"__name__": "__main__"}
    exec("def use(): return tool(), counts", names)
    function = names["use"]
    for _ in range(2):
        assert bench.value(bench.submit(function, setup=[source])) == ("made by set-up", [1])


def test_set_up_that_fails_fails_the_attempt(bench: Bench) -> None:
    story = bench.failure(bench.submit(nothing, setup=["x = 1\ny = x / 0"])).failure
    assert story.kind is FailureKind.CODE
    assert "y = x / 0" in story.traceback


def test_retry_on_is_decided_where_the_exception_is(bench: Bench) -> None:
    def fail() -> None:
        raise KeyError("gone")

    assert bench.failure(bench.submit(fail, retry_on=LookupError)).failure.retryable
    assert not bench.failure(bench.submit(fail, retry_on=(OSError, ValueError))).failure.retryable


# -- stopping ------------------------------------------------------------------


def stubborn() -> None:
    import time

    while True:
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            print("no")  # noqa: T201


def test_a_timeout_interrupts(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handoff_lab.node.pool.GRACE_S", 600.0)
    bench.wait_for(lambda: bench.runner.pids)
    pids = list(bench.runner.pids)
    id = bench.submit(time.sleep, inputs=[600], timeout_s=0.05)
    story = bench.failure(id).failure
    assert story.kind is FailureKind.TIMEOUT
    assert story.message == "it ran longer than its timeout of 0.05 s"
    bench.value(bench.submit(nothing))
    assert bench.runner.pids == pids


def test_the_time_in_the_queue_does_not_count(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    clocks: list[float] = []
    call_later = bench.loop.call_later
    first = bench.submit(time.sleep, inputs=[600.0])
    second = bench.submit(time.sleep, inputs=[0.0], timeout_s=123.0)
    monkeypatch.setattr(bench.loop, "call_later", lambda s, then: clocks.append(s) or call_later(s, then))
    bench.wait_for(lambda: first in bench.told.starts)
    assert 123.0 not in clocks
    bench.runner.cancel(first)
    assert bench.value(second) is None
    assert 123.0 in clocks


def test_what_swallows_the_interrupt_is_killed_after_the_grace(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for patience_s in (0.1, 1.0, 10.0):  # a busy slot may not have begun by then, or not have said no
        monkeypatch.setattr("handoff_lab.node.pool.GRACE_S", patience_s)
        end = bench.failure(bench.submit(stubborn, timeout_s=patience_s))
        assert end.failure.kind is FailureKind.TIMEOUT
        assert bench.value(bench.submit(nothing)) is None
        if "no" in end.log:
            break
    assert "no" in end.log


def test_cancelling_what_waits_what_runs_and_what_is_unknown(bench: Bench) -> None:
    running = bench.submit(time.sleep, inputs=[60])
    waiting = bench.submit(nothing)
    bench.wait_for(lambda: running in bench.told.starts)
    bench.runner.cancel(waiting)
    assert bench.told.ends[waiting] == Cancelled(waiting)
    bench.runner.cancel(running)
    assert isinstance(bench.end(running), Cancelled)
    bench.runner.cancel(running)
    assert bench.value(bench.submit(nothing)) is None


def test_killing_does_not_wait_for_the_grace(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handoff_lab.node.pool.GRACE_S", 600.0)
    id = bench.submit(stubborn)
    bench.wait_for(lambda: id in bench.told.starts)
    bench.runner.cancel(id, "kill")
    assert isinstance(bench.end(id), Cancelled)
    assert bench.value(bench.submit(nothing)) is None


def test_a_whole_batch_is_cancelled(bench: Bench) -> None:
    for _ in range(5):
        bench.value(bench.submit(time.sleep, inputs=[0]))
    ids = [bench.submit(time.sleep, inputs=[seconds]) for seconds in (*[0.0001] * 199, 60)]
    bench.loop.run_once()
    for id in ids:
        bench.runner.cancel(id)
    ends = [bench.end(id) for id in ids]
    assert {type(end) for end in ends} <= {Cancelled, Finished}
    assert any(isinstance(end, Cancelled) for end in ends)


# -- the pool ------------------------------------------------------------------


def test_growing_starts_what_waits_and_shrinking_lets_it_end(bench: Bench) -> None:
    ids = [bench.submit(time.sleep, inputs=[60]) for _ in range(3)]
    bench.wait_for(lambda: ids[0] in bench.told.starts)
    bench.runner.resize(3)
    bench.wait_for(lambda: all(id in bench.told.starts for id in ids))
    bench.runner.resize(1)
    for id in ids[1:]:
        bench.runner.cancel(id)
        bench.end(id)
    bench.wait_for(lambda: len(bench.runner.pids) == 1)
    assert ids[0] not in bench.told.ends
    bench.runner.cancel(ids[0])
    assert isinstance(bench.end(ids[0]), Cancelled)


def test_a_slot_killed_from_outside_while_idle_is_replaced(bench: Bench) -> None:
    import os

    bench.value(bench.submit(nothing))
    (pid,) = bench.runner.pids
    os.kill(pid, signal.SIGKILL)
    bench.wait_for(lambda: bench.runner.pids not in ([], [pid]))
    assert bench.value(bench.submit(nothing)) is None
    assert not any(isinstance(end, Failed) for end in bench.told.ends.values())


def test_slots_that_never_come_up_fail_what_waits_for_them(monkeypatch: pytest.MonkeyPatch, bench: Bench) -> None:
    class Broken:
        """A launcher whose processes end at once."""

        def watch(self, loop: Any, died: Any, lost: Any) -> None:
            self.died = died

        def launch(self, slot: int, fds: Any) -> None:
            bench.loop.call_later(0.001, lambda: self.died(slot, 5))

    monkeypatch.setattr("handoff_lab.node.pool.RELAUNCH_S", 0.01)
    pool = SlotPool(bench.loop, Broken(), bench.told, 1, lambda reason: None)
    bench.runner.close()
    bench.runner = pool
    story = bench.failure(bench.submit(nothing)).failure
    assert story.message.endswith("ended with exit code 5, before it was ready")
    assert story.retryable
    pool.close()


def imports(folder: str) -> str:
    import sys

    sys.path.insert(0, folder)
    return __import__("slow_to_import").__name__


@pytest.mark.real
def test_a_slot_that_was_interrupted_in_an_import_is_replaced(bench: Bench, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    (tmp_path / "slow_to_import.py").write_text(
        f"import pathlib, time\npathlib.Path({str(begun)!r}).touch()\ntime.sleep(60)\n"
    )
    id = bench.submit(imports, inputs=[str(tmp_path)])
    bench.wait_for(begun.exists)
    pids = list(bench.runner.pids)
    bench.runner.cancel(id)
    assert isinstance(bench.end(id), Cancelled)
    assert bench.value(bench.submit(os.getpid)) not in pids


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("1 / 0", "the set-up of the run failed: ZeroDivisionError: division by zero"),
        ("import os; os._exit(3)", "its process ended with exit code 3, as by os._exit(3), in the set-up of the run"),
    ],
)
def test_a_crash_in_the_set_up_is_told_as_such(bench: Bench, source: str, said: str) -> None:
    assert bench.failure(bench.submit(nothing, setup=[source])).failure.message == said
    assert bench.value(bench.submit(nothing)) is None


def test_slots_are_started_as_they_are_needed(bench: Bench, tmp_path: Path) -> None:
    ready = 20

    def meet() -> None:
        (tmp_path / str(os.getpid())).touch()
        while len(list(tmp_path.iterdir())) < ready:
            time.sleep(0.01)

    bench.runner.resize(1000)
    bench.wait_for(lambda: len(bench.runner.pids) == AHEAD)
    for id in [bench.submit(meet) for _ in range(ready)]:
        bench.value(id)
    assert len(bench.runner.pids) == ready


def test_what_was_said_to_run_is_not_taken_back(bench: Bench) -> None:
    bench.wait_for(lambda: bench.runner.pids)
    (slot,) = bench.runner.pids
    os.kill(slot, signal.SIGSTOP)  # it has not seen what it is to run yet
    id = bench.submit(lambda: 7)
    bench.wait_for(lambda: id in bench.told.starts)
    bench.runner.cancel(id, "recall")
    os.kill(slot, signal.SIGCONT)
    assert bench.value(id) == 7
