"""Invitations that are good once and for a while, and nodes whose keys are revoked."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import zmq

import handoff_lab as hl
from handoff_lab import AuthenticationError, BackendError
from handoff_lab.backends.kernels import hub
from handoff_lab.messages import NodeJoined
from handoff_lab.node.options import NodeOptions, parse_options
from handoff_lab.transport.invitation import read_invitation, write_invitation
from handoff_lab.transport.keys import JoinFile, KeyPair
from handoff_lab.transport.sockets import CONTROL_THREAD, Heartbeat, Socket, Watch, dial
from handoff_lab.transport.wire import TO_NODE, pack, unpack
from tests.backends.conftest import FakeNode, Rig

JOIN = JoinFile("tcp://[::1]:1234", KeyPair.generate().public, KeyPair.generate(), once=True)
LOST_OR_REFUSED = {zmq.EVENT_DISCONNECTED, zmq.EVENT_HANDSHAKE_FAILED_AUTH}


class Guest(FakeNode):
    """A node's voice that came with an invitation, or with the join file it was made with."""

    def __init__(self, rig: Rig, name: str, ttl_s: float = 60.0, invitation: str | None = None) -> None:
        super().__init__(rig, name)
        self.file = read_invitation(rig.backend.invite(ttl_s) if invitation is None else invitation)

    def join(self) -> Socket:
        assert self.knock() == ("welcome", [])
        assert self.ask(self.keys, pack("ready")) == ("welcome", [])
        return self.sockets[-1]


def refused(rig: Rig, guest: FakeNode, keys: KeyPair | None = None) -> bool:
    """Whether a connection with these keys, or the invitation's, is refused."""
    socket = dial(rig.loop, keys or guest.file.keys, guest.file.server_key, guest.file.endpoint, Heartbeat(), 1)
    happened = watched(rig, guest, socket)
    socket.connect(guest.file.endpoint)
    decided = {zmq.EVENT_HANDSHAKE_SUCCEEDED, zmq.EVENT_HANDSHAKE_FAILED_AUTH}
    rig.until(lambda: not decided.isdisjoint(happened))
    return zmq.EVENT_HANDSHAKE_FAILED_AUTH in happened


def watched(rig: Rig, guest: FakeNode, socket: Socket) -> list[int]:
    happened: list[int] = []
    watch = Watch(rig.loop, socket, zmq.EVENT_ALL, lambda event, value: happened.append(event))
    guest.watches.append(watch)
    guest.sockets.append(socket)
    return happened


@pytest.fixture
def rig(make_rig: Callable[..., Rig]) -> Rig:
    """A backend without nodes."""
    return make_rig()


@pytest.fixture
def invite(rig: Rig) -> Iterator[Callable[..., Guest]]:
    guests: list[Guest] = []

    def make(name: str, **options: object) -> Guest:
        guests.append(Guest(rig, name, **options))
        return guests[-1]

    yield make
    for guest in guests:
        guest.close()


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
def test_an_invitation_lets_one_node_in_and_no_other(rig: Rig, invite: Callable[..., Guest]) -> None:
    guest = invite("guest")
    second = invite("second", invitation=write_invitation(guest.file))
    early = dial(rig.loop, guest.file.keys, guest.file.server_key, guest.file.endpoint, Heartbeat(), CONTROL_THREAD)
    happened = watched(rig, second, early)
    early.connect(guest.file.endpoint)
    rig.until(lambda: zmq.EVENT_HANDSHAKE_SUCCEEDED in happened)  # it is connected before the invitation is used
    guest.join()
    early.send(second.hello.pack())
    rig.until(lambda: early.poll(0))
    kind, (reason, *_) = unpack(early.recv(), TO_NODE)
    assert kind == "refused"
    assert "used already" in reason
    assert refused(rig, second)
    assert set(rig.backend.nodes()) == {"guest"}


@pytest.mark.real
def test_an_invitation_that_is_past_its_time_is_refused(rig: Rig, invite: Callable[..., Guest]) -> None:
    guest = invite("guest", ttl_s=0.05)
    rig.until(lambda: refused(rig, guest))
    assert not rig.backend.nodes()


@pytest.mark.real
def test_a_refused_hello_does_not_use_an_invitation_up(rig: Rig, invite: Callable[..., Guest]) -> None:
    invite("guest").join()
    again = invite("guest")
    kind, (reason, *_) = again.knock()
    assert kind == "refused"
    assert "of this name" in reason
    again.called("another").join()
    assert set(rig.backend.nodes()) == {"guest", "another"}


@pytest.mark.real
def test_an_invitations_key_is_no_nodes_key(rig: Rig, invite: Callable[..., Guest]) -> None:
    guest = invite("guest")
    guest.hello = replace(guest.hello, public_key=guest.file.keys.public)
    assert guest.knock() == ("refused", ["its key is another's", "", "", ""])


# -- who is shut out -----------------------------------------------------------------------


@pytest.mark.real
def test_a_node_whose_key_is_revoked_is_cut_off_at_once_and_stays_out(rig: Rig, invite: Callable[..., Guest]) -> None:
    guest, other = invite("guest"), invite("other")
    socket, bystander = guest.join(), other.join()
    happened = watched(rig, guest, socket)
    rig.backend.revoke("guest")
    assert (rig.lost["guest"].reason, rig.lost["guest"].expected) == ("its key was revoked", True)
    rig.until(lambda: set(happened) >= LOST_OR_REFUSED)  # libzmq tries again, and is refused
    assert refused(rig, guest, guest.keys)
    assert refused(rig, guest)
    rig.until(lambda: any(unpack(bystander.recv(), TO_NODE) == ("gone", ["guest"]) for _ in iter(bystander.poll, 0)))
    assert set(rig.backend.nodes()) == {"other"}


@pytest.mark.real
def test_the_join_file_of_a_revoked_node_is_worthless_and_a_new_one_is_there(rig: Rig) -> None:
    guest, early = FakeNode(rig, "guest"), FakeNode(rig, "early")
    guest.knock()
    guest.ask(guest.keys, pack("ready"))
    socket = dial(rig.loop, early.file.keys, early.file.server_key, early.file.endpoint, Heartbeat(), CONTROL_THREAD)
    happened = watched(rig, early, socket)
    socket.connect(early.file.endpoint)
    rig.until(lambda: zmq.EVENT_HANDSHAKE_SUCCEEDED in happened)
    rig.backend.revoke("guest")
    socket.send(early.hello.pack())
    rig.until(lambda: socket.poll(0))
    assert unpack(socket.recv(), TO_NODE)[0] == "refused"
    assert refused(rig, guest)
    assert rig.backend.join_file.stat().st_mode & 0o777 == 0o600
    new = FakeNode(rig, "guest")
    assert new.file.keys != guest.file.keys
    assert new.knock() == ("welcome", [])
    for node in (guest, early, new):
        node.close()


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
def test_a_real_agent_joins_by_invitation_and_is_revoked(rig: Rig) -> None:
    invitation = rig.backend.invite(60.0)
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
        lost: list[str] = []
        hl.telemetry.attach("lost", ("handoff", "node", "down"), lambda event, m, meta, c: lost.append(meta["node"]))
        cluster.revoke("alpha")
        hl.telemetry.detach("lost")
        assert set(cluster.nodes) == {"beta"}
        with pytest.raises(BackendError, match="no node 'alpha'"):
            cluster.revoke("alpha")
        for ttl in (0, -1, float("inf"), float("nan")):
            with pytest.raises(ValueError, match="ttl"):
                cluster.invite(ttl)
    assert lost == ["alpha"]


def test_threads_of_this_process_cannot_be_joined() -> None:
    with hl.Cluster({"alpha": {"cpu": 1}}, backend="local") as cluster:
        with pytest.raises(BackendError, match="can't be joined"):
            cluster.invite()
        with pytest.raises(BackendError, match="have no keys"):
            cluster.revoke("alpha")


def test_hellos_of_newcomers_bear_no_nodes_name() -> None:
    assert hub.Invitations.is_newcomer(" newcomer 1")
    assert not hub.is_name(" newcomer 1") if hasattr(hub, "is_name") else True
