"""The kernel's side of JupyterLab's panel: what a browser hears, and what it may say."""

from __future__ import annotations

import gc
import json
import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from jupyter_client.manager import start_new_kernel

import handoff_lab as hl
from handoff_lab.telemetry import events as names
from handoff_lab.widgets import answer, panel
from handoff_lab.widgets.overview import MOST_FUNCTIONS, NodeRows, RunRows, function_rows
from handoff_lab.widgets.panel_comm import Panel

PATIENCE_S = 60.0


class Browser:
    """The other end of a comm: keeps what it hears, as the extension does."""

    def __init__(self, comm_id: str = "comm-1") -> None:
        self.comm_id = comm_id
        self.is_open = True
        self.overview: dict[str, Any] = {}
        self.latest: dict[str, Any] = {}
        self.heard: list[dict[str, Any]] = []
        self._changed = threading.Condition()

    # -- the comm, as the kernel sees it

    def send(self, data: dict[str, Any]) -> None:
        message = json.loads(json.dumps(data))
        with self._changed:
            self.heard.append(message)
            kind = message["type"]
            if kind == "overview":
                self.overview = ({} if message["whole"] else self.overview) | message["overview"]
            elif kind in {"structure", "state"}:
                self.latest[kind] = message[kind]
            self._changed.notify_all()

    def close(self) -> None:
        self.is_open = False

    def on_msg(self, callback: Callable[[dict[str, Any]], None]) -> None:
        self._callback = callback

    def on_close(self, callback: Callable[[dict[str, Any]], None]) -> None:
        self.leave = callback

    # -- the page

    def says(self, **message: Any) -> None:
        self._callback({"content": {"data": message}})

    def waits(self, condition: Callable[[], Any]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, PATIENCE_S), f"heard only {self.heard}"

    def count(self, kind: str) -> int:
        return sum(message["type"] == kind for message in self.heard)


class Notebook:
    def __init__(self) -> None:
        self.dag = hl.DAG("notebook").add(
            hl.Function("load", lambda: 1), hl.Function("agg", lambda x: x + 1, args=["load"])
        )
        self.out_of_date: tuple[str, ...] = ()
        self.asked = 0

    def stale(self) -> tuple[str, ...]:
        self.asked += 1
        return self.out_of_date

    def rerun_stale(self) -> hl.Run:
        raise NotImplementedError

    def adopt(self, before: hl.Run, run: hl.Run) -> None:
        raise NotImplementedError

    def place(self, id: object) -> tuple[str | None, str] | None:
        return ("cell-7", "In [3]") if id == "load" else None


@pytest.fixture
def browser() -> Browser:
    return Browser()


@pytest.fixture
def offered(browser: Browser) -> Iterator[Panel]:
    offered = Panel(lambda: browser)
    yield offered
    offered.close()
    assert not browser.is_open
    assert not [thread for thread in threading.enumerate() if thread.name == "handoff panel"]


@pytest.fixture
def cluster() -> Iterator[hl.Cluster]:
    with hl.Cluster({"alpha": {"cpu": 2}, "beta": {"cpu": 1, "memory": 500}}, backend="local") as cluster:
        yield cluster


def test_nothing_is_said_before_a_hello(offered: Panel, browser: Browser, cluster: hl.Cluster) -> None:
    offered.show(cluster, Notebook())
    cluster.execute(Notebook().dag)
    assert browser.heard == []
    assert not [thread for thread in threading.enumerate() if thread.name == "handoff panel"]


def test_a_hello_is_answered_by_everything(offered: Panel, browser: Browser, cluster: hl.Cluster) -> None:
    offered.show(cluster, Notebook())
    browser.says(type="hello")
    browser.waits(lambda: "state" in browser.latest)
    assert browser.heard[0]["whole"]
    assert [(node["name"], node["status"]) for node in browser.overview["nodes"]] == [("alpha", "up"), ("beta", "up")]
    assert browser.overview["nodes"][1]["resources"]["memory"]["capability"] == 500
    assert browser.overview["functions"] == [
        {"id": "load", "status": None, "node": None, "stale": False, "place": {"id": "cell-7", "label": "In [3]"}},
        {"id": "agg", "status": None, "node": None, "stale": False, "place": None},
    ]
    assert (browser.overview["runs"], browser.overview["following"]) == ([], None)
    assert browser.latest["structure"]["ids"] == ["load", "agg"]
    assert browser.latest["state"]["run"] is None


def test_a_run_is_followed_to_its_end(offered: Panel, browser: Browser, cluster: hl.Cluster) -> None:
    notebook = Notebook()
    offered.show(cluster, notebook)
    browser.says(type="hello")
    browser.waits(lambda: browser.overview)
    run = cluster.execute(notebook.dag)
    browser.waits(lambda: [row["status"] for row in browser.overview["runs"]] == ["done"])
    browser.waits(lambda: (browser.latest["state"] or {}).get("run"))
    (row,) = browser.overview["runs"]
    assert (row["id"], row["done"], row["failed"], row["running"], row["total"]) == (run.id, 2, 0, 0, 2)
    assert browser.overview["following"] == run.id == browser.latest["state"]["run"]["id"]
    assert [function["status"] for function in browser.overview["functions"]] == ["d", "d"]


def test_an_older_run_can_be_followed(offered: Panel, browser: Browser, cluster: hl.Cluster) -> None:
    older, newer = cluster.execute(Notebook().dag), cluster.execute(Notebook().dag)
    offered.show(cluster)
    browser.says(type="hello")
    browser.waits(lambda: browser.overview.get("following") == newer.id)
    browser.says(type="follow", run=older.id)
    browser.waits(lambda: browser.overview["following"] == older.id)
    browser.waits(lambda: browser.latest["state"]["run"]["id"] == older.id)
    assert [row["id"] for row in browser.overview["runs"]] == [newer.id, older.id]


def test_requests_are_answered_also_beside_the_comm(offered: Panel, browser: Browser, cluster: hl.Cluster) -> None:
    run = cluster.execute(Notebook().dag)
    offered.show(cluster)
    answer(browser.comm_id, json.dumps({"type": "hello"}))
    browser.waits(lambda: "state" in browser.latest)
    request = {"type": "request", "id": 5, "request": {"do": "details", "function": 0}}
    browser.says(**request)
    answer(browser.comm_id, json.dumps({**request, "id": 6}))
    browser.waits(lambda: browser.count("reply") == 2)
    replies = [message for message in browser.heard if message["type"] == "reply"]
    assert [(reply["id"], reply["value"]["id"]) for reply in replies] == [(5, "load"), (6, "load")]
    del run


def test_a_request_before_anything_is_shown_is_answered(offered: Panel, browser: Browser) -> None:
    offered.show()
    browser.says(type="request", id=5, request={"do": "details", "function": 0})
    assert browser.heard == [{"type": "reply", "id": 5, "error": "nothing is shown yet"}]


def test_a_rerun_that_fails_leaves_the_chosen_run_in_view(
    offered: Panel, browser: Browser, cluster: hl.Cluster
) -> None:
    older, newer = cluster.execute(Notebook().dag), cluster.execute(Notebook().dag)
    offered.show(cluster)
    browser.says(type="hello")
    browser.says(type="follow", run=older.id)
    browser.waits(lambda: (browser.latest.get("state") or {}).get("run", {}).get("id") == older.id)
    browser.says(type="request", id=5, request={"do": "rerun", "what": "function", "function": 99})
    assert "no function number 99" in browser.heard[-1]["error"]
    cluster.add_node({"cpu": 1}, name="gamma")
    browser.waits(lambda: len(browser.overview["nodes"]) == 3)
    assert browser.overview["following"] == older.id
    browser.says(type="request", id=6, request={"do": "rerun", "what": "function", "function": 0})
    browser.waits(lambda: browser.overview["following"] not in (older.id, newer.id))


def test_a_panel_without_a_comm_hurts_nobody(cluster: hl.Cluster) -> None:
    def none() -> Browser:
        raise RuntimeError("no kernel")

    offered = Panel(none)
    offered.show(cluster)
    assert offered.key == ""
    offered.close()


def test_a_panel_that_is_closed_hears_no_run(browser: Browser, cluster: hl.Cluster) -> None:
    gate = threading.Event()
    offered = Panel(lambda: browser)
    offered.show(cluster)
    browser.says(type="hello")
    run = cluster.submit(hl.DAG("waiting").add(hl.Function("wait", gate.wait, extra_args=[PATIENCE_S])))
    try:
        browser.waits(lambda: browser.heard and browser.overview["following"] == run.id)
        assert run.news._listeners
        offered.close()
        assert not run.news._listeners
    finally:
        gate.set()
    run.wait()


def test_only_what_changed_is_told(offered: Panel, browser: Browser, cluster: hl.Cluster) -> None:
    offered.show(cluster, Notebook())
    browser.says(type="hello")
    browser.waits(lambda: "state" in browser.latest)
    cluster.add_node({"cpu": 1}, name="gamma")
    browser.waits(lambda: len(browser.overview["nodes"]) == 3)
    later = [message for message in browser.heard if message["type"] == "overview"][1:]
    assert later
    assert all(message["overview"].keys() == {"nodes"} and not message["whole"] for message in later)


def test_a_second_page_hears_everything_too(offered: Panel, browser: Browser, cluster: hl.Cluster) -> None:
    offered.show(cluster, Notebook())
    browser.says(type="hello")
    browser.waits(lambda: browser.count("state") == 1)
    browser.says(type="hello")
    browser.waits(lambda: browser.count("state") == 2)
    whole = [message["overview"] for message in browser.heard if message["type"] == "overview" and message["whole"]]
    assert len(whole) == 2
    assert whole[0].keys() == whole[1].keys() >= {"nodes", "runs", "functions"}


def test_an_edited_cell_makes_functions_stale(offered: Panel, browser: Browser) -> None:
    notebook = Notebook()
    offered.show(session=notebook)
    browser.says(type="hello")
    browser.waits(lambda: "state" in browser.latest)
    before = notebook.asked
    notebook.out_of_date = ("agg",)
    offered.look_again()
    browser.waits(lambda: [row["stale"] for row in browser.overview["functions"]] == [False, True])
    assert notebook.asked == before + 1  # fingerprints of the whole graph are not taken twice for one cell


def test_a_new_function_is_drawn(offered: Panel, browser: Browser) -> None:
    notebook = Notebook()
    offered.show(session=notebook)
    browser.says(type="hello")
    browser.waits(lambda: "state" in browser.latest)
    notebook.dag.add(hl.Function("more", lambda x: x, args=["agg"]))
    offered.look_again()
    browser.waits(lambda: browser.latest["structure"]["ids"] == ["load", "agg", "more"])


def test_results_of_a_run_that_is_over_are_not_kept(offered: Panel, browser: Browser, cluster: hl.Cluster) -> None:
    offered.show(cluster)
    browser.says(type="hello")
    run = cluster.execute(Notebook().dag)
    browser.waits(lambda: [row["status"] for row in browser.overview.get("runs", [])] == ["done"])
    gone = weakref.ref(run)
    del run
    deadline = time.monotonic() + PATIENCE_S
    while gone() is not None and time.monotonic() < deadline:
        gc.collect()
    assert gone() is None
    browser.waits(lambda: browser.overview["runs"] == [])  # without any other event
    browser.waits(lambda: browser.latest["structure"] is None)


def test_a_cluster_is_not_kept(offered: Panel, browser: Browser) -> None:
    cluster = hl.Cluster({"alpha": {"cpu": 1}}, backend="local")
    offered.show(cluster)
    browser.says(type="hello")
    browser.waits(lambda: "structure" in browser.latest)
    gone = weakref.ref(cluster)
    cluster.close()
    del cluster
    deadline = time.monotonic() + PATIENCE_S
    while gone() is not None and time.monotonic() < deadline:
        gc.collect()
    assert gone() is None


def test_a_comm_that_a_page_closed_is_opened_again() -> None:
    browsers = [Browser("one"), Browser("two")]
    opened = iter(browsers)
    offered = Panel(lambda: next(opened))
    try:
        offered.show()
        assert offered.key == "one"
        browsers[0].leave({})
        offered.show()
        assert offered.key == "two"
        browsers[1].says(type="hello")
        browsers[1].waits(lambda: browsers[1].overview)
    finally:
        offered.close()
    assert browsers[0].heard == []


def test_nothing_is_offered_outside_of_a_kernel() -> None:
    panel.offer(session=Notebook())
    assert panel._panels == []
    panel.withdraw()


# -- rows --------------------------------------------------------------------------


def test_many_functions_are_cut() -> None:
    dag = hl.DAG().add(hl.Function("x", type="input"), *(hl.Function(i, lambda: 0) for i in range(MOST_FUNCTIONS + 7)))
    rows, more = function_rows(dag, None, frozenset({3}), lambda _: None)
    assert (len(rows), more) == (MOST_FUNCTIONS, 7)
    assert (rows[0]["id"], rows[3]["stale"], rows[4]["stale"]) == ("0", True, False)


def test_a_map_has_the_most_urgent_status_of_its_chunks(cluster: hl.Cluster) -> None:
    dag = hl.DAG().add(hl.Function("f", lambda x: 1 // (x - 3), over=range(6), chunksize=2, max_retries=0))
    run = cluster.execute(dag, on_error="continue", raise_on_error=False)
    rows, _ = function_rows(dag, run, frozenset(), lambda _: None)
    assert [(row["id"], row["status"]) for row in rows] == [("f", "f")]
    done = cluster.execute(hl.DAG().add(hl.Function("f", abs, over=range(6), node="alpha")))
    rows, _ = function_rows(dag, done, frozenset(), lambda _: None)
    assert [(row["status"], row["node"]) for row in rows] == [("d", "alpha")]


def test_what_is_over_is_counted_once(cluster: hl.Cluster) -> None:
    run = cluster.execute(Notebook().dag)
    rows = RunRows()
    first = rows.of([run])
    assert rows.of([run])[0] is first[0]


def test_a_lost_node_is_shown_until_the_next_run() -> None:
    rows = NodeRows()
    with hl.Cluster({"alpha": {"cpu": 1}, "beta": {"cpu": 1}}, backend="local") as cluster:
        nodes = dict(cluster.nodes)
    rows.of(nodes)
    rows.hear(names.NODE_DOWN, {"time": 12.0}, {"node": "beta", "reason": "it was killed"})
    lost = rows.of({"alpha": nodes["alpha"]})[1]
    assert (lost["name"], lost["letter"], lost["status"]) == ("beta", "B", "lost")
    assert lost["lost"] == {"at": 12.0, "reason": "it was killed", "moved": []}
    rows.hear(names.RUN_START, {"time": 13.0}, {"capabilities": {"alpha": {"cpu": 1}}})
    assert [node["name"] for node in rows.of({"alpha": nodes["alpha"]})] == ["alpha"]


def test_what_a_node_really_uses_is_shown() -> None:
    rows = NodeRows()
    with hl.Cluster({"alpha": {"cpu": 2, "memory": 500}}, backend="local") as cluster:
        nodes = dict(cluster.nodes)
    rows.of(nodes)
    rows.hear(names.RESOURCE_UTILIZATION, {"cpu_percent": 150.0, "memory": 20e6}, {"node": "alpha"})
    (alpha,) = rows.of(nodes)
    assert {name: resource["used"] for name, resource in alpha["resources"].items()} == {"cpu": 1.5, "memory": 20.0}


# -- a real kernel -------------------------------------------------------------------


@pytest.mark.real
def test_a_kernel_opens_one_comm_and_leaves_without_a_word() -> None:
    manager, client = start_new_kernel(extra_arguments=["--log-level=ERROR"])
    try:
        offer = "from handoff_lab.widgets import panel\npanel.offer()\npanel.offer()"
        opened = [m["content"] for m in _iopub(client, offer) if m["msg_type"] == "comm_open"]
        assert [content["target_name"] for content in opened] == [panel.TARGET]
        _say(client, opened[0]["comm_id"], {"type": "hello"})
        heard = client.get_iopub_msg(timeout=PATIENCE_S)
        while heard["msg_type"] != "comm_msg":
            heard = client.get_iopub_msg(timeout=PATIENCE_S)
        assert heard["content"]["data"]["overview"]["runs"] == []
        client.shutdown()
        assert "comm_close" not in {message["msg_type"] for message in _rest(client, manager)}
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def _iopub(client: Any, code: str) -> list[dict[str, Any]]:
    """What the kernel publishes while it runs a cell."""
    request = client.execute(code)
    messages = [client.get_iopub_msg(timeout=PATIENCE_S)]
    while not _is_idle(messages[-1], request):
        messages.append(client.get_iopub_msg(timeout=PATIENCE_S))
    assert "error" not in {message["msg_type"] for message in messages}
    return messages


def _is_idle(message: dict[str, Any], request: str) -> bool:
    return message["parent_header"].get("msg_id") == request and message["content"].get("execution_state") == "idle"


def _say(client: Any, comm_id: str, data: dict[str, Any]) -> None:
    client.shell_channel.send(client.session.msg("comm_msg", {"comm_id": comm_id, "data": data}))


def _rest(client: Any, manager: Any) -> list[dict[str, Any]]:
    """What a kernel publishes until its process is gone."""
    manager.provisioner.process.wait(PATIENCE_S)
    messages = []
    while True:
        try:
            messages.append(client.get_iopub_msg(timeout=0.5))
        except queue.Empty:
            return messages
