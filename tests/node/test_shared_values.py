"""Large values between a node's slots: in shared memory, not copied by readers, valid after their maker's end."""

from __future__ import annotations

import gc
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handoff_lab.messages import Attempt, AttemptId, Finished, Source
from handoff_lab.store.payload import Frames
from handoff_lab.store.segments import Segment

pytestmark = pytest.mark.usefixtures("brief_collections")


def ones() -> Any:
    import numpy as np

    return np.ones(100_000)


def inode_under(array: Any) -> tuple[int, bool, float]:
    """Inode of the file that is mapped where this array lies; whether it can be written; its sum."""
    address = array.__array_interface__["data"][0]
    with open("/proc/self/maps") as file:
        for line in file:
            begin, end = (int(word, 16) for word in line.split()[0].split("-"))
            if begin <= address < end:
                return int(line.split()[4]), bool(array.flags.writeable), float(array.sum())
    raise LookupError(address)


def run_over(bench: Any, code: Any, *inputs: Frames) -> AttemptId:
    """Run code over values that are pickled already."""
    id = AttemptId("shared", bench.pool_runs, 1)
    bench.pool_runs += 1
    sources = tuple(Source(AttemptId("given", number, 0), "alpha") for number in range(len(inputs)))
    bench.runner.run(Attempt(id, "beta", "f", (bench.key(code),), sources), inputs)
    return id


def inode_of(value: Frames) -> int:
    segment = value.parts[-1]
    assert isinstance(segment, Segment)
    return os.fstat(segment.fd).st_ino


def test_a_slot_reads_what_another_made_where_it_lies(bench_of_two: Any) -> None:
    bench_of_two.pool_runs = 0
    made = bench_of_two.submit(ones)
    end = bench_of_two.end(made)
    value = bench_of_two.told.values[made]
    assert isinstance(end, Finished)
    assert end.nbytes == value.nbytes > 800_000
    inode = inode_of(value)
    readers = [run_over(bench_of_two, inode_under, value) for _ in range(2)]
    assert [bench_of_two.value(id) for id in readers] == [(inode, False, 100_000.0)] * 2


def test_many_shared_inputs_cross_at_once(bench: Any) -> None:
    bench.pool_runs = 0
    ids = [bench.submit(ones) for _ in range(40)]
    for id in ids:
        bench.end(id)
    total = run_over(bench, lambda *arrays: sum(float(a.sum()) for a in arrays), *map(bench.told.values.get, ids))
    assert bench.value(total) == 4_000_000.0


def test_a_value_outlives_the_slot_that_made_it(bench: Any) -> None:
    made = bench.submit(ones)
    bench.end(made)
    (pid,) = bench.runner.pids
    os.kill(pid, signal.SIGKILL)
    bench.wait_for(lambda: bench.runner.pids not in ([], [pid]))
    assert (bench.value(made) == np.ones(100_000)).all()


def test_descriptors_come_and_go_with_values(bench: Any) -> None:
    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    first = bench.submit(ones)
    bench.value(first)
    bench.told.values.clear()
    gc.collect()  # what earlier tests left
    before = count()
    for _ in range(20):
        bench.value(bench.submit(ones))
    assert count() == before + 20
    bench.told.values.clear()
    assert count() == before


def test_a_slot_uses_its_memory_again(bench: Any) -> None:
    inodes = set()
    for _ in range(6):
        made = bench.submit(ones)
        bench.end(made)
        inodes.add(inode_of(bench.told.values.pop(made)))
    assert len(inodes) == 1
