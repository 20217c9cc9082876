"""Large values where nothing can be handed over: in chunks, which small values do not wait behind."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from handoff_lab.messages import AttemptId
from handoff_lab.store import Frames, segments
from handoff_lab.store.memory import MemoryStore
from handoff_lab.store.segments import Segment, SegmentMaker
from handoff_lab.transport import fetching
from handoff_lab.transport.keys import KeyPair
from handoff_lab.transport.peers import Member, Peers
from handoff_lab.transport.questions import CHUNK, LargeAnswer
from handoff_lab.transport.zap import Admission

KEY = AttemptId("run", 1, 1)
ARRAY = np.arange(10 * CHUNK // 8 + 3)


def shared(array: object) -> Frames:
    maker = SegmentMaker()
    value = Frames(maker.share(Frames.dump(array).buffers))
    maker.release()
    return value


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class Place:
    """A member without a mailbox, as if it were on a host of its own."""

    def __init__(self, pump, admission: Admission, name: str) -> None:
        self.store = MemoryStore()
        keys = KeyPair.generate()
        self.peers = Peers(pump.loop, keys, admission, self.store, "127.0.0.1")
        self.member = Member(name, keys.public, self.peers.endpoint)
        self.got: list[Frames | str] = []

    def read(self, holder: str, key: AttemptId = KEY) -> None:
        self.peers.read(holder, key, self.got.append)


@pytest.fixture
def places(pump) -> Iterator[tuple[Place, Place]]:
    admission = Admission(pump.loop)
    alpha, beta = (Place(pump, admission, name) for name in ("alpha", "beta"))
    alpha.peers.add(beta.member)
    beta.peers.add(alpha.member)
    yield alpha, beta
    alpha.peers.close()
    beta.peers.close()
    admission.close()


def fetched_from(place: Place, holder: str) -> dict[tuple[int, int, int], object]:
    """The chunks that are asked for now."""
    link = place.peers._links.get(holder)
    return {} if link is None or link._fetcher is None else link._fetcher._asked


@pytest.mark.parametrize("make", [shared, Frames.dump], ids=["shared", "not shared"])
def test_an_array_comes_in_chunks_into_shared_memory(
    pump, places: tuple[Place, Place], make: Callable[[np.ndarray], Frames]
) -> None:
    alpha, beta = places
    value = make(ARRAY)
    beta.store.put(KEY, value)
    alpha.read("beta")
    pump.until(lambda: alpha.got)
    (got,) = alpha.got
    assert isinstance(got.parts[-1], Segment)
    assert (got.load() == ARRAY).all()
    assert got.nbytes == value.nbytes


@pytest.mark.parametrize("make", [shared, Frames.dump], ids=["shared", "not shared"])
def test_a_large_pickle_goes_to_shared_memory_with_its_arrays(
    pump, places: tuple[Place, Place], make: Callable[[object], Frames]
) -> None:
    alpha, beta = places
    beta.store.put(KEY, make([bytes(3 * CHUNK), ARRAY]))
    alpha.read("beta")
    pump.until(lambda: alpha.got)
    (got,) = alpha.got
    (segment,) = got.parts
    assert isinstance(segment, Segment)
    pickled, array = got.load()
    assert pickled == bytes(3 * CHUNK)
    assert (array == ARRAY).all()


def test_several_arrays_of_one_value_come(pump, places: tuple[Place, Place]) -> None:
    alpha, beta = places
    value = [ARRAY, np.empty(0), ARRAY[:100].astype(float), "text"]
    beta.store.put(KEY, Frames.dump(value))
    alpha.read("beta")
    pump.until(lambda: alpha.got)
    got = alpha.got[0].load()
    assert all((one == other).all() for one, other in zip(got[:3], value[:3], strict=True))
    assert got[3] == "text"


def test_a_large_pickle_without_buffers_comes(pump, places: tuple[Place, Place]) -> None:
    alpha, beta = places
    beta.store.put(KEY, Frames.dump("x" * 3 * CHUNK))
    alpha.read("beta")
    pump.until(lambda: alpha.got)
    assert alpha.got[0].load() == "x" * 3 * CHUNK


def test_where_descriptors_are_short_it_comes_as_bytes(
    pump, places: tuple[Place, Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha, beta = places
    beta.store.put(KEY, shared(ARRAY))
    monkeypatch.setattr(segments, "_SPARE", 1.0)
    alpha.read("beta")
    pump.until(lambda: alpha.got)
    assert not any(isinstance(part, Segment) for part in alpha.got[0].parts)
    assert (alpha.got[0].load() == ARRAY).all()


def test_only_a_few_chunks_are_under_way(pump, places: tuple[Place, Place]) -> None:
    alpha, beta = places
    keys = [AttemptId("run", number, 1) for number in range(3)]
    most = 0

    def look() -> bool:
        nonlocal most
        most = max(most, len(fetched_from(alpha, "beta")))
        return len(alpha.got) == 3

    for key in keys:
        beta.store.put(key, shared(ARRAY))
        alpha.read("beta", key)
    pump.until(look)
    assert most == fetching.WINDOW
    assert all((value.load() == ARRAY).all() for value in alpha.got)


def test_a_small_value_overtakes_a_large_one(pump, places: tuple[Place, Place]) -> None:
    alpha, beta = places
    small = AttemptId("run", 2, 1)
    beta.store.put(KEY, shared(np.zeros(40 * CHUNK // 8)))
    beta.store.put(small, Frames((b"small",)))
    alpha.read("beta")
    pump.until(lambda: fetched_from(alpha, "beta"))
    alpha.read("beta", small)
    pump.until(lambda: len(alpha.got) == 2)
    assert alpha.got[0].parts == (b"small",)


def test_a_value_that_is_freed_meanwhile_is_told(pump, places: tuple[Place, Place]) -> None:
    alpha, beta = places
    beta.store.put(KEY, shared(ARRAY))
    alpha.read("beta")
    pump.until(lambda: fetched_from(alpha, "beta"))
    beta.store.free([KEY])
    pump.until(lambda: alpha.got)
    assert alpha.got == ["node 'beta' does not have it any more"]
    beta.store.put(AttemptId("run", 2, 1), shared(ARRAY))
    alpha.read("beta", AttemptId("run", 2, 1))
    pump.until(lambda: len(alpha.got) == 2)
    assert (alpha.got[1].load() == ARRAY).all()


@pytest.mark.parametrize("how", ["removed", "ended"])
def test_a_holder_that_goes_is_told(pump, places: tuple[Place, Place], how: str) -> None:
    alpha, beta = places
    beta.store.put(KEY, shared(ARRAY))
    alpha.read("beta")
    pump.until(lambda: fetched_from(alpha, "beta"))
    if how == "removed":
        alpha.peers.remove("beta")
        assert alpha.got == ["node 'beta' is gone"]
    else:
        beta.peers.close()
        pump.until(lambda: alpha.got)
        assert alpha.got == ["the connection to node 'beta' broke"]


def test_one_that_was_removed_gets_no_more_chunks(pump, places: tuple[Place, Place]) -> None:
    alpha, beta = places
    beta.store.put(KEY, shared(np.zeros(40 * CHUNK // 8)))
    alpha.read("beta")
    pump.until(lambda: fetched_from(alpha, "beta"))
    beta.peers.remove("alpha")
    pump.until(lambda: alpha.got)
    assert alpha.got == ["the connection to node 'beta' broke"]


def test_descriptors_are_closed_when_the_value_is_freed(pump, places: tuple[Place, Place]) -> None:
    alpha, beta = places
    beta.store.put(KEY, shared(ARRAY))
    alpha.read("beta")
    pump.until(lambda: alpha.got)
    gc.collect()  # what earlier tests left
    pump.run_for(0.2)  # libzmq lets go of the last chunk when it is sent
    before = open_descriptors()
    alpha.read("beta")
    pump.until(lambda: len(alpha.got) == 2)
    pump.until(lambda: open_descriptors() == before + 1)
    del alpha.got[1]
    assert open_descriptors() == before


def test_what_is_to_be_fetched_where_nothing_can_be_is_lost(pump, places: tuple[Place, Place]) -> None:
    alpha, beta = places
    beta.store.put(KEY, shared(ARRAY))
    beta.peers._chunk_endpoint = lambda: "no endpoint"  # type: ignore[method-assign]
    alpha.read("beta")
    pump.until(lambda: alpha.got)
    assert alpha.got == ["node 'beta' cannot be reached at no endpoint"]


def test_only_a_few_values_are_under_way(pump, places: tuple[Place, Place]) -> None:
    alpha, beta = places
    keys = [AttemptId("run", number, 1) for number in range(12)]
    most = 0

    def look() -> bool:
        nonlocal most
        most = max(most, len({number for number, _, _ in fetched_from(alpha, "beta")}))
        return len(alpha.got) == len(keys)

    for key in keys:
        beta.store.put(key, shared(ARRAY))
        alpha.read("beta", key)
    pump.until(look)
    assert 1 < most <= 2 * fetching.TOGETHER
    assert all((value.load() == ARRAY).all() for value in alpha.got)


def test_who_waits_for_a_value_of_no_parts_is_told_when_its_holder_goes(pump, places: tuple[Place, Place]) -> None:
    alpha, beta = places
    small = AttemptId("run", 2, 1)
    beta.store.put(KEY, shared(ARRAY))
    beta.store.put(small, Frames((b"small",)))
    beta.peers._answer_large = lambda reader, number, value: beta.peers._reply(  # type: ignore[method-assign]
        reader.identity, LargeAnswer(number, [], beta.peers._chunk_endpoint()).pack()
    )
    alpha.read("beta")
    pump.until(lambda: beta.peers._chunks)
    alpha.read("beta", small)  # answered after it, over the same connection
    pump.until(lambda: alpha.got)
    alpha.peers.remove("beta")
    assert [alpha.got[0].parts, *alpha.got[1:]] == [(b"small",), "node 'beta' is gone"]
