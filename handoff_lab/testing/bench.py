"""A backend on the bench: driven from the test's own thread, with everything that it tells kept."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import cloudpickle  # type: ignore[import-untyped]

from handoff_lab.backends.base import Backend
from handoff_lab.messages import (
    Attempt,
    AttemptId,
    BackendEvent,
    Cancelled,
    Failed,
    Failure,
    Finished,
    NodeJoined,
    NodeLost,
    Source,
    Started,
)
from handoff_lab.store.payload import Payload
from handoff_lab.transport.loop import Loop

E = TypeVar("E")
PATIENCE_S = 60.0


class CountedCode:
    """A piece of code that counts how often it was pickled."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.count = 0

    def pickled(self) -> bytes:
        """The code as bytes."""
        self.count += 1
        data: bytes = cloudpickle.dumps(self.value, protocol=5)
        return data


class Gate:
    """What a function waits at, in any process or thread of this machine, until it is opened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        os.mkfifo(path)
        self._held = os.open(path, os.O_RDWR | os.O_NONBLOCK)  # so that who opens it to read waits for bytes

    @property
    def function(self) -> Callable[..., str]:
        """Waits, then returns ``"through"``; inputs are ignored."""
        path = str(self._path)

        def wait(*_: object) -> str:
            with open(path, "rb", buffering=0) as gate:
                gate.read(1)
            return "through"

        return wait

    def open(self) -> None:
        """Let everyone through, those too who come later."""
        os.write(self._held, bytes(1000))

    def close(self) -> None:
        """Remove it."""
        os.close(self._held)
        self._path.unlink()


class Bench:
    """Opens a backend and drives it.

    Parameters
    ----------
    backend
        Not opened yet.
    nodes
        Two nodes that it starts with, of one slot each.
    step
        Lets a moment pass for a backend that lives outside time. Such a backend executes nothing: it tells by the
        label what an attempt does: ``"fails"``, ``"held"`` (takes long), anything else (takes a moment).
    """

    def __init__(self, backend: Backend, nodes: tuple[str, str], step: Callable[[], object] | None = None) -> None:
        self.backend = backend
        self.nodes = nodes
        self.executes = step is None
        self.events: list[BackendEvent] = []
        self.ends: dict[AttemptId, Finished | Failed | Cancelled] = {}
        self.verdict = "yes"  # of the test that runs
        self.seen: dict[tuple[str, str], str] = {}  # verdicts, by verb and rule: see ``conformance``
        self._errors: list[BaseException] = []
        self._loop = Loop(on_error=self._errors.append)
        self._step = step or self._loop.run_once
        self._ids = (AttemptId("bench", number, 1) for number in itertools.count())
        self._keys = (f"code-{number}" for number in itertools.count())
        self._tick()
        backend.open(self._loop, self._hear)
        self.until(lambda: backend.nodes().keys() == set(nodes))

    def close(self) -> None:
        """Close the backend; nothing may have gone wrong."""
        self.backend.close()
        self._loop.close()
        assert not self._errors, self._errors

    def _tick(self) -> None:
        self._loop.call_later(0.05, self._tick)  # so that `until` looks at the clock now and then

    def _hear(self, events: Sequence[BackendEvent]) -> None:
        for event in events:
            self.events.append(event)
            if isinstance(event, Finished | Failed | Cancelled):
                if event.id in self.ends:
                    self._errors.append(AssertionError(f"{self.ends[event.id]} was followed by {event}"))
                self.ends[event.id] = event

    def until(self, condition: Callable[[], object]) -> None:
        """Drive the backend until ``condition`` holds."""
        end = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end, f"it did not happen; the last events: {self.events[-5:]}"
            self._step()
            assert not self._errors, self._errors

    def load(self, code: Any) -> str:
        """Make code known; its key."""
        key = next(self._keys)
        self.backend.load({key: code if isinstance(code, CountedCode) else CountedCode(code)})
        return key

    def attempt(
        self, code: Any, node: str, inputs: Iterable[Source] = (), *, label: str = "f", **options: Any
    ) -> Attempt:
        """A new attempt, not submitted yet. ``code`` is a key or a function."""
        key = code if isinstance(code, str) else self.load(code)
        return Attempt(next(self._ids), node, label, (key,), tuple(inputs), **options)

    def submit(self, code: Any, node: str, inputs: Iterable[Source] = (), **options: Any) -> AttemptId:
        """Submit a new attempt."""
        attempt = self.attempt(code, node, inputs, **options)
        self.backend.submit([attempt])
        return attempt.id

    def hold(self, gate: Gate, node: str, **options: Any) -> AttemptId:
        """Submit an attempt that waits at ``gate``, and wait until it runs."""
        id = self.submit(gate.function, node, label="held", **options)
        self.until(lambda: self.starts(id))
        return id

    def key(self) -> AttemptId:
        """A key that nothing has."""
        return next(self._ids)

    def end(self, id: AttemptId) -> Finished | Failed | Cancelled:
        """How an attempt ends, waited for."""
        self.until(lambda: id in self.ends)
        return self.ends[id]

    def failure(self, id: AttemptId) -> Failure:
        """Why an attempt failed, waited for."""
        end = self.end(id)
        assert isinstance(end, Failed), end
        return end.failure

    def get(self, key: AttemptId, node: str) -> Payload | Failure:
        """A value from ``node``, waited for."""
        replies: list[Payload | Failure] = []
        self.backend.get(key, node, replies.append)
        self.until(lambda: replies)
        return replies[0]

    def value(self, id: AttemptId, node: str) -> Any:
        """What an attempt returned, waited for."""
        end = self.end(id)
        assert isinstance(end, Finished), end
        got = self.get(id, node)
        assert not isinstance(got, Failure), got
        return got.load()

    def run(self, code: Any, node: str, inputs: Iterable[Source] = (), **options: Any) -> Any:
        """Submit a new attempt, and wait for what it returns."""
        return self.value(self.submit(code, node, inputs, **options), node)

    def starts(self, id: AttemptId) -> list[Started]:
        """The times that an attempt was told to have started."""
        return [event for event in self.of(Started) if event.id == id]

    def of(self, kind: type[E]) -> list[E]:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def add_node(self, name: str, cpu: float) -> None:
        """Add a node and wait for it."""
        before = len(self.of(NodeJoined))
        self.backend.add_node(name, {"cpu": cpu}, {"made": "late"})
        self.until(lambda: name in [event.info.name for event in self.of(NodeJoined)[before:]])

    def remove_node(self, name: str) -> NodeLost:
        """Remove a node and wait until it is gone."""
        before = len(self.of(NodeLost))
        self.backend.remove_node(name)
        self.until(lambda: name in [event.name for event in self.of(NodeLost)[before:]])
        return self.of(NodeLost)[-1]
