"""Values between members, over real sockets of one process."""

from collections.abc import Iterator

import numpy as np
import pytest
import zmq

from handoff_lab.messages import HERE, AttemptId
from handoff_lab.store import Frames
from handoff_lab.store.memory import MemoryStore
from handoff_lab.transport.connection import Connection
from handoff_lab.transport.keys import KeyPair
from handoff_lab.transport.loop import Loop
from handoff_lab.transport.peers import Member, Peers
from handoff_lab.transport.questions import Request
from handoff_lab.transport.sockets import DATA_THREAD, Heartbeat, Watch, dial
from handoff_lab.transport.zap import Admission

KEY = AttemptId("run", 1, 1)


class Place:
    """A member: its values and its keys."""

    def __init__(self, pump, admission: Admission, name: str) -> None:
        self.store = MemoryStore()
        self.keys = KeyPair.generate()
        self.peers = Peers(pump.loop, self.keys, admission, self.store, "127.0.0.1")
        self.member = Member(name, self.keys.public, self.peers.endpoint)
        self.got: list[Frames | str] = []

    def read(self, holder: str, key: AttemptId = KEY) -> None:
        self.peers.read(holder, key, self.got.append)


@pytest.fixture
def admission(pump) -> Iterator[Admission]:
    admission = Admission(pump.loop)
    yield admission
    admission.close()


@pytest.fixture
def alpha(pump, admission: Admission) -> Iterator[Place]:
    place = Place(pump, admission, "alpha")
    yield place
    place.peers.close()


@pytest.fixture
def beta(pump, admission: Admission, alpha: Place) -> Iterator[Place]:
    place = Place(pump, admission, "beta")
    place.peers.add(alpha.member)
    alpha.peers.add(place.member)
    yield place
    place.peers.close()


def test_a_value_is_read_from_its_holder(pump, alpha: Place, beta: Place) -> None:
    beta.store.put(KEY, Frames.dump({"answer": 42}))
    alpha.read("beta")
    pump.until(lambda: alpha.got)
    assert alpha.got[0].load() == {"answer": 42}


def test_a_large_array_travels_beside_its_pickle(pump, alpha: Place, beta: Place) -> None:
    array = np.arange(500_000)
    beta.store.put(KEY, Frames.dump(array))
    alpha.read("beta")
    pump.until(lambda: alpha.got)
    (value,) = alpha.got
    assert len(value.parts) == 2
    assert (value.load() == array).all()


def test_a_reader_waits_for_a_value_that_is_to_come(pump, alpha: Place, beta: Place) -> None:
    for _ in range(3):
        alpha.read("beta")
    pump.run_for(0.2)
    assert not alpha.got
    beta.store.put(KEY, Frames.dump(1))
    pump.until(lambda: len(alpha.got) == 3)


def test_a_value_that_will_not_come_is_told(pump, alpha: Place, beta: Place) -> None:
    beta.store.free([KEY])
    alpha.read("beta")
    pump.until(lambda: alpha.got)
    assert alpha.got == ["node 'beta' does not have it any more"]


def test_the_coordinators_process_is_a_member_too(pump, admission: Admission, beta: Place) -> None:
    here = Place(pump, admission, HERE)
    here.peers.add(beta.member)
    beta.peers.add(here.member)
    here.store.put(KEY, Frames.dump("given"))
    beta.store.put(KEY, Frames.dump("made"))
    beta.read(HERE)
    here.read("beta")
    pump.until(lambda: beta.got and here.got)
    assert (beta.got[0].load(), here.got[0].load()) == ("given", "made")
    here.peers.close()


def test_one_that_is_no_member_cannot_be_read(alpha: Place) -> None:
    alpha.read("gamma")
    assert alpha.got == ["node 'gamma' is gone"]


def test_reads_fail_when_their_holder_is_removed(pump, alpha: Place, beta: Place) -> None:
    alpha.read("beta")
    pump.run_for(0.1)
    alpha.peers.remove("beta")
    assert alpha.got == ["node 'beta' is gone"]


def test_reads_fail_when_their_holder_ends(pump, alpha: Place, beta: Place) -> None:
    beta.store.put(AttemptId("run", 0, 1), Frames.dump(0))
    alpha.read("beta", AttemptId("run", 0, 1))
    pump.until(lambda: alpha.got)
    alpha.read("beta")
    beta.peers.close()
    pump.until(lambda: len(alpha.got) == 2)
    assert alpha.got[1] == "the connection to node 'beta' broke"


def test_a_reader_that_is_not_known_yet_tries_again(pump, admission: Admission, alpha: Place) -> None:
    gamma = Place(pump, admission, "gamma")
    alpha.peers.add(gamma.member)
    gamma.store.put(KEY, Frames.dump(1))
    alpha.read("gamma")
    pump.run_for(0.3)
    assert not alpha.got
    gamma.peers.add(alpha.member)
    pump.until(lambda: alpha.got)
    assert alpha.got[0].load() == 1
    gamma.peers.close()


def test_what_is_sent_after_a_refusal_does_not_keep_the_loop_waiting(pump, alpha: Place, beta: Place) -> None:
    beta.peers.remove("alpha")
    elsewhere = Loop()  # on which nothing happens: the refusal comes before anybody looks
    no = pytest.fail
    connection = Connection(elsewhere, alpha.keys, beta.member, DATA_THREAD, opened=no, received=no, broken=no)
    pump.until(lambda: not connection._socket.poll(0, zmq.POLLOUT))
    connection.send(b"a question")
    connection.close()
    elsewhere.close()


def test_a_removed_reader_gets_nothing_more(pump, alpha: Place, beta: Place) -> None:
    beta.store.put(KEY, Frames.dump(1))
    alpha.read("beta")
    pump.until(lambda: alpha.got)
    beta.peers.remove("alpha")
    alpha.read("beta")
    pump.until(lambda: len(alpha.got) == 2)
    assert alpha.got[1] == "the connection to node 'beta' broke"
    alpha.read("beta")
    pump.run_for(0.3)
    assert len(alpha.got) == 2


def test_a_connection_kept_back_by_a_removed_reader_is_not_the_next_of_its_name(
    pump, admission: Admission, alpha: Place, beta: Place
) -> None:
    beta.store.put(KEY, Frames.dump(1))
    spare = dial(pump.loop, alpha.keys, beta.keys.public, beta.peers.endpoint, Heartbeat(), DATA_THREAD)
    happened: set[int] = set()
    watch = Watch(pump.loop, spare, zmq.EVENT_ALL, lambda event, value: happened.add(event))
    spare.connect(beta.peers.endpoint)
    pump.until(lambda: zmq.EVENT_HANDSHAKE_SUCCEEDED in happened)
    beta.peers.remove("alpha")
    heir = Place(pump, admission, "alpha")
    heir.peers.add(beta.member)
    beta.peers.add(heir.member)
    spare.send(Request(7, (), [KEY]).pack())
    heir.read("beta")
    pump.until(lambda: heir.got and zmq.EVENT_DISCONNECTED in happened)
    assert heir.got[0].load() == 1
    assert not spare.poll(0)
    watch.close()
    spare.close()
    heir.peers.close()


@pytest.mark.parametrize(
    "request_", [[b""], [b"noise"], [b"\x90"], [b"\x92\x00\x01"], [b"\x94\x00\xa3run\x01\x01", b"more"]]
)
def test_a_malformed_request_is_dropped_and_the_next_one_served(pump, alpha: Place, beta: Place, request_) -> None:
    beta.store.put(KEY, Frames.dump(1))
    socket = dial(pump.loop, alpha.keys, beta.keys.public, beta.peers.endpoint, Heartbeat(), DATA_THREAD)
    socket.connect(beta.peers.endpoint)
    socket.send_multipart(request_)
    alpha.read("beta")
    pump.until(lambda: alpha.got)
    pump.run_for(0.1)
    assert alpha.got[0].load() == 1
    with pytest.raises(zmq.Again):
        socket.recv(zmq.NOBLOCK)
    socket.close()
