"""A disk that is full, memory that runs out, nodes that are killed while much of theirs is on disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import handoff_lab as hl

pytestmark = pytest.mark.real

PRIVATE = ("unshare", "--user", "--map-root-user", "--mount")

# A small disk for a program and all below it, gone with the last of them; then the program, with its directory.
ON_SMALL_DISK = 'mount -t tmpfs -o size="$1" none "$2" && shift 2 && exec "$@"'

PART = """
import gc, json, os, signal, sys, time
import handoff_lab as hl

disk = sys.argv[1]
NBYTES = 3_000_000

def make(number):
    import numpy as np
    return np.full(NBYTES // 8, float(number)) if number % 2 else bytes([number]) * NBYTES

def is_right(number, value):
    return len(value) == (NBYTES // 8 if number % 2 else NBYTES) and value[0] == value[-1] == number

def used():
    return os.statvfs(disk).f_bsize * (os.statvfs(disk).f_blocks - os.statvfs(disk).f_bfree)

def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)

def parts(count, **options):
    return hl.DAG("parts").add(*(hl.Function(n, make, extra_args=[n], node="alpha", **options) for n in range(count)))

def tell(**story):
    print(json.dumps(story))
"""

FULL = """
with hl.Cluster({"alpha": {"cpu": 1}}, store_limit="20MB") as cluster:  # half of it is for what slots keep
    agent = cluster.nodes["alpha"].pid
    # The first may all be in memory before it is known that they can't go to disk; then there is no place for more.
    runs = [cluster.execute(parts(12, max_retries=0), on_error="continue", raise_on_error=False) for _ in range(2)]
    done = [[n for n in range(12) if n not in run.errors] for run in runs]
    right = all(is_right(n, run.results[n]) for run, some in zip(runs, done) for n in some)
    errors = sorted({str(e).replace(f"function {n} ", "function N ") for run in runs for n, e in run.errors.items()})
    log = cluster.node_log("alpha")
    del runs
    gc.collect()
    until(lambda: used() == 0)
    after = cluster.execute(parts(2)).status
    same = cluster.nodes["alpha"].pid == agent
    tell(done=[*map(len, done)], right=right, errors=errors, log=log, after=after, same=same)
"""

KILLED = """
stories = []
with hl.Cluster({"alpha": {"cpu": 1}, "beta": {"cpu": 1}}, store_limit="20MB") as cluster:
    for number in (signal.SIGTERM, signal.SIGKILL):
        run = cluster.execute(parts(12))
        until(lambda: used() >= 20_000_000)
        named = os.listdir(disk)
        os.kill(cluster.nodes["alpha"].pid, number)
        until(lambda: "alpha" not in cluster.nodes)
        until(lambda: used() == 0)
        cluster.add_node({"cpu": 1}, name="alpha")
        stories.append([named, os.listdir(disk), used()])
tell(stories=stories)
"""


def on_small_disk(tmp_path: Path, size: str, code: str) -> dict[str, Any]:
    """What a program tells that has ``tmp_path`` / disk as its place for temporary files."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run([*PRIVATE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no small disk can be made here: it takes a mount namespace")
    done = subprocess.run(
        [*PRIVATE, "sh", "-c", ON_SMALL_DISK, "sh", size, str(disk), sys.executable, "-c", PART + code, str(disk)],
        env={**os.environ, "TMPDIR": str(disk), "XDG_STATE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    story: dict[str, Any] = json.loads(done.stdout)
    return story


def test_a_full_disk_fails_what_has_no_place_and_nothing_else(tmp_path: Path) -> None:
    story = on_small_disk(tmp_path, "8m", FULL)
    first, second = story["done"]
    assert first >= 5  # three in memory and two on disk, at least
    assert second == 0
    assert story["right"]
    assert story["errors"] == [
        "function N failed on node 'alpha' after attempt 1: there is no place for its result of 3 MB: its node may "
        f"hold 10 MB of results in memory and can write no more to {tmp_path / 'disk'} "
        "([Errno 28] No space left on device); make room there, or raise store_limit"
    ]
    assert f"nothing goes to {tmp_path / 'disk'}: [Errno 28]" in story["log"]
    assert (story["after"], story["same"]) == ("done", True)


def test_what_is_on_disk_goes_with_its_node_however_that_ends(tmp_path: Path) -> None:
    story = on_small_disk(tmp_path, "64m", KILLED)
    assert story["stories"] == [[[], [], 0]] * 2


def large(limit: int | None) -> Any:
    """A result of 10 MB, made by a process whose files, and shared memory, must not be larger than ``limit``."""
    import resource

    import numpy as np

    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard if limit is None else limit, hard))
    return np.ones(10_000_000 // 8)


def test_without_shared_memory_for_a_result_its_function_fails_alone() -> None:
    with hl.Cluster({"alpha": {"cpu": 1}}) as cluster:
        dag = hl.DAG("memory").add(
            hl.Function("none", large, extra_args=[10**6], max_retries=1),
            hl.Function("kernel", large, extra_args=[10**6], max_retries=0, runs_in="kernel"),
        )
        run = cluster.execute(dag, on_error="continue", raise_on_error=False)
        for id, attempts in {"none": 2, "kernel": 1}.items():
            assert "there is no shared memory for its result of 10 MB: [Errno 27] File too large" in str(run.errors[id])
            assert run.attempts[id] == attempts
        good = [hl.Function(where, large, extra_args=[None], runs_in=where) for where in ("process", "kernel")]
        after = cluster.execute(hl.DAG("after").add(*good))
        assert after.results["process"].nbytes == after.results["kernel"].nbytes == 10_000_000
