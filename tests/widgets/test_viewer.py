"""What a viewer tells of real runs, and how it answers."""

import csv
import gc
import io
import json
import threading
import weakref

import pytest

import handoff_lab as hl
from handoff_lab.backends.base import Feature
from handoff_lab.widgets import answer
from handoff_lab.widgets.viewer import Viewer
from tests.others import soon


class Page:
    """Stands for a browser: keeps what it is told."""

    def __init__(self, subject=None, **options):
        self.published, self.sent, self.settled = [], [], threading.Event()
        self.viewer = Viewer(
            publish=lambda name, value: self.published.append((name, json.loads(json.dumps(value)))),
            send=lambda message: self.sent.append(json.loads(json.dumps(message))),
            settled=self.settled.set,
            **options,
        )
        if subject is not None:
            self.viewer.show(subject)

    def latest(self, name):
        return next(value for published, value in reversed(self.published) if published == name)

    @property
    def patches(self):
        return [message for message in self.sent if message["type"] == "patch"]

    def ask(self, **request):
        self.viewer.receive({"type": "request", "id": 7, "request": request})
        reply = next(message for message in reversed(self.sent) if message["type"] == "reply")
        assert reply["id"] == 7
        assert ("value" in reply) != ("error" in reply)
        return reply


class Notebook:
    def __init__(self, run_again=None):
        self.out_of_date = ()
        self.run_again = run_again
        self.adopted = []

    def stale(self):
        return self.out_of_date

    def rerun_stale(self):
        return self.run_again()

    def adopt(self, before, run):
        self.adopted.append((before, run))

    def place(self, id):
        return ("cell-1", "In [3]") if id == "src" else None


@pytest.fixture(scope="module")
def cluster():
    with hl.Cluster({"alpha": {"cpu": 2}, "beta": {"cpu": 2}}, backend="local") as made:
        yield made


@pytest.fixture
def page():
    pages = []

    def make(*arguments, **options):
        pages.append(Page(*arguments, **options))
        return pages[-1]

    yield make
    for made in pages:
        made.viewer.close()


def graph(gate=None, fails=False):
    def src():
        if gate is not None:
            assert gate.wait(60)
        return 2

    def bad(src):
        if fails:
            raise ValueError("it is\nwrong")
        return src

    return hl.DAG("g").add(
        hl.Function("src", src, cost={"cpu": 1}),
        hl.Function("bad", bad, ["src"], max_retries=0, group="g1"),
        hl.Function("end", lambda bad: bad + 1, ["bad"], group="g1"),
    )


def test_a_dag_is_shown_without_a_run(page):
    shown = page(graph())
    assert shown.latest("structure")["ids"] == ["src", "bad", "end"]
    assert (shown.latest("state")["status"], shown.latest("state")["run"]) == ("www", None)
    assert shown.latest("state")["key"] == shown.latest("structure")["key"]
    assert shown.settled.is_set()
    assert "not run yet" in shown.ask(do="cancel")["error"]


def test_a_run_is_told_to_its_end_and_no_thread_is_left(page, cluster, gate):
    run = cluster.submit(graph(gate))
    shown = page(run)
    feed = shown.viewer._feed._thread
    assert shown.latest("state")["run"]["status"] == "running"
    assert not shown.settled.is_set()
    gate.set()
    assert shown.settled.wait(60)
    feed.join(60)
    assert not feed.is_alive()
    state = shown.latest("state")
    assert (state["status"], state["run"]["status"]) == ("ddd", "done")
    assert state["run"]["cannot"]["failed"] == "nothing failed"
    assert [patch["seq"] for patch in shown.patches] == list(range(2, state["seq"] + 1))
    assert all(node["resources"]["cpu"]["claimed"] == 0 for node in state["nodes"])


def test_a_page_that_comes_later_gets_the_state_of_the_patches_so_far(page, cluster, gate):
    shown = page(cluster.submit(graph(gate)))
    assert shown.ask(do="state")["value"] is None
    assert shown.published[-2][0] == "structure"
    assert shown.latest("state")["seq"] == shown.viewer.snapshot()["seq"]


def test_a_run_is_cancelled_from_another_thread_than_its_cell_s(page, cluster, gate):
    run = cluster.submit(graph(gate))
    shown = page(run)
    text = json.dumps({"type": "request", "id": 1, "request": {"do": "cancel"}})
    beside = threading.Thread(target=answer, args=(shown.viewer.key, text))
    beside.start()
    beside.join(60)
    gate.set()
    assert shown.settled.wait(60)
    assert run.status == "cancelled"
    assert shown.latest("state")["run"]["cannot"]["cancel"] == "the run is over"
    assert "the run is over" in shown.ask(do="cancel")["error"]


def test_what_a_backend_cannot_do_to_a_function_that_runs_is_told_as_long_as_it_runs(page, cluster, gate):
    run = cluster.submit(graph(gate))
    run.news.lacks = {Feature.INTERRUPT: "it interrupts nothing", Feature.ADD_NODES: "it starts its nodes itself"}
    shown = page(run)
    assert shown.latest("state")["run"]["cannot"]["interrupt"] == "it interrupts nothing"
    assert "starts its nodes" not in str(shown.latest("state"))
    assert all("it interrupts nothing" in run._repr_mimebundle_()[what] for what in ("text/plain", "text/html"))
    gate.set()
    assert shown.settled.wait(60)
    assert "interrupt" not in shown.latest("state")["run"]["cannot"]
    assert all("interrupts" not in told for told in run._repr_mimebundle_().values())


def test_a_failure_is_told_and_the_rest_is_run_again_in_its_place(page, cluster):
    run = cluster.execute(graph(fails=True), raise_on_error=False)
    shown = page(run)
    state = shown.latest("state")
    assert (state["status"][:2], state["errors"]) == ("df", {"1": "ValueError: it is"})
    assert state["run"]["error"].startswith("function 'bad' failed")
    assert "failed" not in state["run"]["cannot"]
    shown.viewer.notebook = book = Notebook()
    assert shown.ask(do="rerun", what="failed")["value"] is None
    again = shown.viewer.run
    assert book.adopted == [(run, again)]
    assert again is not run
    assert shown.settled.wait(60)
    shown.viewer.join(60)
    assert shown.latest("state")["run"]["id"] == again.id
    assert shown.latest("state")["status"][:2] == "cf"


@pytest.mark.parametrize(("what", "status"), [("function", "cdc"), ("from", "cdd")])
def test_a_function_is_run_again_alone_or_with_what_depends_on_it(page, cluster, what, status):
    shown = page(cluster.execute(graph()))
    assert shown.ask(do="rerun", what=what, function=1)["value"] is None
    shown.viewer.run.wait(60)
    shown.viewer.join(60)
    assert shown.latest("state")["status"] == status


def test_stale_functions_are_marked_and_run_by_the_notebook(page, cluster):
    dag = graph()
    run = cluster.execute(dag)
    book = Notebook(lambda: run.rerun("bad", descendants=True))
    shown = page(run, notebook=book)
    assert shown.latest("state")["run"]["cannot"]["stale"] == "every result is up to date"
    book.out_of_date = ("bad", "end")
    shown.viewer.refresh()
    assert shown.patches[-1]["stale"] == [1, 2]
    assert "stale" not in shown.patches[-1]["run"]["cannot"]
    assert shown.ask(do="rerun", what="stale")["value"] is None
    assert shown.viewer.run is not run
    assert shown.ask(do="goto", function=0)["value"] == {"id": "cell-1", "label": "In [3]"}
    assert "no cell" in shown.ask(do="goto", function=1)["error"]


def test_a_click_on_a_run_that_is_not_shown_any_more_does_nothing_to_the_next(page, cluster):
    gate = threading.Event()
    first, second = cluster.execute(graph()), cluster.submit(graph(gate))
    shown = page(second)
    shown.viewer.receive({"type": "request", "id": 8, "run": first.id, "request": {"do": "cancel"}})
    assert "shown by now" in shown.sent[-1]["error"]
    gate.set()
    assert second.wait(60).status == "done"


def test_a_run_with_targets_is_shown_as_the_part_that_they_need(page, cluster):
    shown = page(cluster.execute(graph(), "bad"))
    assert shown.latest("structure")["ids"] == ["src", "bad"]
    assert shown.latest("state")["status"] == "dd"


def test_a_run_that_was_let_go_is_shown_until_nobody_holds_it_and_after(page, cluster):
    run = cluster.execute(graph())
    shown = page(run, notebook=Notebook())
    shown.viewer.let_go()
    assert shown.ask(do="details", function=0)["value"]["result"]["text"]
    gone = weakref.ref(run.results)
    del run
    soon(lambda: gc.collect() is not None and gone() is None)
    assert "not kept" in shown.ask(do="rerun", what="failed")["error"]
    shown.viewer.refresh()
    assert shown.viewer.snapshot()["status"] == "ddd"


def test_a_run_that_is_let_go_at_its_end_was_told_to_its_end(page, cluster, gate):
    run = cluster.submit(graph(gate))
    shown = page()
    run.when_over(shown.viewer.let_go)  # before the feed hears of the end
    shown.viewer.show(run)
    gate.set()
    assert shown.settled.wait(60)
    assert shown.latest("state")["run"]["status"] == "done"


def test_a_run_that_goes_on_is_not_let_go(page, cluster, gate):
    shown = page(cluster.submit(graph(gate)))
    shown.viewer.let_go()
    gc.collect()
    gate.set()
    assert shown.settled.wait(60)
    assert shown.viewer.run.results["end"] == 3


@pytest.mark.parametrize("alone", [False, True])
def test_a_run_with_targets_is_planned_and_numbered_as_the_part_that_they_need(page, cluster, alone):
    dag = hl.DAG("g").add(
        hl.Function("other", lambda: 1, duration=1.0, cost={"gpu": 1}),
        hl.Function("near", lambda: 1, duration=1.0),
        hl.Function("src", lambda: 1, duration=1.0, node=hl.collocated("near") if alone else None),
        hl.Function("end", lambda src: src + 1, ["src"], duration=1.0),
    )
    shown = page(cluster.execute(dag, ["end"]))
    assert shown.latest("structure")["ids"] == ["src", "end"]
    assert shown.latest("state")["plan"]["end"] == [1.0, 2.0]
    told = shown.ask(do="details", function=1)["value"]
    assert (told["function"], told["inputs"][0]["function"]) == (1, 0)


def test_a_run_that_cannot_be_predicted_any_more_is_shown_without_a_plan(page):
    with hl.Cluster({"alpha": {"cpu": 2}}, backend="local") as cluster:
        dag = hl.DAG("g").add(hl.Function("f", lambda: 1, duration=1.0, cost={"cpu": 2}))
        run = cluster.execute(dag)
    run.record.capabilities["alpha"] = {"cpu": 1.0}
    shown = page(run)
    assert (shown.latest("state")["status"], shown.latest("state")["plan"]) == ("d", None)


def test_what_failed_is_not_run_as_it_was_once_cells_were_edited(page, cluster):
    book = Notebook()
    book.out_of_date = ("bad", "end")
    shown = page(cluster.execute(graph(fails=True), raise_on_error=False), notebook=book)
    cannot = shown.latest("state")["run"]["cannot"]
    assert "Run stale" in cannot["failed"]
    assert "stale" not in cannot


def test_nothing_of_a_closed_cluster_can_be_run_again(page):
    book = Notebook()
    book.out_of_date = ("bad",)
    with hl.Cluster({"alpha": {"cpu": 2}}, backend="local") as cluster:
        run = cluster.execute(graph(fails=True), raise_on_error=False)
    cannot = page(run, notebook=book).latest("state")["run"]["cannot"]
    assert all("cluster was closed" in cannot[verb] for verb in ("rerun", "failed", "stale"))


def test_a_fold_is_another_structure_of_the_same_run(page, cluster):
    shown = page(cluster.execute(graph()))
    before = shown.latest("structure")
    assert shown.ask(do="fold", groups=[0])["value"] is None
    after = shown.latest("structure")
    assert after["layout"]["folded"] == [0]
    assert after["key"] != before["key"]
    assert shown.latest("state")["key"] == after["key"]
    assert "list of numbers" in shown.ask(do="fold", groups="g1")["error"]


def test_everything_can_be_exported(page, cluster):
    shown = page(cluster.execute(graph()))
    found = {format: shown.ask(do="export", format=format)["value"] for format in ("svg", "html", "csv", "json")}
    assert found["svg"]["text"].startswith("<svg")
    assert found["html"]["text"].startswith("<!doctype html>")
    assert [row["function"] for row in csv.DictReader(io.StringIO(found["csv"]["text"]))] == ["src", "bad", "end"]
    assert json.loads(found["json"]["text"])["state"]["status"] == "ddd"
    assert found["csv"]["name"] == f"g-{shown.viewer.run.id}.csv"
    assert "no format 'pdf'" in shown.ask(do="export", format="pdf")["error"]


def test_details_are_those_of_the_function_asked_for(page, cluster):
    shown = page(cluster.execute(graph()))
    value = shown.ask(do="details", function=2)["value"]
    assert (value["function"], value["id"]) == (2, "end")


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ({"type": "request", "id": 7, "request": {"do": "dance"}}, "no verb 'dance'"),
        ({"type": "request", "id": 7, "request": {"do": "details", "function": 99}}, "no function number 99"),
        ({"type": "request", "id": 7, "request": {"do": "details", "function": "0"}}, "no function number '0'"),
        ({"type": "request", "id": 7, "request": {"do": "rerun", "what": "all"}}, "'all' cannot be run again"),
        ({"type": "request", "id": 7, "request": {"do": "rerun", "what": "stale"}}, "%%handoff"),
        ({"type": "request", "id": 7}, "no request"),
        ({"id": 7, "request": {"do": "state"}}, "no request"),
    ],
)
def test_what_cannot_be_done_is_answered_with_the_reason(page, message, told):
    shown = page(graph())
    shown.viewer.receive(message)
    reply = shown.sent[-1]
    assert (reply["type"], reply["id"]) == ("reply", 7)
    assert told in reply["error"]


def test_an_error_without_words_is_still_an_answer(page):
    class Mute(Notebook):
        def place(self, id):
            raise KeyError

    shown = page(graph(), notebook=Mute())
    assert shown.ask(do="goto", function=0)["error"] == "KeyError"


def test_a_page_that_cannot_be_told_does_not_hurt_the_run(cluster):
    def broken(*_):
        raise OSError("no comm")

    settled = threading.Event()
    run = cluster.submit(graph())
    viewer = Viewer(run, publish=broken, send=broken, settled=settled.set)
    assert run.wait(60).status == "done"
    assert settled.wait(60)
    viewer.close()


def test_one_that_was_closed_tells_nothing_and_lets_the_run_go(page, cluster, gate):
    run = cluster.submit(graph(gate))
    shown = page(run)
    feed = shown.viewer._feed._thread
    shown.viewer.close()
    shown.viewer.close()
    assert not feed.is_alive()
    told = len(shown.sent), len(shown.published)
    gate.set()
    run.wait(60)
    shown.viewer.show(run)
    shown.viewer.receive({"type": "request", "id": 7, "request": {"do": "state"}})
    assert (len(shown.sent), len(shown.published)) == told
    results = weakref.ref(run.results)
    del run
    soon(lambda: gc.collect() is not None and results() is None)
