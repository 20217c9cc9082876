"""The widget is a model of what is shown, displays itself, and leaves the truth in saved notebooks."""

import gc
import json
import weakref

import nbformat
import pytest
from jupyter_client.manager import run_kernel
from nbclient import NotebookClient

import handoff_lab as hl
from handoff_lab.widgets import dag_widget
from handoff_lab.widgets.dag_widget import DAGWidget
from handoff_lab.widgets.shown_output import LIVE_VIEW
from tests.others import soon

VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def cluster():
    with hl.Cluster({"alpha": {"cpu": 2}}, backend="local") as made:
        yield made


def graph(gate=None):
    return hl.DAG("g").add(
        hl.Function("src", lambda: gate is None or gate.wait(60)), hl.Function("end", lambda src: src, ["src"])
    )


@pytest.fixture
def widget(front_end):
    made = []

    def make(*arguments, **options):
        made.append(DAGWidget(*arguments, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def messages(monkeypatch):
    """What goes over the comm of any widget."""
    sent = []
    monkeypatch.setattr(DAGWidget, "_send", lambda self, msg, buffers=None: sent.append(json.loads(json.dumps(msg))))
    return sent


def test_without_a_kernel_it_is_a_model(widget, cluster):
    shown = widget(cluster.execute(graph()))
    assert shown.structure["ids"] == ["src", "end"]
    assert shown.state["status"] == "dd"
    assert shown.key == shown._viewer.key
    assert shown._esm.startswith("export default")
    assert repr(shown).startswith("<DAGWidget of <Run ")


def test_a_run_goes_to_its_end_in_the_state(widget, cluster, gate):
    shown = widget(cluster.submit(graph(gate)))
    assert shown.state["run"]["status"] == "running"
    gate.set()
    shown.run.wait(60)
    shown._viewer.join(60)
    assert (shown.state["status"], shown.state["run"]["status"]) == ("dd", "done")


def test_the_whole_state_is_of_this_moment_for_a_page_that_reloads(widget, cluster, gate, messages):
    shown = widget(cluster.submit(graph(gate)))
    gate.set()
    shown.run.wait(60)
    shown._viewer.join(60)
    told = shown._viewer.snapshot()
    shown.state = {}  # older than what was told
    assert shown.get_state()["state"]["status"] == told["status"] == "dd"
    assert shown.get_state("state") == {"state": {}}


def test_patches_are_custom_messages_and_requests_are_answered(widget, cluster, gate, messages):
    shown = widget(cluster.submit(graph(gate)))
    gate.set()
    shown.run.wait(60)
    shown._viewer.join(60)
    shown._handle_custom_msg({"type": "request", "id": 5, "request": {"do": "cancel"}}, [])
    shown._handle_custom_msg("nonsense", [])
    contents = [message["content"] for message in messages if message["method"] == "custom"]
    assert contents[0]["type"] == "patch"
    assert contents[-1] == {"type": "reply", "id": 5, "error": "the run is over; there is nothing to cancel"}


def test_state_that_is_asked_for_is_sent_although_it_is_the_same(widget, messages):
    shown = widget(graph())
    messages.clear()
    shown._handle_custom_msg({"type": "request", "id": 5, "request": {"do": "state"}}, [])
    sent = [name for message in messages if message["method"] == "update" for name in message["state"]]
    assert sent == ["structure", "state"]


def test_it_can_watch_another_run(widget, cluster):
    first, second = cluster.execute(graph()), cluster.execute(graph())
    shown = widget(first)
    shown.watch(second)
    assert shown.run is second
    assert shown.dag is second.dag
    assert shown.state["run"]["id"] == second.id


def test_a_closed_one_lets_the_results_go_and_leaves_no_thread(widget, cluster, gate):
    run = cluster.submit(graph(gate))
    shown = widget(run)
    feed = shown._viewer._feed._thread
    shown.close()
    shown.close()
    assert not feed.is_alive()
    gate.set()
    run.wait(60)
    results = weakref.ref(run.results)
    del run
    soon(lambda: gc.collect() is not None and results() is None)
    with pytest.raises(hl.HandoffError, match="make another"):
        shown.watch(None)


def test_the_bundle_has_picture_table_and_text_beside_the_view(widget, cluster):
    shown = widget(cluster.execute(graph()))
    data, _ = shown._repr_mimebundle_()
    assert data[VIEW]["model_id"] == shown.model_id
    assert LIVE_VIEW in data
    assert data["image/svg+xml"].startswith("<svg")
    assert "<table>" in data["text/html"]
    assert data["text/plain"] == repr(shown)


def test_an_unknown_keyword_is_refused_with_a_hint(front_end):
    with pytest.raises(TypeError, match="no 'notebok'; did you mean 'notebook'"):
        DAGWidget(notebok=None)
    with pytest.raises(TypeError, match="takes subject and notebook"):
        DAGWidget(zzz=None)


def test_what_is_neither_a_dag_nor_a_run_is_refused_before_anything_is_made(widget, monkeypatch):
    shown = widget(graph())
    monkeypatch.setattr(dag_widget, "Viewer", lambda **options: pytest.fail("a viewer was made"))
    with pytest.raises(TypeError, match=r"^DAGWidget shows a DAG or a Run, not 3$"):
        DAGWidget(3)
    with pytest.raises(TypeError, match=r"^DAGWidget shows a DAG or a Run, not 3$"):
        shown.watch(3)
    assert shown.structure["ids"] == ["src", "end"]


def test_a_front_end_that_was_not_built_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(dag_widget, "_STATIC", tmp_path / "nowhere")
    dag_widget._built.cache_clear()
    with pytest.raises(hl.HandoffError, match="make frontend"):
        DAGWidget()
    dag_widget._built.cache_clear()


SETUP = """
import threading, pathlib, time
import handoff_lab as hl
from handoff_lab.widgets import dag_widget
dag_widget._STATIC = pathlib.Path({static!r})
still = dag_widget._still
dag_widget._still = lambda subject: time.sleep(0.5) or still(subject)  # a picture that the cell has to wait for
gate = threading.Event()
cluster = hl.Cluster({{"alpha": {{"cpu": 2}}}}, backend="local")
run = cluster.submit(hl.DAG("g").add(
    hl.Function("src", lambda: gate.wait(60)), hl.Function("end", lambda src: src, ["src"])
))
"""


@pytest.mark.real
def test_a_saved_notebook_shows_the_end_of_the_run(front_end):
    cells = [
        SETUP.format(static=str(front_end)),
        "widget = dag_widget.DAGWidget(run)\nwidget",
        "gate.set(); run.wait(60).status",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=120, kernel_name="python3", store_widget_state=False).execute()
    (output,) = notebook.cells[1].outputs
    assert output["output_type"] == "display_data"
    assert output["data"][VIEW]["version_major"] == 2
    assert "g · done" in output["data"]["image/svg+xml"]
    assert "✓ done" in output["data"]["text/html"]
    assert "▶ running" not in output["data"]["text/html"]
    assert notebook.cells[2].outputs[0]["data"]["text/plain"] == "'done'"


BLOCKED = (
    SETUP
    + """
widget = dag_widget.DAGWidget(run)
print(widget.key, flush=True)
try:
    run.wait(60)
except hl.HandoffError as error:
    print(type(error).__name__)
widget._viewer.join(60)
"""
)


@pytest.mark.real
def test_a_sub_shell_cancels_the_run_that_a_cell_waits_for(front_end):
    with run_kernel(kernel_name="python3") as client:
        cell = client.execute(BLOCKED.format(static=str(front_end)))
        printed = next_printed(client)
        create = client.session.msg("create_subshell_request")
        client.control_channel.send(create)
        subshell = client.get_control_msg(timeout=60)["content"]["subshell_id"]
        request = json.dumps({"type": "request", "id": 1, "request": {"do": "cancel"}})
        code = f"__import__('handoff_lab.widgets').widgets.answer({printed.strip()!r}, {request!r}); gate.set()"
        beside = client.session.msg("execute_request", {"code": code, "silent": True})
        beside["header"]["subshell_id"] = subshell
        client.shell_channel.send(beside)
        messages = list(until_idle(client, cell))
    assert "RunCancelledError" in "".join(m["content"]["text"] for m in messages if m["msg_type"] == "stream")
    told = [m["content"]["data"] for m in messages if m["msg_type"] == "comm_msg"]
    contents = [data["content"] for data in told if data["method"] == "custom"]
    patches = [content for content in contents if content["type"] == "patch"]
    assert [patch["seq"] for patch in patches] == list(range(patches[0]["seq"], patches[0]["seq"] + len(patches)))
    assert {"type": "reply", "id": 1, "value": None} in contents
    states = [data["state"]["state"] for data in told if data["method"] == "update" and "state" in data["state"]]
    assert states[-1]["run"]["status"] == "cancelled"


def next_printed(client):
    while (message := client.get_iopub_msg(timeout=60))["msg_type"] != "stream":
        assert message["msg_type"] != "error", message["content"]
    return message["content"]["text"]


def until_idle(client, cell):
    """Messages of the kernel until it has run a cell."""
    while True:
        message = client.get_iopub_msg(timeout=60)
        yield message
        ended = message["msg_type"] == "status" and message["content"]["execution_state"] == "idle"
        if ended and message["parent_header"].get("msg_id") == cell:
            return
