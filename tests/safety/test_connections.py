"""Those who come to a cluster's sockets without being let in, or with what is not theirs: nothing comes of it."""

from __future__ import annotations

import os
import socket
import stat
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace

import psutil
import pytest
import zmq

import handoff_lab as hl
from handoff_lab.messages import AttemptId, Failed, FailureKind, Finished
from handoff_lab.node.lifeline import descendants
from handoff_lab.transport import desk
from handoff_lab.transport.keys import JoinFile, KeyPair
from handoff_lab.transport.questions import Request
from handoff_lab.transport.rows import event_row
from handoff_lab.transport.sockets import CONTROL_THREAD, Heartbeat, Watch, dial
from handoff_lab.transport.wire import pack
from tests.backends.conftest import FakeNode, Rig

pytestmark = pytest.mark.real

CURVE_GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01CURVE" + bytes(15) + b"\0" + bytes(31)
NULL_GREETING = CURVE_GREETING.replace(b"CURVE", b"NULL\0")
HUGE_COMMAND = b"\x06" + struct.pack(">Q", 2**40)  # a command frame of a terabyte is announced
PATIENCE_S = 60.0


@pytest.fixture
def rig(make_rig: Callable[..., Rig]) -> Rig:
    """A backend with one real node."""
    return make_rig(alpha={"cpu": 1})


@pytest.fixture
def fake(rig: Rig) -> Iterator[FakeNode]:
    """A node's voice that has joined beside it."""
    fake = FakeNode(rig)
    fake.knock()
    fake.ask(fake.keys, pack("ready"))
    yield fake
    fake.close()


def address(endpoint: str) -> tuple[str, int]:
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    return host, int(port)


def listening(pids: set[int]) -> list[tuple[str, int]]:
    """Every TCP port on which one of these processes listens."""
    found = [c for c in psutil.net_connections("tcp") if c.pid in pids and c.status == psutil.CONN_LISTEN]
    return [(connection.laddr.ip, connection.laddr.port) for connection in found]


def is_hung_up_on(port: tuple[str, int], sent: bytes) -> bool:
    """Whether whoever sends this is hung up on, without a word beyond the greeting and the handshake's."""
    with socket.create_connection(port, PATIENCE_S) as raw:
        raw.settimeout(PATIENCE_S)
        with suppress(ConnectionError):
            raw.sendall(sent)
            answer = b""
            while part := raw.recv(4096):
                answer += part
            return len(answer) <= 1024
        return True


# -- no keys, or unknown ones -------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [
        NULL_GREETING + b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x06DEALER",
        CURVE_GREETING + HUGE_COMMAND,
        CURVE_GREETING + b"\x04\x06\x05HELLO",
        CURVE_GREETING + b"\x00\x05hello",
        b"\xff" + bytes(8) + b"\x7f" + bytes(1000),
    ],
    ids=["no CURVE", "a huge frame", "a short hello", "a message before the handshake", "no mechanism"],
)
def test_who_has_no_key_is_hung_up_on_at_every_port(rig: Rig, sent: bytes) -> None:
    rig.backend._peers._chunk_endpoint()  # as if another host had asked for a large value
    ports = listening({os.getpid(), *rig.processes()})
    assert address(JoinFile.read(rig.backend.join_file).endpoint) in ports
    assert len(ports) >= 4  # control, values here, large values here, values of the node
    for port in ports:
        assert is_hung_up_on(port, sent)
    assert rig.run(lambda: "still") == "still"


def test_a_browser_that_is_lured_to_a_port_gets_nothing(rig: Rig) -> None:
    request = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9999\r\n\r\n" + b"x" * 9999
    for port in listening({os.getpid(), *rig.processes()}):
        assert is_hung_up_on(port, request)
    assert rig.run(lambda: "still") == "still"


def test_who_has_a_key_of_his_own_and_the_servers_is_refused_at_every_port(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    file = JoinFile.read(rig.backend.join_file)
    fake = FakeNode(rig)
    fake.knock()
    fake.ask(fake.keys, pack("ready"))
    members: list[list[str]] = []
    rig.until(lambda: fake.sockets[-1].poll(0))
    members += zmq_fields(fake.sockets[-1].recv())[0]
    doors = [(file.server_key, file.endpoint), *((key, endpoint) for _, key, endpoint in members)]
    assert len(doors) == 3  # control, values here, values of alpha
    for server_key, endpoint in doors:
        stranger = KeyPair.generate()
        happened: set[int] = set()
        knocking = dial(rig.loop, stranger, server_key, endpoint, Heartbeat(), CONTROL_THREAD)
        watch = Watch(rig.loop, knocking, zmq.EVENT_ALL, lambda event, value, seen=happened: seen.add(event))
        knocking.connect(endpoint)
        knocking.send(fake.hello.pack())
        rig.until(lambda seen=happened: zmq.EVENT_HANDSHAKE_FAILED_AUTH in seen)
        watch.close()
        knocking.close()
    assert "was refused: its key is not known" in caplog.text
    assert set(rig.backend.nodes()) == {"alpha", "fake"}
    fake.close()


def zmq_fields(message: bytes) -> list:
    from handoff_lab.transport.wire import TO_NODE, unpack

    return unpack(message, TO_NODE)[1]


# -- frames of others ------------------------------------------------------------------


class Tap:
    """A wire to a coordinator that somebody listens in on: he has every byte, and can send it again."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = [self._listener]
        self.recorded: list[bytearray] = []  # what each client sent
        self.endpoint = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                self.server = server = socket.create_connection(self._target)
                self._sockets += [client, server]
                self.recorded.append(bytearray())
                threading.Thread(target=self._pass, args=(client, server, self.recorded[-1]), daemon=True).start()
                threading.Thread(target=self._pass, args=(server, client, bytearray()), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, recorded: bytearray) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                recorded += data
                target.sendall(data)

    def close(self) -> None:
        for sock in self._sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


@pytest.fixture
def tapped(make_rig: Callable[..., Rig]) -> Iterator[tuple[Rig, FakeNode, Tap]]:
    """A node that joined over a wire on which somebody listens in."""
    rig = make_rig()
    with ExitStack() as stack:
        fake = FakeNode(rig)
        tap = Tap(address(fake.file.endpoint))
        stack.callback(tap.close)
        stack.callback(fake.close)
        fake.file = replace(fake.file, endpoint=tap.endpoint)
        fake.knock()
        fake.ask(fake.keys, pack("ready"))
        yield rig, fake, tap


def test_a_recorded_session_cannot_be_played_again(tapped: tuple[Rig, FakeNode, Tap]) -> None:
    rig, fake, tap = tapped
    attempts = [rig.attempt(lambda: 1, "fake") for _ in range(2)]
    rig.backend.submit(attempts)
    fake.sockets[-1].send(pack("events", [event_row(Finished(attempts[0].id, 0.0, 1.0))]))
    rig.until(lambda: rig.ends)
    port = address(JoinFile.read(rig.backend.join_file).endpoint)
    for session in list(tap.recorded):
        assert len(session) > 500  # greeting, handshake, a message
        assert is_hung_up_on(port, bytes(session))
    assert set(rig.ends) == {attempts[0].id}
    assert set(rig.backend.nodes()) == {"fake"}


def test_a_frame_that_comes_twice_ends_its_connection(tapped: tuple[Rig, FakeNode, Tap]) -> None:
    rig, fake, tap = tapped
    attempt = rig.attempt(lambda: 1, "fake")
    rig.backend.submit([attempt])
    before = len(tap.recorded[-1])
    fake.sockets[-1].send(pack("events", [event_row(Finished(attempt.id, 0.0, 1.0))]))
    rig.until(lambda: rig.ends)
    assert not rig.lost
    tap.server.sendall(tap.recorded[-1][before:])
    rig.until(lambda: rig.lost)
    assert rig.lost["fake"].reason == "its connection ended"
    assert set(rig.ends) == {attempt.id}  # once: the rig would have complained


# -- nodes that do what is not theirs ---------------------------------------------------------


def test_a_node_that_submits_is_dropped_and_runs_nothing(
    rig: Rig, fake: FakeNode, caplog: pytest.LogCaptureFixture
) -> None:
    attempt = rig.attempt(lambda: os.getpid(), "alpha")
    row = [list(attempt.id), "f", [], None, 0.0, b"\x97\x90\x80\xa7process\xc0\xc0\x90\xc2"]
    fake.sockets[-1].send(pack("submit", [row]))
    rig.until(lambda: rig.lost)
    assert "it sent what is no message: unknown message 'submit'" in rig.lost["fake"].reason
    assert "unknown message 'submit'" in caplog.text
    assert rig.run(lambda: "still") == "still"
    assert attempt.id not in rig.ends


def test_answers_to_what_a_node_was_not_given_are_left_out_and_logged(
    rig: Rig, fake: FakeNode, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = rig.attempt(lambda: __import__("time").sleep(60), "alpha")
    rig.backend.submit([theirs])
    rows = [Finished(theirs.id, 0.0, 1.0, 0, (b"forged",)), Finished(AttemptId("run", 99, 1), 0.0, 1.0)]
    mine = rig.attempt(lambda: 1, "fake")
    rig.backend.submit([mine])
    fake.sockets[-1].send(pack("events", [event_row(event) for event in [*rows, Finished(mine.id, 0.0, 1.0)]]))
    rig.until(lambda: mine.id in rig.ends)
    assert set(rig.ends) == {mine.id}
    assert caplog.text.count("node 'fake' answered attempts that it was not given") == 2
    rig.backend.cancel(theirs.id, "interrupt")
    rig.end(theirs.id)


def test_a_message_of_two_frames_is_none(rig: Rig, fake: FakeNode) -> None:
    fake.sockets[-1].send_multipart([pack("events", []), b"more"])
    rig.until(lambda: rig.lost)
    assert "it sent what is no message" in rig.lost["fake"].reason
    assert rig.run(lambda: "still") == "still"


def test_a_newcomer_that_sends_nonsense_is_hung_up_on(rig: Rig) -> None:
    fake = FakeNode(rig)
    happened: set[int] = set()
    caller = dial(rig.loop, fake.file.keys, fake.file.server_key, fake.file.endpoint, Heartbeat(), CONTROL_THREAD)
    watch = Watch(rig.loop, caller, zmq.EVENT_DISCONNECTED, lambda event, value: happened.add(event))
    caller.connect(fake.file.endpoint)
    caller.send(b"\xc1")
    rig.until(lambda: happened)
    watch.close()
    caller.close()
    assert rig.run(lambda: "still") == "still"


def test_a_request_for_values_beyond_measure_ends_its_connection(
    make_rig: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "REQUEST_LIMIT", 10_000)
    rig = make_rig()
    fake = FakeNode(rig)
    fake.knock()
    fake.ask(fake.keys, pack("ready"))
    rig.until(lambda: fake.sockets[-1].poll(0))
    ((_, key, endpoint),) = zmq_fields(fake.sockets[-1].recv())[0]
    happened: set[int] = set()
    reader = dial(rig.loop, fake.keys, key, endpoint, Heartbeat(), CONTROL_THREAD)
    watch = Watch(rig.loop, reader, zmq.EVENT_DISCONNECTED, lambda event, value: happened.add(event))
    reader.connect(endpoint)
    reader.send(Request(1, [], [AttemptId("run", 1, 1)]).pack())
    rig.backend.free([AttemptId("run", 1, 1)])
    rig.until(lambda: reader.poll(0))
    assert not happened
    reader.send(bytes(20_000))
    rig.until(lambda: happened)
    watch.close()
    reader.close()
    fake.close()
    assert set(rig.backend.nodes()) == {"fake"}


def vandal() -> None:
    """Writes into every socket of the process in which it runs."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        with suppress(OSError):
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                os.write(int(name), b"\x01\x00\x00\x00" * 9)


def test_a_function_that_writes_into_its_slots_socket_ends_its_slot_alone(rig: Rig) -> None:
    end = rig.end(rig.submit(vandal))
    assert isinstance(end, Failed)
    assert end.failure.kind is FailureKind.DIED
    assert rig.run(lambda: "still") == "still"
    assert not rig.lost


# -- what is listened on ----------------------------------------------------------------------


def test_a_cluster_listens_on_its_own_address_alone() -> None:
    before = set(listening({os.getpid(), *descendants(os.getpid())}))
    with hl.Cluster({"alpha": {"cpu": 1}}, host="127.0.0.3") as cluster:
        processes = {os.getpid(), *descendants(os.getpid())}
        assert {ip for ip, _ in set(listening(processes)) - before} == {"127.0.0.3"}
        assert cluster.nodes["alpha"].pid in processes


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "*", ""])
def test_a_cluster_that_would_listen_everywhere_is_refused(host: str) -> None:
    with pytest.raises(hl.BackendError, match="names no one address"):
        hl.Cluster({"alpha": {"cpu": 1}}, host=host)
