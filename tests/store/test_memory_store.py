from handoff_lab.messages import AttemptId
from handoff_lab.store import Frames
from handoff_lab.store.memory import MemoryStore

KEY = AttemptId("run", 1, 1)
VALUE = Frames((b"12345",))


def test_a_value_that_is_there_is_given_at_once() -> None:
    store, got = MemoryStore(), []
    store.put(KEY, VALUE)
    store.want(KEY, got.append)
    assert got == [VALUE]
    assert KEY in store


def test_a_value_that_comes_is_given_to_all_who_wait_once() -> None:
    store, got = MemoryStore(), []
    store.want(KEY, got.append)
    store.want(KEY, got.append)
    assert got == []
    store.put(KEY, VALUE)
    store.put(KEY, Frames((b"other",)))
    assert got == [VALUE, VALUE]
    assert store.get(KEY) is VALUE


def test_bytes_are_counted() -> None:
    store = MemoryStore()
    store.put(KEY, VALUE)
    store.put(AttemptId("run", 2, 1), Frames((b"", b"123")))
    assert store.nbytes == 8
    store.free([KEY])
    assert (store.nbytes, len(store)) == (3, 1)


def test_who_waits_for_a_freed_value_is_told() -> None:
    store, got = MemoryStore(), []
    store.want(KEY, got.append)
    store.free([KEY])
    store.want(KEY, got.append)
    assert got == [None, None]


def test_a_value_that_comes_after_it_was_freed_is_not_kept() -> None:
    store = MemoryStore()
    store.free([KEY])
    store.put(KEY, VALUE)
    assert store.nbytes == len(store) == 0


def test_giving_up_is_not_for_ever() -> None:
    store, got = MemoryStore(), []
    store.want(KEY, got.append)
    store.give_up(KEY)
    store.want(KEY, got.append)
    store.put(KEY, VALUE)
    assert got == [None, VALUE]


def test_freed_keys_are_not_remembered_without_end() -> None:
    store = MemoryStore()
    store.free(AttemptId("run", number, 1) for number in range(50_000))
    store.put(AttemptId("run", 0, 1), VALUE)
    assert store.nbytes == 5


def test_a_forgotten_run_leaves_nothing_behind_and_nothing_of_it_comes_back() -> None:
    store, got = MemoryStore(), []
    other, late = AttemptId("other", 1, 1), AttemptId("run", 2, 1)
    for key in (KEY, other):
        store.put(key, VALUE)
    store.want(late, got.append)
    store.forget("run")
    assert (got, store.keys(), store.nbytes) == ([None], [other], 5)
    assert store.knows(KEY)
    assert store.knows(late)
    store.put(late, VALUE)
    store.put_many([KEY, late], [VALUE, VALUE], [5, 5])
    store.want(late, got.append)
    assert (got, store.keys(), store.nbytes) == ([None, None], [other], 5)


def test_a_value_can_take_the_place_of_another() -> None:
    store = MemoryStore()
    store.put(KEY, VALUE)
    store.replace(KEY, Frames((b"123",)))
    assert store.nbytes == 3
    store.forget("run")
    assert store.nbytes == len(store) == 0
