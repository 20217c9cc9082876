"""The parts of the Dask backend, without Dask: what they do when it is late, or loses something."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest

import handoff_lab as hl
from handoff_lab._errors import BackendError
from handoff_lab.backends.dask import backend as dask_backend
from handoff_lab.backends.dask import link as linking
from handoff_lab.backends.dask import remote
from handoff_lab.backends.dask.link import Link
from handoff_lab.backends.dask.output import LOG_LIMIT, NEWS_LIMIT, Log, caught
from handoff_lab.backends.dask.remote import Site
from handoff_lab.backends.dask.values import TRIES, Far, Values
from handoff_lab.backends.dask.workers import DaskWorker, capabilities_of
from handoff_lab.messages import Attempt, AttemptId, NodeLost, Started
from handoff_lab.resources import Resources
from handoff_lab.store.payload import Frames
from handoff_lab.transport.hello import own_versions

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


def test_a_scheduler_that_does_not_answer_is_said_to(link: Link) -> None:
    assert link.trouble == ""
    link.client.status = "connecting"
    assert link.trouble == "the Dask scheduler at tcp://scheduler does not answer, and is waited for"
    link.client.status = "closed"
    assert "is not waited for any more" in link.trouble


@pytest.mark.parametrize(
    ("options", "story"),
    [
        ({"address": "tcp://scheduler", "host": "1.2.3.4"}, "leave out host="),
        ({"address": 5}, "address is 5; it must be text such as 'tcp://"),
    ],
)
def test_what_makes_no_sense_with_dask_is_refused(options: dict[str, Any], story: str) -> None:
    with pytest.raises(ValueError, match=story):
        hl.Cluster(backend="dask", **options)


# -- workers that die ----------------------------------------------------------------------


class Unconnected:
    """A link to nothing: it keeps what is sent, and tells what it is told to."""

    trouble = ""

    def __init__(self, given: Any, loop: Any) -> None:
        self.loop = SimpleNamespace(call_later=lambda *call: None)
        loop_of_its_own = SimpleNamespace(add_callback=lambda callback: None)
        self.client = SimpleNamespace(scheduler=SimpleNamespace(identity=None), loop=loop_of_its_own)
        self.listeners: dict[str, Callable[[Any], None]] = {}
        self.sent: list[dict[str, Any]] = []
        self.stream = None

    def listen(self, topic: str, listener: Callable[[Any], None]) -> None:
        self.listeners[topic] = listener

    def wait(self, *question: Any) -> Any:
        return {"workers": {}}

    def ask(self, *question: Any) -> None:
        pass

    def calling(self, *call: Any, **options: Any) -> None:
        pass

    def close(self, farewell: Any) -> None:
        pass

    def submit(self, function: Any, message: bytes, *rest: Any, **options: Any) -> Any:
        self.sent.append(msgpack.unpackb(message, strict_map_key=False))
        return SimpleNamespace(release=lambda: None)

    def tell(self, *news: Any) -> None:
        """What a worker says of what was sent last."""
        self.listeners[self.sent[-1]["topic"]](msgpack.packb([self.sent[-1]["name"], *news]))


class Workplace:
    """A backend with two workers, and what it told."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.lots: list[int] = []  # of events that were told together
        self.backend = dask_backend.DaskBackend("tcp://scheduler")
        self.backend.open(None, self._take)  # type: ignore[arg-type]
        self.link: Any = self.backend._link
        for name in "ab":
            self.join(name)
        self.backend.load({"f": SimpleNamespace(value=None, pickled=lambda: b"")})

    def _take(self, events: Sequence[Any]) -> None:
        self.told += events
        self.lots.append(len(events))

    def join(self, name: str) -> None:
        self.backend.worker_joined(DaskWorker(name, f"tcp://{name}", 1, Resources({"cpu": 1}), "host", 1, {}))

    def submit(self, number: int, node: str) -> AttemptId:
        id = AttemptId("run", 0, number)
        self.backend.submit([Attempt(id, node, "f", ("f",))])
        return id

    def lose(self, name: str) -> list[Any]:
        """What is told then."""
        self.told.clear()
        self.backend.worker_lost(name, "it died", expected=False)
        self.backend.settle()
        return self.told


@pytest.fixture
def workplace(monkeypatch: pytest.MonkeyPatch) -> Workplace:
    monkeypatch.setattr(dask_backend, "import_distributed", lambda: None)
    monkeypatch.setattr(dask_backend, "Link", Unconnected)
    return Workplace()


def test_what_was_sent_to_a_worker_that_was_dead_already_did_not_begin(workplace: Workplace) -> None:
    """When both die at once, what ran on one is sent to the other before that is known."""
    first = workplace.submit(1, "a")
    workplace.link.tell("began", 0, 5.0)
    assert Started(first, 5.0, 0) in workplace.told
    assert workplace.lose("a") == [NodeLost("a", "it died", False)]
    workplace.submit(2, "b")
    assert workplace.lose("b") == [NodeLost("b", "it died", False)]


def test_what_ran_and_was_not_told_of_yet_began(workplace: Workplace) -> None:
    """Of a batch of brief functions no single start is told."""
    workplace.submit(1, "a")
    workplace.link.tell("rows", [[0, 1.0, 1.001, 1, [b"x"], "", None]])
    workplace.backend.submit([Attempt(AttemptId("run", i, 1), "a", "f", ("f",)) for i in range(1, 4)])
    workplace.link.tell("began", 0, 2.0)
    assert [type(event) for event in workplace.lose("a")] == [Started, NodeLost]


def test_what_may_have_killed_its_worker_is_told_of_surely_the_next_time(workplace: Workplace) -> None:
    for number in (1, 2):
        workplace.submit(number, "a")
        assert workplace.link.sent[-1]["surely"] == (number == 2)
        workplace.lose("a")
        workplace.join("a")


def test_workers_that_are_gone_together_are_told_of_together(workplace: Workplace) -> None:
    """So that nothing is sent from one to the other."""
    workers = workplace.backend._workers
    found = {f"tcp://{name}": {"name": name, "nthreads": 1} for name in "cd"}
    for address, facts in found.items():
        workers._join(address, facts, {"host": "host", "pid": 1, "versions": own_versions()})
    workplace.lots.clear()
    workers._compare({})
    assert workplace.lots == [2]
    assert [event.name for event in workplace.told[-2:]] == ["c", "d"]


def test_a_cluster_without_nodes_says_what_is_wrong(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    dag = hl.DAG("one").add(hl.Function("f", list))
    with hl.Cluster(backend="dask", address="tcp://scheduler", name="mine") as cluster:
        assert repr(cluster).startswith("<Cluster 'mine': no nodes; ")
        with pytest.raises(hl.AllocationError, match=r"no nodes; add workers to the Dask cluster \(cluster\.scale"):
            cluster.submit(dag)
        monkeypatch.setattr(Unconnected, "trouble", "the Dask scheduler does not answer")
        assert repr(cluster).startswith("<Cluster 'mine': no nodes, as the Dask scheduler does not answer; ")
        with pytest.raises(hl.AllocationError, match="no nodes; the Dask scheduler does not answer"):
            cluster.submit(dag)


# -- on the worker -------------------------------------------------------------------------


@contextmanager
def running(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.mark.parametrize("answers", [True, False])
def test_that_a_function_begins_is_known_before_it_does(answers: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may end its process at once; if Dask's scheduler can't be told surely, it runs all the same."""
    happened: list[Any] = []

    async def log_event(topic: str, msg: bytes) -> None:
        if not answers:
            raise OSError("it is not there")
        happened.append(msgpack.unpackb(msg)[1])

    def work(*given: Any) -> Frames:
        happened.append("runs")
        return Frames((b"result",))

    def send(topic: str, msg: bytes) -> None:
        happened.append(msgpack.unpackb(msg)[1])

    loop = asyncio.new_event_loop()
    worker = SimpleNamespace(
        loop=SimpleNamespace(asyncio_loop=loop), scheduler=SimpleNamespace(log_event=log_event), log_event=send
    )
    rows: Sequence[Any] = [["f", 0, None, None, []]]
    batch = {"name": "b", "topic": "t", "brief": False, "surely": True, "codes": {}, "age": 0, "calls": [[]]}
    monkeypatch.setattr(remote._Batch, "_work", work)
    with running(loop):
        remote._Batch({**batch, "rows": rows}, [], worker, Site()).run()
    assert happened == ["began", "runs", "rows"]


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
