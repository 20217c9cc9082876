"""The parts of the Dask backend, without Dask: what they do when it is late, or loses something."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from handoff_lab._errors import BackendError
from handoff_lab.backends.dask import link as linking
from handoff_lab.backends.dask.link import Link
from handoff_lab.backends.dask.output import LOG_LIMIT, NEWS_LIMIT, Log, caught
from handoff_lab.backends.dask.remote import Site
from handoff_lab.backends.dask.values import TRIES, Far, Values
from handoff_lab.backends.dask.workers import capabilities_of
from handoff_lab.messages import AttemptId
from handoff_lab.store.payload import Frames

KEY = AttemptId("run", 0, 0)


# -- copies of this process's values -------------------------------------------------------


class Asked:
    """A link that keeps what it is asked, and calls later when it is told to."""

    def __init__(self) -> None:
        self.questions: list[tuple[str, Callable[[Any], None]]] = []  # the worker, and who takes the answer
        self.later: list[Callable[[], None]] = []
        self.client = SimpleNamespace(scatter=lambda values, workers, **options: workers[0])
        self.loop = SimpleNamespace(call_later=lambda seconds, callback: self.later.append(callback))

    def ask(self, question: Callable[[], Any], then: Callable[[Any], None]) -> None:
        self.questions.append((question(), then))

    def answer(self, result: Any) -> str:
        """Answer the oldest question; which worker it was about."""
        address, then = self.questions.pop(0)
        then(result)
        return address


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
def values(asked: Asked) -> Values:
    values = Values(asked, lambda: None)  # type: ignore[arg-type]
    values.put(KEY, Frames((bytes(100_000),)))
    return values


def test_a_value_is_copied_once_for_all_that_need_it(asked: Asked, values: Values) -> None:
    told: list[bool] = []
    for address in ("tcp://a", "tcp://b"):
        assert values.place(KEY, address[-1], address, told.append)
    assert asked.answer(["future"]) == "tcp://a"
    assert (told, asked.questions) == ([True, True], [])
    assert not values.place(KEY, "b", "tcp://b", told.append)
    assert isinstance(values.ready(KEY), Far)


def test_a_copy_to_a_worker_that_goes_is_made_elsewhere(asked: Asked, values: Values) -> None:
    """Who waits for it looks again when the node is known to be gone, and what is heard of the old copy is nothing."""
    told: list[bool] = []

    def look(well: bool) -> None:
        told.append(well)
        values.place(KEY, "b", "tcp://b", told.append)

    values.place(KEY, "a", "tcp://a", look)
    values.lose("a")
    assert asked.answer(["a future that is lost"]) == "tcp://a"
    assert (told, values.ready(KEY)) == ([True], None)
    assert asked.answer(["future"]) == "tcp://b"
    assert told == [True, True]
    placed = values.ready(KEY)
    assert isinstance(placed, Far)
    assert (placed.future, placed.node) == ("future", "b")


def test_a_copy_that_fails_is_tried_again(asked: Asked, values: Values) -> None:
    """Some times; and as long as it takes to one that is paused."""
    told: list[bool] = []
    values.place(KEY, "a", "tcp://a", told.append)
    for error in (*[TimeoutError()] * 10, *[KeyError("tcp://a")] * (TRIES - 1)):
        asked.answer(error)
        asked.later.pop()()
    asked.answer(KeyError("tcp://a"))
    assert (told, asked.later, asked.questions) == ([False], [], [])


def test_a_value_that_is_freed_meanwhile_is_copied_no_more(asked: Asked, values: Values) -> None:
    told: list[bool] = []
    values.place(KEY, "a", "tcp://a", told.append)
    values.free([KEY])
    asked.answer(KeyError("tcp://a"))
    assert (told, asked.later) == ([False], [])


# -- the link ------------------------------------------------------------------------------


class Client:
    def __init__(self, address: str, **options: Any) -> None:
        self.status, self.scheduler_comm = "running", object()
        self.subscribed: list[str] = []
        self.closed = False

    def subscribe_topic(self, topic: str, handler: Any) -> None:
        self.subscribed.append(topic)

    def unsubscribe_topic(self, topic: str) -> None:
        self.subscribed.remove(topic)

    def close(self, timeout: float) -> None:
        self.closed = True


@pytest.fixture
def link(monkeypatch: pytest.MonkeyPatch) -> Link:
    monkeypatch.setattr(linking, "import_distributed", lambda: SimpleNamespace(Client=Client, Security=object))
    return Link("tcp://scheduler", None)  # type: ignore[arg-type]


def test_the_client_is_closed_though_a_worker_does_not_say_farewell(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait(question: Any, patience_s: float) -> None:
        raise BackendError("it stands still")

    monkeypatch.setattr(link, "wait", wait)
    link.close(lambda: None)  # type: ignore[arg-type, return-value]
    assert link.client.closed


def test_a_new_connection_hears_what_the_old_one_heard(link: Link) -> None:
    link.listen("all", lambda what: None)
    assert not link.renew()
    link.client.scheduler_comm = None  # it connects
    assert not link.renew()
    link.client.scheduler_comm = object()
    assert [link.renew(), link.renew()] == [True, False]
    assert link.client.subscribed == ["all", "all"]


# -- on the worker -------------------------------------------------------------------------


def test_code_that_was_sent_again_is_not_forgotten() -> None:
    """A batch with code may overtake the request to forget what an earlier one brought."""
    site = Site()
    site.learn({"f": b"\x80\x05K\x01.", "g": b"\x80\x05K\x02."}, 0)
    site.learn({"f": b"\x80\x05K\x03."}, 1)
    site.unlearn(["f", "g", "never"], 1)
    assert site.codes.get("f") == 3
    with pytest.raises(KeyError):
        site.codes.get("g")
    site.unlearn(["f"], 2)
    with pytest.raises(KeyError):
        site.codes.get("f")


def test_streams_are_as_they_were_but_for_what_a_function_writes(capfd: pytest.CaptureFixture[str]) -> None:
    before, log = sys.stdout, Log(lambda: None)
    with caught(log):
        assert (sys.stdout.encoding, sys.stdout.errors) == (before.encoding, before.errors)
        assert sys.stdout.fileno() == before.fileno()
        sys.stdout.writelines(["a", "b"])
        sys.stderr.write("c")
        with pytest.raises(TypeError, match="must be str, not bytes"):
            sys.stdout.write(b"d")  # type: ignore[arg-type]
        sys.stdout.close()
        sys.stdout.write("e")
    assert sys.stdout is before
    assert not before.closed
    assert log.close() == "abce"
    assert capfd.readouterr() == ("", "")


def test_a_stream_that_another_thread_may_be_writing_to_is_never_freed() -> None:
    """``print`` holds no reference to it."""
    streams = []
    for _ in range(2):
        with caught(Log(lambda: None)):
            streams.append(sys.stdout)
    assert streams[0] is streams[1]


def test_a_stream_that_somebody_put_back_is_no_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    before, log = sys.stdout, Log(lambda: None)
    with caught(Log(lambda: None)):
        seen = sys.stdout
    monkeypatch.setattr(sys, "stdout", seen)  # as ``redirect_stdout`` does that began within and ends after
    sys.stdout.write("")
    with caught(log):
        sys.stdout.write("text")
    assert log.close() == "text"
    assert sys.stdout is before


def test_of_a_long_log_the_middle_is_left_out() -> None:
    news: list[str] = []
    log = Log(lambda: news.append(log.news()))
    for _ in range(300):
        log.write("x" * (LOG_LIMIT // 10))
        log.news()
    log.write("end")
    text = log.close()
    assert news[-1] == "end"
    assert len(text) < LOG_LIMIT + 100
    assert text.startswith("xxx")
    assert "characters left out" in text
    assert text.endswith("end")


def test_what_is_told_of_a_running_function_is_short() -> None:
    log = Log(lambda: None)
    for _ in range(2):
        log.write("x" * LOG_LIMIT)
    assert len(log.news()) < NEWS_LIMIT + 100
    assert log.news() == ""


def test_what_makes_no_sense_as_a_capability_is_left_out() -> None:
    facts: Callable[..., Any] = partial(dict, nthreads=1, memory_limit=0)
    assert capabilities_of(facts(resources={"MEMORY": 70e9})) == {"cpu": 1, "memory": 70_000}
    assert capabilities_of(facts(resources={"a " * 40: 1, "": 1, "below": -1, "inf": float("inf"), "CPU": 3})) == {
        "cpu": 3
    }
