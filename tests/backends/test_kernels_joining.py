"""Who becomes a node: agents of other terminals, and those who only pretend."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import zmq

from handoff_lab.backends.kernels import hub
from handoff_lab.messages import HERE, AttemptId, Failed, Failure, FailureKind, Finished, NodeJoined, Source, Started
from handoff_lab.resources import probe_machine
from handoff_lab.transport.hello import own_versions
from handoff_lab.transport.keys import JoinFile, KeyPair
from handoff_lab.transport.rows import event_row
from handoff_lab.transport.sockets import CONTROL_THREAD, Heartbeat, Watch, dial
from handoff_lab.transport.wire import PROTOCOL, TO_NODE, pack, unpack
from tests.backends.conftest import FakeNode, Rig
from tests.others import gone, soon

pytestmark = pytest.mark.real


@pytest.fixture
def fake(empty: Rig) -> Iterator[FakeNode]:
    fake = FakeNode(empty)
    yield fake
    fake.close()


@pytest.fixture
def empty(make_rig: Callable[..., Rig]) -> Rig:
    """A backend without nodes."""
    return make_rig()


class Terminal:
    """An agent started by hand."""

    def __init__(self, rig: Rig, *words: str, code: str = "") -> None:
        self.rig = rig
        start = "from handoff_lab.node.__main__ import main; sys.exit(main())"
        self.process = subprocess.Popen(
            [sys.executable, "-c", f"import sys; {code}\n{start}", *words],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    def end(self) -> tuple[int, str]:
        """Exit code and what it wrote."""
        self.rig.until(lambda: self.process.poll() is not None)
        return self.process.returncode, self.process.communicate()[1]


def join_words(rig: Rig, name: str) -> list[str]:
    return ["--join", str(rig.backend.join_file), "--name", name]


# -- real agents -----------------------------------------------------------------


def test_an_agent_of_another_terminal_joins_works_and_leaves(base: Path, empty: Rig) -> None:
    words = ["--cpu", "1", "--memory", "2GB", "--gpu", "1", "--resource", "fpga=2", "--label", "rack=7"]
    terminal = Terminal(empty, *join_words(empty, "gamma"), *words)
    empty.until(lambda: empty.of(NodeJoined) or terminal.process.poll() is not None)
    (joined,) = empty.of(NodeJoined)
    info = joined.info
    assert (info.name, info.pid, info.slots, info.labels) == ("gamma", terminal.process.pid, 1, {"rack": "7"})
    assert {"cpu": 1.0, "memory": 2000.0, "gpu": 1.0, "fpga": 2.0}.items() <= info.capabilities.items()
    assert empty.run(lambda: "there", "gamma") == "there"
    processes = empty.processes()
    assert len(list(base.iterdir())) == 2
    terminal.process.terminate()
    assert terminal.end()[0] == 0
    empty.until(lambda: empty.lost)
    assert (empty.lost["gamma"].reason, empty.lost["gamma"].expected) == ("it was told to end by SIGTERM", False)
    soon(gone(processes))
    soon(lambda: list(base.iterdir()) == [empty.backend.join_file.parent])


def test_a_node_of_another_terminal_ends_when_it_is_removed(empty: Rig) -> None:
    terminal = Terminal(empty, *join_words(empty, "gamma"), "--cpu", "1")
    empty.until(lambda: empty.backend.nodes() or terminal.process.poll() is not None)
    empty.backend.remove_node("gamma")
    assert terminal.end()[0] == 0
    empty.until(lambda: empty.lost)
    assert empty.lost["gamma"].expected


def test_a_name_that_is_taken_is_refused(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(alpha={"cpu": 1})
    code, written = Terminal(rig, *join_words(rig, "alpha")).end()
    assert code == 1
    assert "there is a node of this name already" in written
    assert rig.run(lambda: 1) == 1


def test_another_python_is_refused_and_both_sides_are_told(empty: Rig) -> None:
    patch = "import handoff_lab.node.report as r; r.own_versions = lambda: {'python': '3.99.1'}"
    code, written = Terminal(empty, *join_words(empty, "gamma"), code=patch).end()
    here = own_versions()["python"]
    assert code == 1
    assert f"the coordinator has Python {here}, here it is 3.99.1" in written
    assert f"node 'gamma' has Python 3.99.1, here it is {here}" in empty.lost["gamma"].reason
    assert not empty.backend.nodes()


def test_a_join_file_of_another_cluster_is_refused(empty: Rig, tmp_path: Path) -> None:
    file = JoinFile.read(empty.backend.join_file)
    path = tmp_path / "join.json"
    JoinFile(file.endpoint, file.server_key, KeyPair.generate()).write(path)
    code, written = Terminal(empty, "--join", str(path), "--name", "gamma").end()
    assert code == 1
    assert f"the coordinator at {file.endpoint} does not admit this key" in written


def test_a_join_file_that_others_can_read_is_refused(empty: Rig, tmp_path: Path) -> None:
    path = tmp_path / "join.json"
    JoinFile.read(empty.backend.join_file).write(path)
    path.chmod(0o644)
    code, written = Terminal(empty, "--join", str(path), "--name", "gamma").end()
    assert code == 1
    assert "can be read by others" in written


def test_no_key_is_on_a_command_line_or_in_the_environment(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(alpha={"cpu": 1})
    file = JoinFile.read(rig.backend.join_file)
    for pid in rig.processes():
        for name in ("cmdline", "environ"):
            content = Path(f"/proc/{pid}/{name}").read_text(errors="replace")
            assert file.keys.secret not in content
            assert file.server_key not in content


def test_a_node_has_what_its_machine_has_unless_told(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(alpha=None)
    assert rig.backend.nodes()["alpha"].capabilities == dict(probe_machine())


def test_another_address_can_be_listened_on() -> None:
    rig = Rig({"alpha": {"cpu": 1}, "beta": {"cpu": 1}}, host="127.0.0.2")
    try:
        assert JoinFile.read(rig.backend.join_file).endpoint.startswith("tcp://127.0.0.2:")
        made = rig.submit(lambda: bytes(50_000), "alpha")
        assert rig.run(len, "beta", [Source(made, "alpha")]) == 50_000
    finally:
        rig.close()


# -- pretenders --------------------------------------------------------------------


def test_the_join_key_is_good_for_nothing_but_a_hello(empty: Rig, fake: FakeNode) -> None:
    socket = dial(empty.loop, fake.file.keys, fake.file.server_key, fake.file.endpoint, Heartbeat(), CONTROL_THREAD)
    fake.sockets.append(socket)
    socket.connect(fake.file.endpoint)
    socket.send(pack("ready"))
    socket.send(pack("events", []))
    assert fake.knock() == ("welcome", [])
    assert not socket.poll(0)
    assert not empty.events


def test_a_node_is_there_when_it_proved_its_own_key(empty: Rig, fake: FakeNode) -> None:
    fake.knock()
    assert not empty.backend.nodes()
    assert fake.ask(fake.keys, pack("ready")) == ("welcome", [])
    assert set(empty.backend.nodes()) == {"fake"}


def test_a_second_connection_of_a_nodes_key_is_not_heard(empty: Rig, fake: FakeNode) -> None:
    fake.knock()
    fake.ask(fake.keys, pack("ready"))
    second = dial(empty.loop, fake.keys, fake.file.server_key, fake.file.endpoint, Heartbeat(), CONTROL_THREAD)
    fake.sockets.append(second)
    second.connect(fake.file.endpoint)
    second.send(pack("leaving", "so"))
    fake.called("other").knock()
    assert set(empty.backend.nodes()) == {"fake"}


def test_only_a_connection_that_stands_is_cut(empty: Rig, fake: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of one that ended may be that of a file of the user's by now."""
    cuts: list[int] = []
    monkeypatch.setattr(hub, "cut", cuts.append)
    fake.knock()
    fake.ask(fake.keys, pack("ready"))
    fake.close()
    empty.until(lambda: empty.lost)
    assert not cuts
    other = FakeNode(empty, "other")
    other.knock()
    other.ask(other.keys, pack("ready"))
    empty.backend.revoke("other")
    assert len(cuts) == 1
    other.close()


def test_a_node_that_comes_back_too_late_is_told(empty: Rig, fake: FakeNode) -> None:
    fake.knock()
    said: list[int] = []
    late = dial(empty.loop, fake.keys, fake.file.server_key, fake.file.endpoint, Heartbeat(), CONTROL_THREAD)
    fake.sockets.append(late)
    watch = Watch(empty.loop, late, zmq.EVENT_HANDSHAKE_SUCCEEDED, lambda event, value: said.append(event))
    late.connect(fake.file.endpoint)
    empty.until(lambda: said)
    watch.close()
    empty.backend._hub.dismiss("fake", "it did not come back")
    late.send(pack("numbered"))
    empty.until(lambda: late.poll(0))
    kind, (reason, *_) = unpack(late.recv(), TO_NODE)
    assert kind == "refused"
    assert "did not come back in time" in reason
    assert fake.knock() == ("welcome", [])


def test_a_node_whose_welcome_was_lost_with_its_connection_asks_again(
    empty: Rig, fake: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(empty.backend._presence, "endures", lambda name: True)
    fake.knock()
    fake.ask(fake.keys, pack("numbered"))
    fake.sockets.pop().close()
    empty.until(lambda: empty.backend._hub._guests["fake"].away)
    again = dial(empty.loop, fake.keys, fake.file.server_key, fake.file.endpoint, Heartbeat(), CONTROL_THREAD)
    fake.sockets.append(again)
    again.connect(fake.file.endpoint)
    again.send(pack("numbered"))
    answers: list[bytes] = []

    def is_welcome() -> bool:
        while again.poll(0):
            answers.append(again.recv())
        return pack("welcome") in answers

    empty.until(is_welcome)
    assert not empty.lost


def test_the_key_of_another_member_is_refused(empty: Rig, fake: FakeNode) -> None:
    fake.knock()
    kind, (reason, *_) = fake.called("other").knock()
    assert (kind, reason) == ("refused", "its key is another's")


def test_the_name_of_a_welcomed_node_is_taken(empty: Rig, fake: FakeNode) -> None:
    fake.knock()
    fake.keys = KeyPair.generate()
    fake.hello = replace(fake.hello, public_key=fake.keys.public)
    kind, (reason, *_) = fake.knock()
    assert kind == "refused"
    assert "of this name" in reason


def test_a_later_protocol_is_refused_whatever_its_hello_looks_like(empty: Rig, fake: FakeNode) -> None:
    kind, (_, what, theirs, ours) = fake.knock(pack("hello", PROTOCOL + 1, {"new": "form"}))
    assert (kind, what, theirs, ours) == ("refused", "protocol", str(PROTOCOL), str(PROTOCOL + 1))


NONSENSE = {
    "noise": b"\xc1",
    "a command": pack("submit", []),
    "events that are none": pack("events", [[0]]),
    "what another node uses": pack("events", [[7, "alpha", 1.0, 1]]),
}


@pytest.mark.parametrize("what", NONSENSE)
def test_a_node_that_sends_nonsense_is_dropped(empty: Rig, fake: FakeNode, what: str) -> None:
    fake.knock()
    fake.ask(fake.keys, pack("ready"))
    watch_events: list[int] = []
    watch = Watch(empty.loop, fake.sockets[-1], zmq.EVENT_ALL, lambda event, value: watch_events.append(event))
    fake.sockets[-1].send(NONSENSE[what])
    empty.until(lambda: empty.lost)
    assert "it sent what is no message" in empty.lost["fake"].reason
    empty.until(lambda: zmq.EVENT_HANDSHAKE_FAILED_AUTH in watch_events)  # cut, and not let in again
    watch.close()
    assert not empty.backend.nodes()


def test_a_node_that_sends_too_much_is_cut_off(make_rig: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "FROM_NODE_LIMIT", 10_000)
    rig = make_rig()
    fake = FakeNode(rig)
    fake.knock()
    fake.ask(fake.keys, pack("ready"))
    fake.sockets[-1].send(pack("leaving", "x" * 9_000))
    rig.until(lambda: rig.lost)
    assert rig.lost["fake"].reason == "x" * 9_000
    other = FakeNode(rig, "other")
    other.knock()
    other.ask(other.keys, pack("ready"))
    other.sockets[-1].send(pack("leaving", "x" * 11_000))
    rig.until(lambda: len(rig.lost) == 2)
    assert rig.lost["other"].reason == "its connection ended"
    fake.close()
    other.close()


def test_reports_about_attempts_that_were_not_given_are_left_out(empty: Rig, fake: FakeNode) -> None:
    fake.knock()
    fake.ask(fake.keys, pack("ready"))
    attempt = empty.attempt(lambda: 1, "fake")
    empty.backend.submit([attempt])
    stranger = AttemptId("run", 10**6, 1)
    failed = Failed(attempt.id, Failure(FailureKind.EXCEPTION, "no"))
    rows = [Started(stranger, 0.0), Finished(stranger, 0.0, 1.0), failed, failed, Finished(attempt.id, 0.0, 1.0)]
    fake.sockets[-1].send(pack("events", [event_row(event) for event in rows]))
    empty.until(lambda: attempt.id in empty.ends)
    assert set(empty.ends) == {attempt.id}
    assert not empty.of(Started)


def test_members_hear_of_each_other(empty: Rig, fake: FakeNode) -> None:
    fake.knock()
    fake.ask(fake.keys, pack("ready"))
    first = fake.sockets[-1]
    other = FakeNode(empty, "other")
    other.knock()
    other.ask(other.keys, pack("ready"))

    def next_message(socket):
        empty.until(lambda: socket.poll(0))
        return unpack(socket.recv(), TO_NODE)

    kind, (members,) = next_message(first)
    assert (kind, [name for name, _, _ in members]) == ("peers", [HERE])
    assert next_message(first) == ("peers", [[["other", other.keys.public, other.hello.endpoint]]])
    assert [name for name, _, _ in next_message(other.sockets[-1])[1][0]] == [HERE, "fake"]
    other.close()
    assert next_message(first) == ("gone", ["other"])
