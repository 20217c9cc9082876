"""More values than a node's store holds in memory: they go to disk, and come back whole."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import handoff_lab as hl
from tests.others import soon

pytestmark = pytest.mark.real

NBYTES = 10_000_000
VALUES = 40
LIMIT = 80_000_000


def make(number: int) -> Any:
    import numpy as np

    return np.full(NBYTES // 8, float(number))


def add_up(*arrays: Any) -> float:
    return float(sum(array[-1] for array in arrays))


def opened(pid: int) -> Iterator[tuple[str, int, int]]:
    """What a process has open: its name, bytes and blocks."""
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed meanwhile
            found = path.stat()
            yield str(path.readlink()), found.st_size, found.st_blocks


def on_disk(pid: int) -> int:
    """Bytes of files without a name that a process has open."""
    return sum(size for link, size, _ in opened(pid) if link.endswith("(deleted)") and "memfd" not in link)


def in_memory(pid: int) -> int:
    """Bytes of shared memory that a process has open."""
    return sum(blocks * 512 for link, _, blocks in opened(pid) if "handoff-values" in link)


@pytest.fixture
def dag() -> hl.DAG:
    names = [f"part-{number}" for number in range(VALUES)]
    parts = [hl.Function(name, make, extra_args=[n], node="alpha") for n, name in enumerate(names)]
    return hl.DAG("spill").add(
        *parts,
        hl.Function("here", add_up, args=names, node="alpha"),
        hl.Function("there", add_up, args=names, node="beta"),
    )


def test_five_times_what_the_store_holds(dag: hl.DAG, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    nodes = {"alpha": {"cpu": 1}, "beta": {"cpu": 1}}
    with hl.Cluster(nodes=nodes, store_limit="80MB") as cluster:
        run = cluster.execute(dag)
        expected = VALUES * (VALUES - 1) / 2
        assert (run.results["here"], run.results["there"]) == (expected, expected)
        agent = cluster.nodes["alpha"].pid
        soon(lambda: on_disk(agent) > VALUES * NBYTES - LIMIT and in_memory(agent) < LIMIT)
        assert (run.results["part-0"] == 0.0).all()
        assert (run.results["part-39"] == 39.0).all()
        del run
        gc.collect()
        cluster.execute(hl.DAG("after").add(hl.Function("one", lambda: 1)))
        soon(lambda: on_disk(agent) == 0)
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith("handoff-lab-")]
