"""Invitations that are good once and for a while, and nodes whose keys are revoked."""

from __future__ import annotations

import base64
import queue
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
import zmq

import handoff_lab as hl
from handoff_lab import AuthenticationError, BackendError
from handoff_lab.messages import NodeJoined, NodeLost
from handoff_lab.node.options import NodeOptions, parse_options
from handoff_lab.transport.invitation import read_invitation, write_invitation
from handoff_lab.transport.keys import JoinFile, KeyPair
from handoff_lab.transport.sockets import CONTROL_THREAD, Heartbeat, Socket, Watch, dial
from handoff_lab.transport.wire import TO_NODE, pack, unpack
from tests.backends.conftest import FakeNode, Rig

JOIN = JoinFile("tcp://[::1]:1234", KeyPair.generate().public, KeyPair.generate(), once=True)


class Gate:
    """A backend without nodes, and all who come to it."""

    def __init__(self, rig: Rig, stack: ExitStack) -> None:
        self.rig = rig
        self._stack = stack

    def guest(self, name: str, invitation: str | None = None) -> FakeNode:
        """A node's voice, that came with an invitation."""
        node = self.node(name)
        node.file = read_invitation(self.rig.backend.invite(600.0) if invitation is None else invitation)
        return node

    def node(self, name: str) -> FakeNode:
        """One that came with the join file."""
        node = FakeNode(self.rig, name)
        self._stack.callback(node.close)
        return node

    def watch(self, socket: Socket) -> set[int]:
        """What happens to a connection."""
        happened: set[int] = set()
        watch = Watch(self.rig.loop, socket, zmq.EVENT_ALL, lambda event, value: happened.add(event))
        self._stack.callback(watch.close)
        return happened

    def connect(self, file: JoinFile, keys: KeyPair | None = None) -> tuple[Socket, bool]:
        """A connection with these keys, or with those of the file, and whether it was admitted."""
        socket = dial(self.rig.loop, keys or file.keys, file.server_key, file.endpoint, Heartbeat(), CONTROL_THREAD)
        self._stack.callback(socket.close)
        happened = self.watch(socket)
        socket.connect(file.endpoint)
        self.rig.until(lambda: happened & {zmq.EVENT_HANDSHAKE_SUCCEEDED, zmq.EVENT_HANDSHAKE_FAILED_AUTH})
        return socket, zmq.EVENT_HANDSHAKE_SUCCEEDED in happened

    def admits(self, file: JoinFile, keys: KeyPair | None = None) -> bool:
        return self.connect(file, keys)[1]

    def ask(self, socket: Socket, message: bytes) -> tuple[str, list[Any]]:
        socket.send(message)
        self.rig.until(lambda: socket.poll(0))
        return unpack(socket.recv(), TO_NODE)


def join(node: FakeNode) -> Socket:
    """The connection of a node that has joined."""
    assert node.knock() == ("welcome", [])
    assert node.ask(node.keys, pack("ready")) == ("welcome", [])
    return node.sockets[-1]


@pytest.fixture
def gate(make_rig: Callable[..., Rig]) -> Iterator[Gate]:
    with ExitStack() as stack:
        yield Gate(make_rig(), stack)


# -- the text ------------------------------------------------------------------------


def test_an_invitation_is_one_word_that_says_all() -> None:
    text = write_invitation(JOIN)
    assert read_invitation(f"  {text}\n") == JOIN
    assert text.isascii()
    assert text.replace("-", "").replace("_", "").isalnum()


def test_an_invitation_shows_its_secret_only_as_a_whole() -> None:
    assert JOIN.keys.secret not in repr(read_invitation(write_invitation(JOIN)))


@pytest.mark.parametrize(
    "damaged",
    [
        "",
        "-",
        "handoff1-",
        "handoff1-AAAA",
        "handoff1-ä",
        write_invitation(JOIN)[:-1],
        write_invitation(JOIN)[1:],
        write_invitation(JOIN).swapcase(),
        write_invitation(replace(JOIN, endpoint="ipc:///tmp/x")),
        "handoff1-" + base64.b64encode(bytes(200)).decode(),
    ],
)
def test_what_is_no_invitation_is_refused_and_not_repeated(damaged: str) -> None:
    with pytest.raises(AuthenticationError, match="no invitation, or not the whole") as caught:
        read_invitation(damaged)
    assert len(damaged) < 9 or damaged not in str(caught.value)


def test_an_invitation_stands_on_a_command_line_instead_of_a_file() -> None:
    text = write_invitation(JOIN)
    options = parse_options(["--invite", text, "--name", "n"])
    assert parse_options(options.command_line()) == options
    assert text not in repr(options)
    with pytest.raises(SystemExit):
        parse_options(["--invite", text, "--join", "f"])
    assert NodeOptions(None, "n", invite="-").command_line() == ["--invite", "-", "--name", "n"]


# -- who gets in ------------------------------------------------------------------------


@pytest.mark.real
def test_an_invitation_lets_one_node_in_and_no_other(gate: Gate) -> None:
    guest = gate.guest("guest")
    early, admitted = gate.connect(guest.file)
    assert admitted  # but says hello only when the invitation was used
    join(guest)
    kind, (reason, *_) = gate.ask(early, gate.node("second").hello.pack())
    assert kind == "refused"
    assert "used already" in reason
    assert not gate.admits(guest.file)
    assert set(gate.rig.backend.nodes()) == {"guest"}


@pytest.mark.real
def test_an_invitation_that_is_past_its_time_is_refused(gate: Gate) -> None:
    file = read_invitation(gate.rig.backend.invite(0.05))
    gate.rig.until(lambda: not gate.admits(file))


@pytest.mark.real
def test_a_refused_hello_does_not_use_an_invitation_up(gate: Gate) -> None:
    join(gate.guest("guest"))
    again = gate.guest("guest")
    kind, (reason, *_) = again.knock()
    assert kind == "refused"
    assert "of this name" in reason
    join(again.called("another"))
    assert set(gate.rig.backend.nodes()) == {"guest", "another"}


@pytest.mark.real
def test_an_invitations_key_is_no_nodes_key(gate: Gate) -> None:
    guest = gate.guest("guest")
    guest.hello = replace(guest.hello, public_key=guest.file.keys.public)
    assert guest.knock() == ("refused", ["its key is another's", "", "", ""])


# -- who is shut out -----------------------------------------------------------------------


@pytest.mark.real
def test_a_node_whose_key_is_revoked_is_cut_off_at_once_and_stays_out(gate: Gate) -> None:
    rig, guest = gate.rig, gate.guest("guest")
    bystander = join(gate.guest("other"))
    happened = gate.watch(join(guest))
    rig.backend.revoke("guest")
    assert (rig.lost["guest"].reason, rig.lost["guest"].expected) == ("its key was revoked", True)
    rig.until(lambda: happened >= {zmq.EVENT_DISCONNECTED, zmq.EVENT_HANDSHAKE_FAILED_AUTH})  # it tried again
    assert not gate.admits(guest.file, guest.keys)
    assert not gate.admits(guest.file)
    messages: list[tuple[str, list[Any]]] = []
    while not messages or messages[-1] != ("gone", ["guest"]):
        rig.until(lambda: bystander.poll(0))
        messages.append(unpack(bystander.recv(), TO_NODE))
    assert set(rig.backend.nodes()) == {"other"}


@pytest.mark.real
def test_the_join_file_of_a_revoked_node_is_worthless_and_a_new_one_is_there(gate: Gate) -> None:
    guest = gate.node("guest")
    join(guest)
    early, admitted = gate.connect(guest.file)
    assert admitted
    gate.rig.backend.revoke("guest")
    assert gate.ask(early, gate.node("early").hello.pack())[0] == "refused"
    assert not gate.admits(guest.file)
    assert gate.rig.backend.join_file.stat().st_mode & 0o777 == 0o600
    again = gate.node("guest")
    assert again.file.keys != guest.file.keys
    join(again)


@pytest.mark.real
def test_a_connection_kept_back_by_a_revoked_node_is_not_the_next_of_its_name(gate: Gate) -> None:
    rig, guest = gate.rig, gate.guest("guest")
    join(guest)
    spares = [gate.connect(guest.file, guest.keys)[0] for _ in range(2)]
    rig.backend.revoke("guest")
    heir = gate.guest("guest")
    assert heir.knock() == ("welcome", [])
    assert gate.ask(spares[0], pack("ready"))[0] == "refused"
    assert heir.ask(heir.keys, pack("ready")) == ("welcome", [])
    happened = gate.watch(spares[1])
    spares[1].send(b"no message")
    rig.until(lambda: zmq.EVENT_DISCONNECTED in happened)
    assert set(rig.backend.nodes()) == {"guest"}
    assert [event.reason for event in rig.of(NodeLost)] == ["its key was revoked"]


@pytest.mark.real
@pytest.mark.parametrize("invited", [True, False])
def test_a_node_that_is_away_can_be_revoked(gate: Gate, invited: bool) -> None:
    rig = gate.rig
    guest = gate.guest("guest") if invited else gate.node("guest")
    join(guest)
    guest.close()
    rig.until(lambda: rig.lost)
    assert gate.admits(guest.file, guest.keys if invited else None)
    rig.backend.revoke("guest")
    assert not gate.admits(guest.file, guest.keys)
    assert not gate.admits(guest.file)
    with pytest.raises(BackendError, match="no node 'guest'"):
        rig.backend.revoke("guest")
    join(gate.node("guest"))
    gate.rig.backend.remove_node("guest")
    assert rig.lost["guest"].reason != "its key was revoked"


@pytest.mark.real
def test_a_revoked_node_of_this_machine_is_ended(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(alpha={"cpu": 1}, beta={"cpu": 1})
    rig.backend.revoke("alpha")
    rig.until(lambda: rig.lost)
    assert (rig.lost["alpha"].reason, rig.lost["alpha"].expected) == ("its key was revoked", True)
    assert rig.run(lambda: "still", "beta") == "still"


# -- the whole of it -------------------------------------------------------------------------


def agent(invitation: str, name: str) -> subprocess.Popen[str]:
    """An agent that reads its invitation from standard input, so that it stands on no command line."""
    words = ["-m", "handoff_lab.node", "--invite", "-", "--name", name, "--cpu", "1"]
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, *words], stdin=pipe, stderr=pipe, text=True)
    assert process.stdin is not None
    process.stdin.write(f"{invitation}\n")
    process.stdin.flush()
    return process


@pytest.mark.real
def test_a_real_agent_joins_by_invitation_and_is_revoked(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig()
    invitation = rig.backend.invite(600.0)
    with agent(invitation, "gamma") as process:
        rig.until(lambda: rig.of(NodeJoined) or process.poll() is not None)
        assert rig.run(lambda: "there", "gamma") == "there"
        with agent(invitation, "delta") as late:
            rig.until(lambda: late.poll() is not None)
            assert late.stderr is not None
            assert "the invitation was used already" in late.stderr.read()
        rig.backend.revoke("gamma")
        rig.until(lambda: process.poll() is not None)  # a good agent ends when it is cut off


@pytest.mark.real
def test_a_cluster_invites_and_revokes() -> None:
    with hl.Cluster({"alpha": {"cpu": 1}, "beta": {"cpu": 1}}) as cluster:
        assert read_invitation(cluster.invite()).once
        lost: queue.SimpleQueue[str] = queue.SimpleQueue()
        hl.telemetry.attach("lost", ("handoff", "node", "down"), lambda event, m, meta, c: lost.put(meta["node"]))
        cluster.revoke("alpha")
        assert lost.get(timeout=60) == "alpha"
        hl.telemetry.detach("lost")
        assert set(cluster.nodes) == {"beta"}
        with pytest.raises(BackendError, match="no node 'alpha'"):
            cluster.revoke("alpha")
        for ttl in (0, -1, float("inf"), float("nan")):
            with pytest.raises(ValueError, match="ttl"):
                cluster.invite(ttl)


def test_threads_of_this_process_cannot_be_joined() -> None:
    with hl.Cluster({"alpha": {"cpu": 1}}, backend="local") as cluster:
        with pytest.raises(BackendError, match="can't be joined"):
            cluster.invite()
        with pytest.raises(BackendError, match="have no keys"):
            cluster.revoke("alpha")
