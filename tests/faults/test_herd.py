"""Two hundred nodes that join at once, over real sockets with real keys: all get in, none twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import zmq

from handoff_lab.backends.kernels import hub
from handoff_lab.messages import HERE, NodeInfo, NodeJoined
from handoff_lab.transport.hello import Hello, own_versions
from handoff_lab.transport.keys import JoinFile, KeyPair
from handoff_lab.transport.sockets import CONTROL_THREAD, Heartbeat, Socket, dial
from handoff_lab.transport.stream import Stream, is_numbered
from handoff_lab.transport.wire import TO_NODE, pack, unpack
from tests.backends.conftest import Rig

pytestmark = pytest.mark.real

COUNT = 200
RIVALS = 20  # who come under names of others
HEARTBEAT = Heartbeat(every_s=1.0, timeout_s=60.0)
PATIENCE_S = 180.0  # some 2 where nothing else runs


class Newcomer:
    """An agent that does nothing but join, and keep count of what it is told."""

    def __init__(self, rig: Rig, file: JoinFile, name: str) -> None:
        self.name = name
        self.told: Counter[str] = Counter()
        self.members: Counter[str] = Counter()
        self._loop, self._file = rig.loop, file
        self._keys = KeyPair.generate()
        info = NodeInfo(name, {"cpu": 1.0}, 1, "elsewhere", 1, own_versions())
        hello = Hello(info, self._keys.public, "tcp://127.0.0.1:1")
        self._socket = self._dial(file.keys)
        self._socket.send(hello.pack())

    @property
    def is_in(self) -> bool:
        return self.told["welcome"] == 2

    @property
    def is_done(self) -> bool:
        return self.is_in or self.told["refused"] > 0

    def close(self) -> None:
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _dial(self, keys: KeyPair) -> Socket:
        socket = dial(self._loop, keys, self._file.server_key, self._file.endpoint, HEARTBEAT, CONTROL_THREAD)
        socket.connect(self._file.endpoint)
        self._loop.add_reader(socket, self._take)
        self._stream = Stream(self._loop, socket.send_multipart)
        return socket

    def _take(self) -> None:
        try:
            data = self._socket.recv(zmq.NOBLOCK)
        except zmq.Again:
            return
        if is_numbered(data):
            for message, *_ in self._stream.take([data]):
                self._hear(message)
        else:
            self._hear(memoryview(data))

    def _hear(self, message: memoryview) -> None:
        kind, fields = unpack(message, TO_NODE)
        self.told[kind] += 1
        if kind == "peers":
            self.members.update(name for name, _, _ in fields[0])
        elif kind == "welcome" and self.told["welcome"] == 1:
            self.close()
            self._socket = self._dial(self._keys)
            self._socket.send(pack("numbered"))


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    # Both sides live in this one process: on a busy machine neither is to give the other up.
    monkeypatch.setattr(hub, "Heartbeat", lambda: HEARTBEAT)
    monkeypatch.setattr(hub, "READY_S", PATIENCE_S)
    rig = Rig({})
    yield rig
    rig.close()


@pytest.fixture
def herd(rig: Rig) -> Iterator[list[Newcomer]]:
    file = JoinFile.read(rig.backend.join_file)
    names = [f"node-{number}" for number in range(COUNT)]
    with ExitStack() as stack:
        herd = [Newcomer(rig, file, name) for name in (*names, *names[:RIVALS])]
        for newcomer in herd:
            stack.callback(newcomer.close)
        yield herd


def test_all_get_in_and_none_twice(rig: Rig, herd: list[Newcomer]) -> None:
    rig.until(lambda: all(newcomer.is_done for newcomer in herd), PATIENCE_S)
    inside = [newcomer for newcomer in herd if newcomer.is_in]
    names = {newcomer.name for newcomer in herd}
    assert Counter(newcomer.name for newcomer in inside) == Counter(names)
    assert Counter(event.info.name for event in rig.of(NodeJoined)) == Counter(names)
    assert set(rig.backend.nodes()) == names
    assert not rig.lost
    rig.until(lambda: all(len(newcomer.members) == COUNT for newcomer in inside), PATIENCE_S)
    for newcomer in inside:  # each hears of each other once
        assert newcomer.members == Counter({HERE, *names} - {newcomer.name})
    assert not rig.lost
