"""Who gets in, over real sockets."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import zmq

from handoff_lab import BackendError
from handoff_lab.transport.keys import KeyPair
from handoff_lab.transport.sockets import CONTROL_THREAD, Heartbeat, Socket, Watch, cut, dial, serve
from handoff_lab.transport.zap import Admission, name_in

DOMAIN = "test"


class Server:
    """A ROUTER with an allow-list, and clients that knock."""

    def __init__(self, pump) -> None:
        self.pump = pump
        self.keys = KeyPair.generate()
        self.admission = Admission(pump.loop)
        self.socket, self.endpoint = serve(pump.loop, self.keys, DOMAIN, "127.0.0.1", Heartbeat(), CONTROL_THREAD)
        self.letters: list[tuple[str, bytes, int]] = []
        pump.loop.add_reader(self.socket, self._read)
        self._close = ExitStack()

    def _read(self) -> None:
        _, body = self.socket.recv_multipart(copy=False)
        self.letters.append((str(body.get("User-Id")), body.bytes, int(body.get(zmq.SRCFD))))

    def knock(self, keys: KeyPair, server_key: str | None = None) -> list[int]:
        """Events of a client that sends one message."""
        client = dial(self.pump.loop, keys, server_key or self.keys.public, self.endpoint, Heartbeat(), CONTROL_THREAD)
        return self.watched(client)

    def watched(self, client: Socket) -> list[int]:
        events: list[int] = []
        watch = Watch(self.pump.loop, client, zmq.EVENT_ALL, lambda event, value: events.append(event))
        self._close.callback(client.close)
        self._close.callback(watch.close)
        client.connect(self.endpoint)
        client.send(b"knock")
        return events

    def close(self) -> None:
        self._close.close()
        self.pump.loop.remove_reader(self.socket)
        self.socket.close()
        self.admission.close()


@pytest.fixture
def server(pump) -> Iterator[Server]:
    server = Server(pump)
    yield server
    server.close()


def test_an_admitted_key_gets_in_and_its_frames_bear_the_name(pump, server: Server) -> None:
    keys = KeyPair.generate()
    server.admission.admit(DOMAIN, keys.public, "älpha 1")
    server.knock(keys)
    pump.until(lambda: server.letters)
    user, body, _ = server.letters[0]
    assert (name_in(user), body) == ("älpha 1", b"knock")
    assert server.admission.counts(user)
    server.admission.admit(DOMAIN, keys.public, "älpha 1")  # as for a member that is made known again
    assert server.admission.counts(user)


def test_who_had_a_name_is_not_taken_for_the_next_who_has_it(pump, server: Server) -> None:
    keys, others = KeyPair.generate(), KeyPair.generate()
    server.admission.admit(DOMAIN, keys.public, "alpha")
    server.knock(keys)
    pump.until(lambda: server.letters)
    server.admission.revoke(DOMAIN, keys.public)
    server.admission.admit(DOMAIN, others.public, "alpha")
    server.knock(others)
    pump.until(lambda: len(server.letters) == 2)
    (old, *_), (new, *_) = server.letters
    assert (name_in(old), name_in(new)) == ("alpha", "alpha")
    assert (server.admission.counts(old), server.admission.counts(new)) == (False, True)


def test_knowing_the_servers_key_is_not_enough(pump, server: Server, caplog: pytest.LogCaptureFixture) -> None:
    keys = KeyPair.generate()
    events = server.knock(keys)
    pump.until(lambda: zmq.EVENT_HANDSHAKE_FAILED_AUTH in events)
    assert not server.letters
    assert "refused" in caplog.text
    assert keys.public not in caplog.text


def test_a_key_of_another_domain_is_refused(pump, server: Server) -> None:
    keys = KeyPair.generate()
    server.admission.admit("another", keys.public, "alpha")
    events = server.knock(keys)
    pump.until(lambda: zmq.EVENT_HANDSHAKE_FAILED_AUTH in events)
    assert not server.letters


def test_a_client_that_expects_another_server_does_not_connect(pump, server: Server) -> None:
    keys = KeyPair.generate()
    server.admission.admit(DOMAIN, keys.public, "alpha")
    events = server.knock(keys, server_key=KeyPair.generate().public)
    pump.until(lambda: zmq.EVENT_DISCONNECTED in events or zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL in events)
    assert not server.letters


def test_a_client_without_a_key_is_refused(pump, server: Server) -> None:
    client = pump.loop.context.socket(zmq.DEALER)
    client.linger = 0
    events = server.watched(client)
    pump.until(lambda: zmq.EVENT_DISCONNECTED in events or zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL in events)
    assert not server.letters


def test_a_revoked_key_is_refused(pump, server: Server) -> None:
    keys = KeyPair.generate()
    server.admission.admit(DOMAIN, keys.public, "alpha")
    server.admission.revoke(DOMAIN, keys.public)
    events = server.knock(keys)
    pump.until(lambda: zmq.EVENT_HANDSHAKE_FAILED_AUTH in events)


def test_a_connection_of_a_revoked_key_is_cut_and_does_not_come_back(pump, server: Server) -> None:
    keys = KeyPair.generate()
    server.admission.admit(DOMAIN, keys.public, "alpha")
    events = server.knock(keys)
    pump.until(lambda: server.letters)
    server.admission.revoke(DOMAIN, keys.public)
    cut(server.letters[0][2])
    pump.until(lambda: zmq.EVENT_HANDSHAKE_FAILED_AUTH in events)
    assert zmq.EVENT_DISCONNECTED in events


def test_what_is_no_connection_any_more_is_left_as_it_is() -> None:
    """Its number may be another file's by now."""
    with socket.socket() as listening:
        pidfd = os.pidfd_open(os.getpid())
        for descriptor in (listening.fileno(), pidfd):
            before = {*Path("/proc/self/fd").iterdir()}
            cut(descriptor)
            assert {*Path("/proc/self/fd").iterdir()} == before
        os.close(pidfd)
    cut(pidfd)


@pytest.mark.parametrize("host", ["*", "0.0.0.0", "::", ""])
def test_listening_everywhere_is_refused(pump, host: str) -> None:
    with pytest.raises(BackendError, match="other machines"):
        serve(pump.loop, KeyPair.generate(), DOMAIN, host, Heartbeat(), CONTROL_THREAD)


def test_an_address_of_another_machine_is_refused(pump) -> None:
    with pytest.raises(BackendError, match=r"cannot listen on 192\.0\.2\.1"):
        serve(pump.loop, KeyPair.generate(), DOMAIN, "192.0.2.1", Heartbeat(), CONTROL_THREAD)
