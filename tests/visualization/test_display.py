import re
from base64 import b64decode
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import pytest
from IPython.core.formatters import DisplayFormatter

from handoff_lab import DAG, Function
from handoff_lab.resources import Resources
from handoff_lab.telemetry import Event, RunRecord
from handoff_lab.telemetry.table import FunctionTable
from handoff_lab.visualization import dag as draw
from handoff_lab.visualization import gantt
from handoff_lab.visualization.display import cluster_mimebundle, dag_mimebundle, plan_mimebundle, run_mimebundle

IMAGE = re.compile(r'src="data:image/svg\+xml;base64,([^"]+)"')


def test_a_dag_shows_its_graph(dag):
    bundle = dag_mimebundle(dag)
    assert bundle["text/plain"] == repr(dag)
    ET.fromstring(bundle["image/svg+xml"])
    assert b64decode(IMAGE.search(bundle["text/html"])[1]).decode() == bundle["image/svg+xml"]


def test_the_pointer_finds_costs_in_the_html(dag):
    html = dag_mimebundle(dag)["text/html"]
    assert re.search(r'usemap="#(handoff-\w+)".*<map name="\1">', html)
    assert re.search(r'<area shape="rect" coords="\d+,\d+,\d+,\d+" title="load\n[^"]*costs cpu 1, memory 500 MB', html)
    assert "<img src=x" not in html


def test_two_pictures_on_a_page_have_maps_of_their_own(dag, run):
    names = {re.search('map name="([^"]+)"', html)[1] for html in (draw(dag).html(), draw(dag, run).html())}
    assert len(names) == 2


def test_a_run_shows_its_graph_and_a_table(run):
    bundle = run_mimebundle(run)
    assert set(bundle) == {"text/plain", "text/html", "image/svg+xml"}
    assert "<td>✗ failed</td>" in bundle["text/html"]
    assert "image/svg+xml;base64" in bundle["text/html"]
    assert "<img src=x" not in bundle["text/html"]


class BriefRun(SimpleNamespace):
    def __repr__(self):
        return "<Run>"


def test_a_big_run_shows_itself_without_records_of_all_its_functions(monkeypatch):
    made = []
    look = FunctionTable.__getitem__
    monkeypatch.setattr(FunctionTable, "__getitem__", lambda table, key: made.append(key) or look(table, key))
    monkeypatch.setattr(FunctionTable, "records", lambda table: pytest.fail("all records were made"))
    dag = DAG("many").add(*(Function(f"f{i}", max) for i in range(400)))
    facts = {"dag": "many", "allocations": dict.fromkeys(dag.functions, "alpha"), "costs": {}}
    record = RunRecord.from_events([Event(("handoff", "run", "start"), 1.0, {}, {"run": "r", **facts})])
    bundle = run_mimebundle(BriefRun(dag=dag, record=record, plan=None))
    assert "400 waiting" in bundle["image/svg+xml"]
    assert "and 370 more functions" in bundle["text/html"]
    assert len(made) == 30


def test_a_plan_shows_its_chart_on_a_light_ground(plan):
    bundle = plan_mimebundle(plan)
    assert "load" in bundle["image/svg+xml"]
    assert "fill: #ffffff" in bundle["image/svg+xml"]


@pytest.mark.parametrize("nodes", [1, 0])
def test_a_cluster_shows_its_nodes(nodes):
    node = SimpleNamespace(
        name="<alpha>",
        host="here",
        pid=12,
        status="up",
        capabilities=Resources({"cpu": 4, "memory": 1000}),
        used=Resources({"cpu": 1}),
    )
    cluster = SimpleNamespace(nodes={"<alpha>": node} if nodes else {})
    html = cluster_mimebundle(cluster)["text/html"]
    assert ("&lt;alpha&gt;" in html) == bool(nodes)
    assert ("cpu 1 of 4, memory 0 MB of 1000 MB" in html) == bool(nodes)
    assert ("● up" in html) == bool(nodes)


def test_pictures_show_themselves_in_ipython(dag, run):
    show = DisplayFormatter().format
    picture, _ = show(draw(dag))
    assert set(picture) == {"text/plain", "text/html", "image/svg+xml"}
    chart, facts = show(gantt(run))
    assert chart["image/png"].startswith(b"\x89PNG")
    assert facts["image/png"]["width"] == 960


def test_pictures_show_themselves_without_graphviz(dag, without_graphviz):
    picture, _ = DisplayFormatter().format(draw(dag))
    assert "Install Graphviz" in picture["image/svg+xml"]
