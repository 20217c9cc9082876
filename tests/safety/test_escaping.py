"""What users and nodes write stays text, in every picture, table and page that is made of it."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree as ET

import ipywidgets
import pytest
from nbconvert import HTMLExporter
from nbformat.v4 import new_code_cell, new_notebook, new_output

import handoff_lab as hl
from handoff_lab.visualization import layout
from handoff_lab.widgets.cluster_widget import ClusterWidget
from handoff_lab.widgets.dag_widget import DAGWidget

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    '"];evil[label="',
    "</script><script>alert(1)</script>",
    "\"><svg onload=alert(1)>' onmouseover='alert(1)",
    "]]><u>&lt;s&gt;</u><!--",
    "\\N\\G{{7*7}}${alert(1)}`",
    "</title></textarea></style><iframe src=javascript:alert(1)>",
)
FIRST, SECOND = HOSTILE[:2]
FOREIGN = {
    "script",
    "iframe",
    "object",
    "embed",
    "link",
    "form",
    "input",
    "base",
    "textarea",
    "u",
    "s",
    "foreignobject",
}
SVG = "{http://www.w3.org/2000/svg}"


class Page(HTMLParser):
    """Its tags, attributes and words, and the pictures inside it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    handle_startendtag = handle_starttag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def assert_harmless(html: str) -> Page:
    """Nothing in it runs, and nothing is fetched."""
    page = Page(html)
    assert not page.tags & FOREIGN
    for name, value in page.attributes:
        assert not name.startswith("on"), (name, value)
        if name in ("src", "href", "xlink:href", "action"):
            assert value.startswith(("#", "data:image/svg+xml;base64,", "data:image/png;base64,")), (name, value)
        if value.startswith("data:image/svg+xml;base64,"):
            assert_harmless_svg(base64.b64decode(value.partition(",")[2]).decode())
    return page


def assert_harmless_svg(svg: str) -> str:
    """All its text, which an XML parser reads; there are shapes, and nothing else."""
    root = ET.fromstring(svg)
    for element in root.iter():
        assert element.tag.removeprefix(SVG).lower() not in {*FOREIGN, "img"}
        for name, value in element.attrib.items():
            assert not name.lower().startswith("on"), (name, value)
            if name.endswith(("href", "src")):
                assert value.startswith(("#", "data:image/png;base64,")), (name, value)
    return " ".join(root.itertext())


def documented(doc: str) -> Any:
    """A function with this docstring, that writes it, returns it or fails with it."""

    def function(*needs: object) -> str:
        print(doc)  # noqa: T201
        if doc == SECOND:
            raise ValueError(doc)
        return doc

    function.__doc__ = doc
    function.__name__ = function.__qualname__ = doc
    return function


def dag_of(names: tuple[str, ...], node: str | None) -> hl.DAG:
    dag = hl.DAG(FIRST)
    for number, name in enumerate(names):
        before = [] if number != 1 else [names[0]]
        dag.add(hl.Function(name, documented(name), args=before, node=node if number == 2 else None, group=name))
    return dag


@pytest.fixture(scope="module")
def cluster() -> Iterator[hl.Cluster]:
    with hl.Cluster({name: {"cpu": 2, name: 1} for name in HOSTILE[:3]}, backend="local", name=FIRST) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def dag() -> hl.DAG:
    return dag_of(HOSTILE, HOSTILE[2])


@pytest.fixture(scope="module")
def run(cluster: hl.Cluster, dag: hl.DAG) -> hl.Run:
    return cluster.execute(dag, max_retries=0, on_error="continue", raise_on_error=False)


@pytest.fixture(params=["dot", "plain"])
def drawer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With Graphviz, and without."""
    if request.param == "plain":
        monkeypatch.setattr(layout, "graphviz", lambda *_: None)
    elif shutil.which("dot") is None:
        pytest.skip("Graphviz is not installed")
    return request.param


def test_pictures_of_graphs_hold_text_alone(drawer: str, dag: hl.DAG, run: hl.Run) -> None:
    for picture in (hl.visualization.dag(dag), hl.visualization.execution_graph(run)):
        text = assert_harmless_svg(picture.svg())
        assert "onerror" in text
        assert "evil" in text
        assert_harmless(picture.html())


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
def test_graphviz_sees_the_functions_and_nothing_else(dag: hl.DAG, run: hl.Run) -> None:
    for picture in (hl.visualization.dag(dag), hl.visualization.execution_graph(run)):
        done = subprocess.run(["dot", "-Tjson"], input=picture.source.encode(), capture_output=True, check=True)
        graph = json.loads(done.stdout)
        boxes = [found for found in graph["objects"] if "nodes" not in found]
        assert len(boxes) == len(HOSTILE)
        assert len(graph["edges"]) == 1
        assert not any("evil" in found or found["name"] == "evil" for found in graph["objects"])


def test_mermaid_holds_text_alone(dag: hl.DAG) -> None:
    lines = hl.visualization.mermaid(dag).splitlines()
    label = r'"(?:[\w .,+/=-]|#\d+;|<br/>)*"'
    pattern = re.compile(rf"    n\d+(?:\[{label}\]|\({label}\)|\(\[{label}\]\)| (?:-->|-\.->|-\.-) n\d+)")
    assert lines[0] == "flowchart TD"
    assert [line for line in lines[1:] if not pattern.fullmatch(line)] == []


def test_a_report_holds_text_alone(run: hl.Run) -> None:
    from handoff_lab.visualization.html_report import page

    words = " ".join(assert_harmless(page(run)).words)
    for text in (FIRST, SECOND, HOSTILE[2]):
        assert text in words


def bundles(cluster: hl.Cluster, dag: hl.DAG, run: hl.Run) -> Iterator[dict[str, Any]]:
    """All that is saved in a notebook."""
    yield dag._repr_mimebundle_()
    yield run._repr_mimebundle_()
    yield cluster._repr_mimebundle_()
    yield hl.plan(dag_of(HOSTILE, None), {name: {"cpu": 2} for name in HOSTILE[:3]})._repr_mimebundle_()
    for widget in (DAGWidget(dag), DAGWidget(run), ClusterWidget(cluster)):
        bundle = widget._repr_mimebundle_()
        yield bundle[0] if isinstance(bundle, tuple) else bundle
        widget.close()


def test_saved_notebooks_hold_text_alone(drawer: str, cluster: hl.Cluster, dag: hl.DAG, run: hl.Run) -> None:
    made = []
    for bundle in bundles(cluster, dag, run):
        page = assert_harmless(bundle["text/html"])
        if "image/svg+xml" in bundle:
            assert_harmless_svg(bundle["image/svg+xml"])
        assert "onerror" in " ".join([*page.words, *(value for name, value in page.attributes if name == "title")])
        shown = {mime: data for mime, data in bundle.items() if mime.startswith(("text/", "image/"))}
        made.append(new_code_cell("run", outputs=[new_output("display_data", data=shown)]))
    exporter = HTMLExporter(exclude_input=True, mathjax_url="", require_js_url="", template_name="basic")
    assert_harmless(exporter.from_notebook_node(new_notebook(cells=made))[0])


def boxes_of(widget: Any) -> Iterator[Any]:
    """All widgets in a widget."""
    yield widget
    for child in getattr(widget, "children", ()):
        yield from boxes_of(child)


def test_rows_of_the_live_table_of_nodes_hold_text_alone(cluster: hl.Cluster) -> None:
    widget = ClusterWidget(cluster)
    shown = [found.value for found in boxes_of(widget) if isinstance(found, ipywidgets.HTML)]
    for html in shown:
        assert_harmless(html)
    assert sum("&lt;img src=x" in html for html in shown) >= 2  # a node, and one of its resources
    widget.close()
