"""Slots to run attempts in: a zygote, a loop and a pool, with everything that was told."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from handoff_lab.messages import (
    Attempt,
    AttemptId,
    Cancelled,
    Failed,
    Finished,
    FinishedMany,
    Source,
    Started,
    Wrote,
)
from handoff_lab.node.pool import SlotPool
from handoff_lab.node.zygote import Zygote
from handoff_lab.store.payload import Frames
from handoff_lab.transport.loop import Loop

DEADLINE_S = 60.0


@dataclass
class Told:
    """A listener that remembers."""

    starts: dict[AttemptId, Started] = field(default_factory=dict)
    ends: dict[AttemptId, Finished | Failed | Cancelled] = field(default_factory=dict)
    values: dict[AttemptId, Frames] = field(default_factory=dict)
    texts: dict[AttemptId, str] = field(default_factory=dict)
    order: list[AttemptId] = field(default_factory=list)

    def started(self, event: Started) -> None:
        assert event.id not in self.starts
        assert event.id not in self.ends
        self.starts[event.id] = event
        self.order.append(event.id)

    def finished(self, event: Finished, value: Frames) -> None:
        self.values[event.id] = value
        self._end(event)

    def finished_many(self, event: FinishedMany, ids: Sequence[AttemptId], values: Sequence[Frames]) -> None:
        assert [one.id for one in event.each()] == list(ids)
        for one, value in zip(event.each(), values, strict=True):
            if one.id not in self.starts:
                self.started(Started(one.id, one.started, one.slot))
            self.finished(one, value)

    def failed(self, event: Failed) -> None:
        self._end(event)

    def cancelled(self, event: Cancelled) -> None:
        self._end(event)

    def wrote(self, event: Wrote) -> None:
        assert event.id not in self.ends
        self.texts[event.id] = self.texts.get(event.id, "") + event.text

    def _end(self, event: Finished | Failed | Cancelled) -> None:
        assert event.id not in self.ends, "a second terminal event"
        assert event.id in self.starts or not isinstance(event, Finished)
        self.ends[event.id] = event


class Bench:
    """A pool under test, driven from the test's own thread."""

    def __init__(self, loop: Loop, runner: Any, told: Told) -> None:
        self.loop = loop
        self.runner = runner
        self.told = told
        self._ids = (AttemptId("run", number, 1) for number in itertools.count())
        self._keys: dict[int, str] = {}
        self._kept: list[Any] = []

    def key(self, code: Any) -> str:
        """The key of code, loaded when it is new."""
        if id(code) not in self._keys:
            self._kept.append(code)
            self._keys[id(code)] = key = f"code{len(self._kept)}"
            self.runner.load({key: code if isinstance(code, bytes) else cloudpickle.dumps(code, protocol=5)})
        return self._keys[id(code)]

    def submit(self, *codes: Any, inputs: Sequence[Any] = (), label: str = "f", **options: Any) -> AttemptId:
        """Run code over inputs."""
        id = next(self._ids)
        sources = tuple(Source(AttemptId("given", number, 0), "alpha") for number in range(len(inputs)))
        keys = tuple(self.key(code) for code in codes)
        for name in ("retry_on",):
            if name in options:
                options[name] = self.key(options[name])
        if "setup" in options:
            options["setup"] = tuple(self.key(source) for source in options["setup"])
        attempt = Attempt(id, "beta", label, keys, sources, **options)
        self.runner.run(attempt, [Frames.dump(value) for value in inputs])
        return id

    def wait_for(self, condition: Callable[[], Any], seconds: float = DEADLINE_S) -> None:
        """Let the loop run until the condition holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            timer = self.loop.call_later(0.02, lambda: None)  # so that conditions outside the loop are seen too
            self.loop.run_once()
            timer.cancel()
            assert time.monotonic() < deadline, "it did not happen in time"

    def end(self, id: AttemptId) -> Finished | Failed | Cancelled:
        """The terminal event of an attempt, waited for."""
        self.wait_for(lambda: id in self.told.ends)
        return self.told.ends[id]

    def value(self, id: AttemptId) -> Any:
        """The result of an attempt, waited for."""
        end = self.end(id)
        assert isinstance(end, Finished), end
        return self.told.values[id].load()

    def failure(self, id: AttemptId) -> Failed:
        """The failure of an attempt, waited for."""
        end = self.end(id)
        assert isinstance(end, Failed), end
        return end


@pytest.fixture
def told() -> Told:
    """A listener that remembers."""
    return Told()


@pytest.fixture(scope="session")
def bench_class() -> type[Bench]:
    """For benches over something else than a pool."""
    return Bench


@pytest.fixture
def bench() -> Iterator[Bench]:
    """One slot."""
    yield from _bench(1)


@pytest.fixture
def bench_of_two() -> Iterator[Bench]:
    """Two slots."""
    yield from _bench(2)


def _bench(slots: int) -> Iterator[Bench]:
    zygote = Zygote.fork()
    loop = Loop()
    told = Told()
    lost: list[str] = []
    pool = SlotPool(loop, zygote, told, slots, lost.append)
    yield Bench(loop, pool, told)
    pool.close()
    zygote.close()
    loop.close()
    assert lost == []


@pytest.fixture(scope="session")
def alive() -> Callable[[int], bool]:
    """Whether there is such a process, one that has not ended at least."""

    def check(pid: int) -> bool:
        try:
            state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return False
        return state != b"Z"

    return check


@pytest.fixture(scope="session")
def eventually() -> Callable[[Callable[[], Any]], None]:
    """Wait for what happens in processes that are not ours."""

    def wait(condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.005)  # nothing tells when another's process ends

    return wait
