"""Functions that claim GPUs: what they see of them, who shares one, and that all is given back, however they end."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from handoff_lab.messages import Cancelled, Failed, FailureKind, Finished
from handoff_lab.node import bound_slots
from handoff_lab.node.gpu_slots import GpuSlots
from handoff_lab.node.launchers import SharedZygote
from handoff_lab.node.pool import SlotPool
from handoff_lab.node.room import Room
from handoff_lab.node.zygote import Zygote
from handoff_lab.resources.devices import Device
from handoff_lab.transport.loop import Loop

if TYPE_CHECKING:
    from conftest import Bench

pytestmark = pytest.mark.real


class KernelOfSlots:
    """Stands for the kernel: one process for all its functions."""

    pid: int | None = None

    def start(self, pool: SlotPool) -> None:
        self.run, self.cancel = pool.run, pool.cancel


@pytest.fixture
def gpus(bench_class: type[Bench], told: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two GPUs, named as a machine whose administrator gives the last two of four, and four slots."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    zygote, loop, lost = Zygote.fork(), Loop(), []
    shared = SharedZygote(loop, zygote, lost.append)
    kernel, room = KernelOfSlots(), Room({"cpu": 4, "gpu": 2})
    slots = GpuSlots(
        loop, shared, told, kernel, room, [Device("2", 16_000), Device("3", 16_000)], 2, 4  # type: ignore[arg-type]
    )  # fmt: skip
    pool = SlotPool(loop, shared.launcher({"CUDA_VISIBLE_DEVICES": "2,3"}), slots, 1, lost.append, room)
    kernel.start(pool)

    def load(codes: Any) -> None:
        slots.load(codes)
        pool.load(codes)

    bench = bench_class(loop, SimpleNamespace(load=load, run=slots.run), told)
    yield SimpleNamespace(bench=bench, slots=slots, kernel=pool, room=room, submit=_Submits(bench), held=slots._held)
    slots.close()
    pool.close()
    zygote.close()
    loop.close()
    assert lost == []


class _Submits:
    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def __call__(self, code: Any, gpu: float = 0.0, *inputs: Any, memory: float = 0.0, **options: Any) -> Any:
        cost = {name: amount for name, amount in (("gpu", gpu), ("gpu_memory", memory)) if amount}
        return self._bench.submit(code, cost=cost, inputs=inputs, **options)


def seen() -> tuple[str, int]:
    import os

    return os.environ["CUDA_VISIBLE_DEVICES"], os.getpid()


def hold(gate: str) -> tuple[str, int]:
    """What it sees, once somebody opens the gate."""
    import os

    with open(gate, "rb", buffering=0) as file:
        file.read(1)
    return os.environ["CUDA_VISIBLE_DEVICES"], os.getpid()


@pytest.fixture
def gates(tmp_path: Path) -> Iterator[Any]:
    """Pipes that functions wait at, by name."""
    ends: dict[str, int] = {}

    def gate(name: str) -> str:
        os.mkfifo(tmp_path / name)
        ends[name] = os.open(tmp_path / name, os.O_RDWR)
        return str(tmp_path / name)

    gate.open = lambda name: os.write(ends[name], b"x")  # type: ignore[attr-defined]
    yield gate
    for end in ends.values():
        os.close(end)


def wait_for_starts(gpus: Any, *ids: Any) -> None:
    gpus.bench.wait_for(lambda: set(ids) <= gpus.bench.told.starts.keys())


class TestSight:
    def test_each_function_sees_its_own(self, gpus: Any, gates: Any) -> None:
        first, second = gpus.submit(hold, 1, gates("a")), gpus.submit(hold, 1, gates("b"))
        third = gpus.submit(seen, 2)
        wait_for_starts(gpus, first, second)
        assert len(gpus.slots.functions) == 2
        gates.open("a")
        gates.open("b")
        assert [gpus.bench.value(id)[0] for id in (first, second, third)] == ["2", "3", "2,3"]
        assert gpus.slots.functions == {}

    def test_parts_share_one_and_leave_the_other_whole(self, gpus: Any, gates: Any) -> None:
        halves = [gpus.submit(hold, 0.5, gates(name)) for name in "ab"]
        whole = gpus.submit(hold, 1, gates("c"))
        wait_for_starts(gpus, *halves, whole)
        for name in "abc":
            gates.open(name)
        assert [gpus.bench.value(id)[0] for id in (*halves, whole)] == ["2", "2", "3"]

    def test_it_is_set_before_anything_of_the_function_is_loaded(self, gpus: Any) -> None:
        class Code:
            def __reduce__(self) -> tuple[Any, tuple[str]]:
                return eval, ("(lambda seen: lambda: seen)(__import__('os').environ['CUDA_VISIBLE_DEVICES'])",)

        assert gpus.bench.value(gpus.submit(Code(), 1)) == "2"
        setup = "import os; at_setup = os.environ['CUDA_VISIBLE_DEVICES']"

        def told_at_setup() -> Any:
            import __main__

            return __main__.at_setup

        assert gpus.bench.value(gpus.submit(told_at_setup, 2, setup=[setup])) == "2,3"

    def test_memory_alone_gets_a_gpu_that_has_it(self, gpus: Any) -> None:
        assert gpus.bench.value(gpus.submit(seen, memory=12_000))[0] == "2"

    def test_what_no_gpu_has_fails_and_says_so(self, gpus: Any) -> None:
        failed = gpus.bench.failure(gpus.submit(seen, 0.5, memory=20_000))
        assert (failed.failure.kind, failed.failure.retryable) == (FailureKind.UNSUPPORTED, False)
        assert "gpu 0.5, gpu_memory 20000 MB" in failed.failure.message


class TestSlots:
    def test_a_slot_is_kept_for_the_same_gpus_and_no_others(self, gpus: Any) -> None:
        one, again, both, last = (gpus.bench.value(gpus.submit(seen, gpu)) for gpu in (1, 0.5, 2, 1))
        assert one == again, "it is warm"
        assert both[0] == "2,3"
        assert len({one[1], both[1], last[1]}) == 3, "what wants a GPU for itself ends who idles there"

    def test_who_wants_a_gpu_alone_waits_until_others_memory_there_is_free(self, gpus: Any, gates: Any) -> None:
        def gone(pids: list[int]) -> list[bool]:
            return [not Path(f"/proc/{pid}").exists() for pid in pids]

        halves = [gpus.submit(hold, 0.5, gates(name)) for name in "ab"]
        wait_for_starts(gpus, *halves)
        gates.open("a")
        gates.open("b")
        pids = [gpus.bench.value(id)[1] for id in halves]
        assert gpus.bench.value(gpus.submit(gone, 1, pids)) == [False, True], "one of the two is used again"
        assert gpus.bench.value(gpus.submit(gone, 1, pids, runs_in="kernel")) == [True, True]

    def test_an_idle_slot_ends_after_a_while(self, gpus: Any, alive: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bound_slots, "IDLE_S", 0.0)
        _, pid = gpus.bench.value(gpus.submit(seen, 1))
        gpus.bench.wait_for(lambda: not alive(pid))
        assert len(gpus.slots._slots) == 0

    def test_slots_are_told_apart_from_those_without_gpus(self, gpus: Any, gates: Any) -> None:
        ids = [gpus.submit(hold, 1, gates(name)) for name in "ab"]
        wait_for_starts(gpus, *ids)
        assert sorted(gpus.bench.told.starts[id].slot for id in ids) == [4, 5]
        gates.open("a")
        gates.open("b")
        gpus.bench.value(ids[0])
        gpus.bench.value(ids[1])

    def test_no_more_run_than_there_are_slots(self, gpus: Any, gates: Any) -> None:
        ids = [gpus.submit(hold, 0.1, gates(str(number))) for number in range(5)]
        wait_for_starts(gpus, *ids[:4])
        assert len(gpus.held) == 4
        for number in range(5):
            gates.open(str(number))
        assert {gpus.bench.value(id)[0] for id in ids} == {"2"}

    def test_each_gpu_can_be_busy_whatever_slots_there_are(self, gpus: Any, gates: Any) -> None:
        gpus.slots.resize(2, 1)
        ids = [gpus.submit(hold, 1, gates(name)) for name in "ab"]
        wait_for_starts(gpus, *ids)
        gates.open("a")
        gates.open("b")
        assert [gpus.bench.value(id)[0] for id in ids] == ["2", "3"]

    def test_the_node_can_be_given_fewer(self, gpus: Any, gates: Any) -> None:
        ids = [gpus.submit(hold, 1, gates(name)) for name in "ab"]
        wait_for_starts(gpus, *ids)
        gpus.slots.resize(1, 4)
        waits = gpus.submit(seen, 1)
        gates.open("b")
        gpus.bench.value(ids[1])
        assert waits not in gpus.bench.told.starts
        gates.open("a")
        assert gpus.bench.value(waits)[0] == "2"


class TestEnds:
    def test_all_ends_give_back(self, gpus: Any, gates: Any) -> None:
        def crash() -> None:
            import ctypes

            ctypes.string_at(0)

        def fail() -> None:
            raise ValueError

        kinds = [gpus.bench.failure(gpus.submit(code, 2)).failure.kind for code in (fail, crash)]
        assert kinds == [FailureKind.EXCEPTION, FailureKind.DIED]
        late = gpus.bench.failure(gpus.submit(hold, 2, gates("never"), timeout_s=0.05))
        assert late.failure.kind is FailureKind.TIMEOUT
        assert gpus.bench.value(gpus.submit(seen, 2))[0] == "2,3"

    @pytest.mark.parametrize("how", ["interrupt", "kill"])
    def test_cancelling(self, gpus: Any, gates: Any, how: Any) -> None:
        runs, waits = gpus.submit(hold, 2, gates("never")), gpus.submit(seen, 1)
        wait_for_starts(gpus, runs)
        gpus.slots.cancel(waits)
        assert gpus.bench.told.ends[waits] == Cancelled(waits)
        gpus.slots.cancel(runs, how)
        assert isinstance(gpus.bench.end(runs), Cancelled)
        assert gpus.bench.value(gpus.submit(seen, 2))[0] == "2,3"
        assert gpus.held == {}

    def test_killing_its_slot(self, gpus: Any, gates: Any) -> None:
        def die(gate: str) -> None:
            hold(gate)
            os.kill(os.getpid(), signal.SIGKILL)

        runs = gpus.submit(die, 1, gates("a"))
        wait_for_starts(gpus, runs)
        ((pid, id),) = gpus.slots.functions.items()
        assert id == runs
        gates.open("a")
        assert gpus.bench.failure(runs).failure.kind is FailureKind.DIED
        ids, other = gpus.bench.value(gpus.submit(seen, 1))
        assert (ids, other != pid) == ("2", True)

    def test_room_that_it_needs_beside_is_waited_for_and_given_back(self, gpus: Any, gates: Any) -> None:
        cost = {"gpu": 0.5, "cpu": 3}
        first = gpus.bench.submit(hold, inputs=[gates("a")], cost=cost, granted=False)
        second = gpus.bench.submit(seen, cost=cost, granted=False)
        wait_for_starts(gpus, first)
        assert second not in gpus.bench.told.starts
        gates.open("a")
        assert isinstance(gpus.bench.end(second), Finished)
        assert gpus.room.fits((("cpu", 4.0), ("gpu", 2.0)))


class TestKernel:
    def test_it_sees_all_and_holds_the_first(self, gpus: Any, gates: Any) -> None:
        runs = gpus.submit(hold, 1, gates("a"), runs_in="kernel")
        wait_for_starts(gpus, runs)
        assert gpus.bench.value(gpus.submit(seen, 1))[0] == "3"
        both = gpus.submit(seen, 2)
        gates.open("a")
        ids, pid = gpus.bench.value(runs)
        assert (ids, [pid]) == ("2,3", gpus.kernel.pids)
        assert gpus.bench.value(both)[0] == "2,3"

    def test_it_waits_for_the_first(self, gpus: Any, gates: Any) -> None:
        runs = gpus.submit(hold, 0.5, gates("a"))
        wait_for_starts(gpus, runs)
        kernel = gpus.submit(seen, 1, runs_in="kernel")
        after = gpus.submit(seen, 1)
        assert gpus.bench.value(after)[0] == "3", "others are not held up"
        assert kernel not in gpus.bench.told.starts
        gates.open("a")
        assert gpus.bench.value(kernel)[0] == "2,3"


def test_runs_take_turns_and_urgent_ones_go_first(gpus: Any, gates: Any) -> None:
    runs = gpus.submit(hold, 2, gates("a"))
    wait_for_starts(gpus, runs)
    later, first = gpus.submit(seen, 2, priority=2.0), gpus.submit(seen, 2, priority=1.0)
    gates.open("a")
    gpus.bench.value(later)
    assert order_of(gpus.bench.told.order, later, first) == [first, later]


def order_of(order: Sequence[Any], *ids: Any) -> list[Any]:
    return [id for id in order if id in ids]


def test_failures_are_told_once(gpus: Any) -> None:
    id = gpus.submit(lambda: 1 / 0, 1)
    assert isinstance(gpus.bench.end(id), Failed)
