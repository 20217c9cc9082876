"""Runs of many functions are drawn by the feed, once they bear the cost; others at once."""

import threading
import time
from types import SimpleNamespace

import pytest

import handoff_lab as hl
from handoff_lab.telemetry import RunRecord
from handoff_lab.widgets import broadcast
from handoff_lab.widgets.broadcast import Broadcast, Outlet
from handoff_lab.widgets.viewer import Viewer

MANY = 300


class Page:
    """Keeps what it is told."""

    def __init__(self):
        self.published, self.sent = [], []
        self.outlet = Outlet(
            threading.RLock(),
            lambda name, value: self.published.append((name, value)),
            self.sent.append,
            lambda run: {},
            lambda: None,
        )

    def names(self):
        return [(name, value is not None) for name, value in self.published]


def run_of(dag, **record):
    return SimpleNamespace(
        id="r", part=dag, status="running", record=RunRecord(**record), plan=None, exception=lambda: None
    )


@pytest.fixture
def page():
    return Page()


def test_few_are_drawn_at_once(page, fan):
    shown = Broadcast(run_of(fan(3)), page.outlet)
    assert shown.structure["ids"] == ["src", "f0", "f1", "f2"]
    assert shown.patience_s == 0.0
    shown.publish()
    shown.tell(meters=True)
    assert page.names() == [("structure", True), ("state", True)]


def test_many_are_drawn_with_the_first_news(page, fan):
    shown = Broadcast(run_of(fan(MANY)), page.outlet, stale=["f0"])
    shown.publish()
    assert page.names() == [("structure", False), ("state", False)]
    assert len(shown.ids) == MANY + 1
    shown.mark_stale(["f1"])
    shown.tell(meters=True)
    shown.tell(meters=True)
    assert page.names()[2:] == [("structure", True), ("state", True)]
    (_, structure), (_, state) = page.published[2:]
    assert structure["key"] == state["key"]
    assert (len(structure["ids"]), state["stale"]) == (MANY + 1, [2])
    assert page.sent == []


@pytest.mark.parametrize("subject", ["dag", "over"])
def test_what_does_not_go_on_is_drawn_at_once(page, fan, subject):
    run = run_of(fan(MANY), status="done")
    run.status = "done"
    assert Broadcast(run if subject == "over" else run.part, page.outlet).structure is not None


def test_a_run_that_has_gone_on_for_long_bears_the_cost_of_its_picture(page, fan, monkeypatch):
    dag, more = fan(MANY), fan(20_000)
    monkeypatch.setattr(broadcast, "time", SimpleNamespace(time=lambda: 100.0, monotonic=time.monotonic))
    assert Broadcast(run_of(dag, started=40.0), page.outlet).patience_s == 0.0
    brief, long = (Broadcast(run_of(each, started=100.0), page.outlet).patience_s for each in (dag, more))
    assert 0.0 < brief < long <= 0.5


def test_what_is_asked_for_before_is_drawn_and_the_page_still_gets_it(page, fan):
    shown = Broadcast(run_of(fan(MANY), started=1.0), page.outlet)
    shown.fold([])
    assert shown.snapshot()["key"] == shown.structure["key"]
    shown.tell(meters=True)
    assert page.names() == [("structure", True), ("state", True)]


def test_nobody_waits_for_the_picture_of_many(gate, monkeypatch):
    makers = []

    def made(dag, folded=()):
        makers.append(threading.current_thread())
        return structure_of(dag, folded)

    structure_of = broadcast.structure_of
    monkeypatch.setattr(broadcast, "structure_of", made)
    monkeypatch.setattr(broadcast, "_PICTURE_OF_EACH_S", 3600.0)
    monkeypatch.setattr(broadcast, "_LONGEST_PATIENCE_S", 3600.0)  # so long only because it is over at some time
    dag = hl.DAG("d").add(hl.Function("src", lambda: gate.wait(60)))
    dag.add(*(hl.Function(f"f{i}", lambda src: src, ["src"]) for i in range(MANY)))
    settled = threading.Event()
    published = {}
    with hl.Cluster({"alpha": {"cpu": 2}}, backend="local") as cluster:
        run = cluster.submit(dag)
        viewer = Viewer(run, publish=published.__setitem__, send=lambda message: None, settled=settled.set)
        assert (viewer.structure, viewer.snapshot(), published) == (None, None, {"structure": None, "state": None})
        assert len(viewer.ids) == MANY + 1
        feed = viewer._feed._thread
        gate.set()
        run.wait(60)
        assert settled.wait(60)
        viewer.close()
    assert makers == [feed]
    assert published["state"]["status"] == "d" * (MANY + 1)
    assert published["state"]["key"] == published["structure"]["key"]


def test_a_file_has_the_picture_although_no_page_has(gate, monkeypatch):
    monkeypatch.setattr(broadcast, "_LONGEST_PATIENCE_S", 3600.0)
    monkeypatch.setattr(broadcast, "_PICTURE_OF_EACH_S", 3600.0)
    dag = hl.DAG("d").add(hl.Function("src", lambda: gate.wait(60)))
    dag.add(*(hl.Function(f"f{i}", lambda src: src, ["src"]) for i in range(MANY)))
    with hl.Cluster({"alpha": {"cpu": 2}}, backend="local") as cluster:
        viewer = Viewer(cluster.submit(dag), publish=lambda *told: None, send=lambda message: None)
        everything = viewer.everything()
        viewer.close()
        gate.set()
    assert len(everything["structure"]["ids"]) == len(everything["state"]["status"]) == MANY + 1
