"""One story in virtual time, in a process of its own: ``virtual.py burst|losses|herd|memory NODES CHUNKS OUTPUT``.

The real scheduler decides; nodes are simulated, nothing is executed and nothing is sent. What is measured is the CPU
time inside the scheduler's methods: neither what the simulation costs nor what else the machine does.
"""

from __future__ import annotations

import gc
import json
import random
import resource
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import psutil
from workloads import increment

from handoff_lab import DAG, Function
from handoff_lab.graph.maps import cut
from handoff_lab.messages import Attempt, AttemptId, BackendEvent, Command, NodeJoined, NodeLost
from handoff_lab.scheduler import RunOptions, compile_program
from handoff_lab.testing import SimulatedBackend, Simulation

ITEMS = 10  # of a chunk
HOUR_S = 3600.0  # that the run would take on all nodes, if none were lost
LOST = 0.01  # of the nodes, in that hour
NOTICED_S = 2.0  # that a node which answers nothing is waited for; what it does meanwhile is for nothing
REPLACED_S = 60.0  # until another node comes instead
_SHARES = {"median": 0.5, "p95": 0.95, "max": 1.0}
BEAT_S = 1.0  # between two words from the nodes about their load, upon which the scheduler looks around


def burst(nodes: int, chunks: int) -> dict[str, float]:
    """A map whose chunks all take the same time: whole rounds end at once, as fast as they can be taken in."""
    story = Story(nodes, chunks, at_once=nodes, varied=0.0)
    story.tell()
    seconds = story.submit_s + story.handled_s
    return {
        "submit_s": story.submit_s,
        "us_per_chunk": 1e6 * seconds / chunks,
        "chunk_rate": chunks / seconds,
        "item_rate": chunks * ITEMS / seconds,
        "peak_mb": story.peak_mb,
    }


def losses(nodes: int, chunks: int) -> dict[str, float]:
    """A map and the sum of its results, while nodes are lost and others come."""
    story = Story(nodes, chunks, at_once=nodes)
    rng = random.Random(1)
    lost = rng.sample(range(nodes), max(1, round(LOST * nodes)))
    for node in lost:
        story.lose(f"n{node}", rng.uniform(0.0, HOUR_S))
    story.tell()
    return {
        "lost": len(lost),
        **_spread("replan", story.spent[NodeLost]),
        "again": story.begun - chunks - 1,
        "end_s": story.ended_at,
        "core": story.core,
        "peak_mb": story.peak_mb,
    }


def herd(nodes: int, chunks: int) -> dict[str, float]:
    """A map that waits for nodes, all of which come within a second."""
    story = Story(nodes, chunks, at_once=0)
    rng = random.Random(1)
    for node in range(nodes):
        story.join(f"n{node}", rng.uniform(0.0, 1.0))
    story.tell()
    if set(story.joined.values()) != {1} or len(story.joined) != nodes:
        raise ValueError("a node is missing, or came twice")
    return {
        "joins_s": sum(story.spent[NodeJoined]),
        **_spread("join", story.spent[NodeJoined]),
        "all_busy_s": story.all_busy_at,
        "end_s": story.ended_at,
        "core": story.core,
        "peak_mb": story.peak_mb,
    }


def memory(nodes: int, chunks: int) -> dict[str, float]:
    """What is held for a map once it is submitted, before any of it has begun."""
    gc.collect()
    before = psutil.Process().memory_info().rss
    tracemalloc.start()
    story = Story(nodes, chunks, at_once=0)
    story.begin()
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    rss = psutil.Process().memory_info().rss - before
    return {"bytes_per_chunk": held / chunks, "bytes_per_item": held / chunks / ITEMS, "rss_mb": rss / 1e6}


class Story(Simulation):
    """A run of a map, of which it is known at each attempt what it would give."""

    def __init__(self, nodes: int, chunks: int, at_once: int, varied: float = 0.2) -> None:
        self.spent: dict[type, list[float]] = {NodeJoined: [], NodeLost: [], object: []}  # CPU s, by what was heard
        self.joined: Counter[str] = Counter()
        self.begun = 0
        self.all_busy_at = self.ended_at = 0.0
        self._size, self._chunks = nodes, chunks
        self._values: dict[AttemptId, int] = {}
        self._rng = random.Random(2)
        self._mean_s, self._varied = HOUR_S * nodes / chunks, varied
        there = {f"n{i}": {"cpu": 1.0} for i in range(at_once)}
        super().__init__(
            SimulatedBackend(there, duration=self._seconds, outcome=self._evaluate, started=False, keep_ledgers=True)
        )
        self._busy: set[str] = set()

    def begin(self) -> None:
        """Cut, compile and submit."""
        dag = DAG("map").add(
            Function("double", increment, over=range(self._chunks * ITEMS)),
            Function("total", sum, args=["double"]),
        )
        options = RunOptions(allocator="load_balanced", rebalances=True, wait_for_capacity_s=10 * HOUR_S)
        began = time.process_time()
        program = self._program = self._programs["r"] = compile_program(cut(dag, lambda function: ITEMS), run="r")
        commands = self.scheduler.submit(program, options, self.backend.now)
        self.submit_s = time.process_time() - began
        self._obey((), commands)

    def tell(self) -> None:
        """All of it, from the beginning."""
        gc.collect()
        gc.disable()  # as the coordinator does while it decides
        self.begin()
        self._beat()
        self.run()
        if self.ended["r"].status != "done":
            raise ValueError(f"the run ended as {self.ended['r'].status}")
        n = self._chunks * ITEMS
        key, _ = self.scheduler.holder("r", self._program.index["total"]) or (None, "")
        if key is None or self._values[key] != n * (n + 1) // 2:
            raise ValueError("the total is wrong")

    def lose(self, name: str, moment: float) -> None:
        """Have a node vanish, that be noticed, and another come."""
        self.backend.at(moment + NOTICED_S, lambda: self.backend.lose_node(name, "it answers nothing"))
        self.join(f"{name}-again", moment + REPLACED_S)

    def join(self, name: str, moment: float) -> None:
        def join() -> None:
            if not self.ended:
                self.backend.add_node(name, {"cpu": 1.0}, {})

        self.backend.at(moment, join)

    @property
    def handled_s(self) -> float:
        """CPU seconds of the scheduler, without the submission."""
        return sum(map(sum, self.spent.values()))

    @property
    def core(self) -> float:
        """Percent of a core that the scheduler needs to keep up."""
        return 100 * self.handled_s / self.ended_at

    @property
    def peak_mb(self) -> float:
        """Most memory of this process: scheduler, graph and simulation."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6

    # -- what happens --------------------------------------------------------------

    def _hear(self, events: Sequence[BackendEvent]) -> None:
        for event in events:
            if isinstance(event, NodeJoined):
                self.joined[event.info.name] += 1
        kinds = set(map(type, events))
        kind = next((kind for kind in (NodeLost, NodeJoined) if kind in kinds), object)
        began = time.process_time()
        commands = self.scheduler.handle(events, self.backend.now)
        self.spent[kind].append(time.process_time() - began)
        self._obey(events, commands)

    def _obey(self, events: Sequence[BackendEvent], commands: Sequence[Command]) -> None:
        super()._obey(events, commands)
        self.reports.clear()  # nobody listens
        if self.ended and not self.ended_at:
            self.ended_at = self.backend.now
        if not self.all_busy_at and len(self.scheduler.nodes) == self._size and self._all_busy():
            self.all_busy_at = self.backend.now

    def _all_busy(self) -> bool:
        return all(self.scheduler.in_flight(name) for name in self.scheduler.nodes)

    def _beat(self) -> None:
        if not self.ended:
            self._hear(())
            self.backend.at(self.backend.now + BEAT_S, self._beat)

    def _seconds(self, attempt: Attempt) -> float:
        return self._mean_s * self._rng.uniform(1 - self._varied, 1 + self._varied)

    def _evaluate(self, attempt: Attempt) -> None:
        """The sum of what the attempt gives, from what it takes."""
        self.begun += 1
        function = self._program.functions[attempt.id.function].function
        assert function is not None
        if attempt.inputs:
            value = sum(self._values[source.key] for source in attempt.inputs)
        else:
            items = function.extra_args[0]
            value = sum(items) + len(items)
        self._values[attempt.id] = value


def _spread(name: str, seconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(1e3 * s for s in seconds)
    last = len(ordered) - 1
    return {f"{name}_{what}_ms": ordered[round(share * last)] for what, share in _SHARES.items()}


if __name__ == "__main__":
    kind, nodes, chunks, output = sys.argv[1:]
    measure = {"burst": burst, "losses": losses, "herd": herd, "memory": memory}[kind]
    Path(output).write_text(json.dumps(measure(int(nodes), int(chunks))), encoding="utf-8")
