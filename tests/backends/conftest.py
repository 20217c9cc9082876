"""A kernel backend driven from the test's own thread, and nodes that are not what they seem."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
import zmq

from handoff_lab.backends.kernels import KernelBackend
from handoff_lab.messages import (
    Attempt,
    AttemptId,
    BackendEvent,
    Cancelled,
    Failed,
    Failure,
    Finished,
    NodeInfo,
    NodeLost,
    Source,
)
from handoff_lab.node.lifeline import descendants
from handoff_lab.store import Payload
from handoff_lab.transport.hello import Hello, own_versions
from handoff_lab.transport.keys import JoinFile, KeyPair
from handoff_lab.transport.loop import Loop
from handoff_lab.transport.sockets import CONTROL_THREAD, Heartbeat, Socket, dial
from handoff_lab.transport.wire import TO_NODE, unpack


class PickledCode:
    def __init__(self, value: Any) -> None:
        self.value = value

    def pickled(self) -> bytes:
        return cloudpickle.dumps(self.value)


class Rig:
    """A backend with everything that it emitted."""

    def __init__(self, nodes: dict[str, dict[str, float] | None], **options: Any) -> None:
        self.errors: list[BaseException] = []
        self.loop = Loop(on_error=self.errors.append)
        self.events: list[BackendEvent] = []
        self.ends: dict[AttemptId, Finished | Failed | Cancelled] = {}
        self.lost: dict[str, NodeLost] = {}
        self.backend = KernelBackend(nodes, name="test", **options)
        self.backend.open(self.loop, self._emit)
        self._numbers = iter(range(10**6))
        self._tick()
        self.until(lambda: set(nodes) <= {*self.backend.nodes(), *self.lost})

    def _emit(self, events: Sequence[BackendEvent]) -> None:
        for event in events:
            self.events.append(event)
            if isinstance(event, Finished | Failed | Cancelled):
                assert event.id not in self.ends, "a second terminal event"
                self.ends[event.id] = event
            elif isinstance(event, NodeLost):
                self.lost[event.name] = event

    def _tick(self) -> None:
        self.loop.call_later(0.02, self._tick)

    def until(self, condition: Callable[[], object], seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            if self.errors:
                raise self.errors[0]
            assert time.monotonic() < end, f"it did not happen in time; the last events: {self.events[-5:]}"
            self.loop.run_once()

    def attempt(self, code: Any, node: str = "alpha", inputs: Sequence[Source] = (), **options: Any) -> Attempt:
        """An attempt, not submitted yet."""
        key = self.load(code)
        return Attempt(AttemptId("run", next(self._numbers), 1), node, "f", (key,), tuple(inputs), **options)

    def load(self, code: Any) -> str:
        wrapped = PickledCode(code)
        key = hashlib.sha256(wrapped.pickled()).hexdigest()[:16]
        self.backend.load({key: wrapped})
        return key

    def submit(self, code: Any, node: str = "alpha", inputs: Sequence[Source] = (), **options: Any) -> AttemptId:
        attempt = self.attempt(code, node, inputs, **options)
        self.backend.submit([attempt])
        return attempt.id

    def end(self, id: AttemptId) -> Finished | Failed | Cancelled:
        self.until(lambda: id in self.ends)
        return self.ends[id]

    def get(self, id: AttemptId, node: str) -> Payload | Failure:
        got: list[Payload | Failure] = []
        self.backend.get(id, node, got.append)
        self.until(lambda: got)
        return got[0]

    def value(self, id: AttemptId, node: str = "alpha") -> Any:
        """The result of an attempt, waited for and fetched."""
        end = self.end(id)
        assert isinstance(end, Finished), end
        return self.get(id, node).load()

    def run(self, code: Any, node: str = "alpha", inputs: Sequence[Source] = (), **options: Any) -> Any:
        return self.value(self.submit(code, node, inputs, **options), node)

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def processes(self) -> set[int]:
        """Every process of every node on this machine."""
        agents = [info.pid for info in self.backend.nodes().values()]
        return {pid for agent in agents for pid in (agent, *descendants(agent))}

    def close(self) -> None:
        self.backend.close()
        self.loop.close()
        assert not self.errors


class FakeNode:
    """A node's voice without a node, in the backend's own loop."""

    def __init__(self, rig: Rig, name: str = "fake") -> None:
        self.rig = rig
        self.file = JoinFile.read(rig.backend.join_file)
        self.keys = KeyPair.generate()
        info = NodeInfo(name, {"cpu": 1.0}, 1, "elsewhere", 1, own_versions())
        self.hello = Hello(info, self.keys.public, "tcp://127.0.0.1:1")
        self.sockets: list[Socket] = []

    def knock(self, hello: bytes | None = None) -> tuple[str, list[Any]]:
        """Say hello with the join file's key; the answer."""
        return self.ask(self.file.keys, self.hello.pack() if hello is None else hello)

    def ask(self, keys: KeyPair, message: bytes) -> tuple[str, list[Any]]:
        socket = dial(self.rig.loop, keys, self.file.server_key, self.file.endpoint, Heartbeat(), CONTROL_THREAD)
        socket.connect(self.file.endpoint)
        self.sockets.append(socket)
        socket.send(message)
        self.rig.until(lambda: socket.poll(0))
        return unpack(socket.recv(), TO_NODE)

    def called(self, name: str) -> FakeNode:
        """The same with another name."""
        self.hello = replace(self.hello, info=replace(self.hello.info, name=name))
        return self

    def close(self) -> None:
        for socket in self.sockets:
            with suppress(zmq.ZMQError):
                socket.close()


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where run directories are made: a short path, because of the sockets in it."""
    with tempfile.TemporaryDirectory(prefix="hl-") as path:
        monkeypatch.setenv("XDG_RUNTIME_DIR", path)
        yield Path(path)


@pytest.fixture(scope="module")
def two() -> Iterator[Rig]:
    """Two nodes that no test ends."""
    rig = Rig({"alpha": {"cpu": 1}, "beta": {"cpu": 1}})
    yield rig
    rig.close()


@pytest.fixture
def make_rig() -> Iterator[Callable[..., Rig]]:
    """Backends of the test's own."""
    rigs: list[Rig] = []

    def make(**nodes: dict[str, float] | None) -> Rig:
        rigs.append(Rig(nodes))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.close()
