"""``python -m handoff_lab.testing.soak``: runs over nodes that are killed at random, until the time is up.

Every result is compared with that of a serial run. At the end nothing may be left, and memory has not grown.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from handoff_lab.cluster import Cluster
from handoff_lab.graph import DAG, Function
from handoff_lab.testing.killing import Killer
from handoff_lab.testing.leftovers import Surroundings, left_over
from handoff_lab.testing.random_dags import collected, random_dag, serial_results, small

STRATEGIES = ("first_available", "load_balanced", "cost_optimized", "locality")
ATTEMPTS = 6  # at one function, at most: the first, the retries, and losses of nodes
WARM = 0.25  # of the time: until memory counts


@dataclass(frozen=True, slots=True)
class Options:
    """How a soak goes: seconds, and functions of the largest DAG."""

    nodes: int = 20
    functions: int = 10_000
    kill_every_s: float = 20.0
    seconds: float = 600.0
    seed: int = 0


@dataclass(slots=True)
class Story:
    """What became of a soak."""

    runs: int = 0
    functions: int = 0
    killed: int = 0
    recomputed: int = 0
    most_attempts: int = 0
    megabytes_per_minute: Mapping[str, float] = field(default_factory=dict)  # by process: the slope of its memory
    megabytes: Mapping[str, float] = field(default_factory=dict)  # at the end
    wrong: list[str] = field(default_factory=list)  # all that should not be; empty when all is well


def soak(options: Options, folders: Sequence[Path]) -> Story:
    """Soak, and tell. Nothing may be left in ``folders`` that was not there before."""
    story = Story()
    before = Surroundings.look(folders)
    names = [f"n{number:02}" for number in range(options.nodes)]
    spared = names[:2]  # functions are pinned to these, and would fail with them
    with Cluster({name: {"cpu": 1, "memory": 1000} for name in names}) as cluster:
        memory = _Memory(cluster, spared)
        rng = random.Random(options.seed)
        with Killer(cluster, random.Random(options.seed), options.kill_every_s, spared) as killer:
            _go_on(cluster, options, rng, spared, story, memory)
        story.killed = len(killer.killed)
        story.megabytes_per_minute, story.megabytes = memory.slopes(), memory.last()
    del cluster, killer, memory
    gc.collect()
    story.wrong += [f"left over: {what}" for what in left_over(before, folders)]
    return story


def _go_on(
    cluster: Cluster, options: Options, rng: random.Random, pins: Sequence[str], story: Story, memory: _Memory
) -> None:
    end = time.monotonic() + options.seconds
    size = options.functions
    while time.monotonic() < end:
        _random_run(cluster, rng, size, pins, story)
        _cancelled_run(cluster, story)
        _failing_run(cluster, story)
        memory.measure()
        size = rng.randrange(1, options.functions)


def _random_run(cluster: Cluster, rng: random.Random, size: int, pins: Sequence[str], story: Story) -> None:
    dag = collected(random_dag(rng, size, pins=pins, seconds=rng.choice((0.0, 0.01, 0.03))))
    expected = serial_results(dag)["total"]
    run = cluster.execute(dag, allocation_strategy=rng.choice(STRATEGIES), raise_on_error=False)
    story.runs += 1
    story.functions += size
    story.recomputed += run.recomputed
    most = max(run.attempts.values())
    story.most_attempts = max(story.most_attempts, most)
    if run.status != "done":
        story.wrong.append(f"run {story.runs} of {size} functions {run.status}: {run.errors}")
    elif run.results["total"] != expected:
        story.wrong.append(f"run {story.runs} of {size} functions gave other results than a serial one")
    if most > ATTEMPTS:
        story.wrong.append(f"run {story.runs}: {most} attempts at one function")


def _cancelled_run(cluster: Cluster, story: Story) -> None:
    dag = DAG("cancelled").add(*(Function(i, small, extra_args=[i, 5.0], cost={"cpu": 1}) for i in range(8)))
    run = cluster.submit(dag)
    run.cancel()
    _expect(run.join(raise_on_error=False).status, "cancelled", story)


def _failing_run(cluster: Cluster, story: Story) -> None:
    dag = DAG("failing").add(Function("bad", int, extra_args=["no number"], max_retries=0), Function("good", list))
    _expect(cluster.execute(dag, on_error="continue", raise_on_error=False).status, "failed", story)


def _expect(found: str, wanted: str, story: Story) -> None:
    story.runs += 1
    if found != wanted:
        story.wrong.append(f"run {story.runs} is {found}, not {wanted}")


class _Memory:
    """Memory of this process and of the nodes that live on, over time."""

    def __init__(self, cluster: Cluster, names: Sequence[str]) -> None:
        nodes = cluster.nodes
        self._processes = {"coordinator": psutil.Process()} | {name: psutil.Process(nodes[name].pid) for name in names}
        self._samples: dict[str, list[tuple[float, float]]] = {name: [] for name in self._processes}
        self._begun = time.monotonic()

    def measure(self) -> None:
        gc.collect()
        minutes = (time.monotonic() - self._begun) / 60
        for name, process in self._processes.items():
            self._samples[name].append((minutes, process.memory_info().rss / 1e6))

    def slopes(self) -> dict[str, float]:
        """Megabytes per minute, once warm."""
        return {name: round(_slope(samples), 3) for name, samples in self._samples.items()}

    def last(self) -> dict[str, float]:
        return {name: round(samples[-1][1], 1) for name, samples in self._samples.items()}


def _slope(samples: Sequence[tuple[float, float]]) -> float:
    warm = [sample for sample in samples if sample[0] >= WARM * samples[-1][0]]
    if len(warm) < 3:
        return 0.0
    return statistics.linear_regression(*zip(*warm, strict=True)).slope


@contextmanager
def own_folders() -> Iterator[list[Path]]:
    """Folders of this process's own for all that a cluster puts into files; those that are to be empty at the end."""
    with tempfile.TemporaryDirectory(prefix="hl-") as base:
        folders = {name: Path(base, name.lower()) for name in ("TMPDIR", "XDG_RUNTIME_DIR", "XDG_STATE_HOME")}
        for name, folder in folders.items():
            folder.mkdir(mode=0o700)
            os.environ[name] = str(folder)
        tempfile.tempdir = None  # it is looked up again
        yield [folders["TMPDIR"], folders["XDG_RUNTIME_DIR"]]  # the third has the runs' logs


def main() -> int:
    """Soak as the command line says; 1 when something is wrong."""
    parser = argparse.ArgumentParser("python -m handoff_lab.testing.soak", description=__doc__)
    for name, value in asdict(Options()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    with own_folders() as folders:
        story = soak(Options(**vars(parser.parse_args())), folders)
    sys.stdout.write(json.dumps(asdict(story), indent=2) + "\n")
    return 1 if story.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
