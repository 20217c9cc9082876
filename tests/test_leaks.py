"""After a hundred runs memory and file descriptors are where they were, in every process of a cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

RUNS = 100
SPARE = 5_000_000  # bytes; code or results that stayed would be 60 MB and more
# What is freed goes back at once: else glibc raises this limit as it goes, and keeps some 10 to 30 MB, or not.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536"}

# Each run brings code of its own, with 300 kB in it, and makes 300 kB, large enough for shared memory.
PROGRAM = """
import collections, contextlib, gc, json, os, sys, time
from pathlib import Path
import psutil
import handoff_lab as hl

SIZE = 300_000
cluster = hl.Cluster({"a": {"cpu": 1}, "b": {"cpu": 1}}, log_directory=sys.argv[2])

def once(number):
    ballast = bytes([number % 256]) * SIZE
    def make(): return ballast + b"x"
    def measure(data): return len(data) + ballast[0]
    dag = hl.DAG(f"run {number}")
    for node, other in ("ab", "ba"):
        dag.add(hl.Function(("make", node), make, node=node))
        dag.add(hl.Function(("measure", node), measure, args=[("make", node)], node=other))
        dag.add(hl.Function(("kernel", node), measure, args=[("make", node)], node=node, runs_in="kernel"))
    run = cluster.execute(dag)
    assert len(run.results["make", "a"]) == SIZE + 1
    assert run.results["measure", "b"] == run.results["kernel", "a"] == SIZE + 1 + number % 256

def descriptors(pid):
    found = collections.Counter()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            found[str(entry.readlink()).partition(":[")[0]] += 1
    found["/memfd:handoff-values (deleted)"] //= 17  # processes that make values keep up to 16 for the next ones
    return found

def tidy():
    import gc
    return gc.collect()

def look():
    gc.collect()  # the runs go; nodes take commands in order, so what a run had there goes before the next functions
    for node in cluster.nodes:
        cluster.execute(hl.DAG("tidy").add(
            hl.Function("slot", tidy, node=node), hl.Function("kernel", tidy, node=node, runs_in="kernel"),
        ))
    gc.collect()
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return {
        "fds": {p.pid: descriptors(p.pid) for p in family},
        "rss": {p.pid: p.memory_info().rss for p in family},
        "threads": {p.pid: p.num_threads() for p in family},
    }

def counts(seen):
    return seen["fds"], seen["threads"]

runs = int(sys.argv[1])
for number in range(60):
    once(number)
before = look()
while counts(before) != counts(before := look()):
    pass  # an agent had a file of /proc open, just then
for number in range(runs):
    once(100 + number)
end = time.monotonic() + 30
after = look()
while counts(after) != counts(before) and time.monotonic() < end:
    after = look()  # some things go in their own time
print(json.dumps([before, after]))
cluster.close()
"""


@pytest.mark.real
def test_a_hundred_runs_leave_nothing_behind(tmp_path: Path) -> None:
    words = [sys.executable, "-c", PROGRAM, str(RUNS), str(tmp_path)]
    environment = {**os.environ, **MALLOC}
    done = subprocess.run(words, capture_output=True, text=True, timeout=240, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    looks: list[dict[str, dict[str, Any]]] = json.loads(done.stdout)
    before, after = looks
    assert after["fds"] == before["fds"]
    assert after["threads"] == before["threads"]
    assert after["rss"].keys() == before["rss"].keys()
    assert {
        pid: rss - before["rss"][pid] for pid, rss in after["rss"].items() if rss > before["rss"][pid] + SPARE
    } == {}
