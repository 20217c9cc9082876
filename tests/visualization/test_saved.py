"""What a saved notebook shows to those who have no kernel and no JavaScript: nbconvert, nbviewer, GitHub, paper."""

import re
import shutil
import subprocess
import zlib
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from nbconvert import HTMLExporter, MarkdownExporter
from nbformat.v4 import new_code_cell, new_notebook, new_output

from handoff_lab import DAG, Function, execute_local
from handoff_lab.telemetry import RunRecord
from handoff_lab.visualization.display import cluster_mimebundle, dag_mimebundle, plan_mimebundle, run_mimebundle

WIDGET = "application/vnd.jupyter.widget-view+json"
VIEW = {"version_major": 2, "version_minor": 0, "model_id": "0123456789abcdef"}
ASKS = {"src", "href", "xlink:href", "action", "data", "poster", "srcset", "background"}


class Page(HTMLParser):
    """The images, rows and words of a page, and all that it would fetch."""

    def __init__(self, html):
        super().__init__()
        self.images, self.rows, self.fetched, self.words, self.inside = [], [], [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.inside.append(tag)
        if tag == "img":
            self.images.append(given)
        if tag == "tr":
            self.rows.append([])
        self.fetched += [value for name, value in attrs if name in ASKS and tag != "a"]

    def handle_endtag(self, tag):
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data):
        if self.inside and self.inside[-1] in {"script", "style"}:
            return
        self.words.append(data)
        if "tr" in self.inside:
            self.rows[-1].append(data)

    @property
    def text(self):
        return " ".join(self.words)


def notebook(*bundles, path):
    """A notebook on disk with each of ``bundles`` in a cell, and a live view in it that nobody can show."""
    outputs = [new_output("display_data", data=bundle | {WIDGET: VIEW}) for bundle in bundles]
    made = new_notebook(cells=[new_code_cell("run", outputs=[output]) for output in outputs])
    nbformat.validate(made)
    nbformat.write(made, path)
    return nbformat.read(path, 4)


def html_of(made):
    exporter = HTMLExporter(exclude_input=True, mathjax_url="", require_js_url="", template_name="basic")
    return exporter.from_notebook_node(made)[0]


@pytest.fixture
def node():
    used = {"cpu": 1.0}
    return SimpleNamespace(
        name="alpha", host="here", pid=12, status="up", capabilities={"cpu": 4.0, "memory": 1000.0}, used=used
    )


def test_a_run_shows_its_picture_and_what_became_of_each_function(run, tmp_path):
    page = Page(html_of(notebook(run_mimebundle(run), path=tmp_path / "run.ipynb")))
    (picture,) = page.images
    assert picture["src"].startswith("data:image/svg+xml;base64,")
    assert picture["alt"] == run.dag.name
    assert len(page.rows) == 1 + len(run.record.functions)
    assert ["blur", "✓ done", "B", " beta", "2", "1.00 s", "500 ms", "5 MB"] in [row[:8] for row in page.rows]
    assert "run r1: image <pipeline> · failed · 5 done, 1 failed, 1 skipped · 2.00 s" in page.text


def test_a_graph_a_plan_and_a_cluster_show_themselves(dag, plan, node, tmp_path):
    bundles = [dag_mimebundle(dag), plan_mimebundle(plan), cluster_mimebundle(SimpleNamespace(nodes={"alpha": node}))]
    page = Page(html_of(notebook(*bundles, path=tmp_path / "all.ipynb")))
    assert [image["src"][:19] for image in page.images] == ["data:image/svg+xml;"] * 2
    assert "Plan of 'image <pipeline>': 1.90 s; 7 functions on 3 nodes" in page.text
    assert ["A", " alpha", "3", "cpu 74%, memory 3%"] in page.rows
    assert "cpu 1 of 4, memory 0 MB of 1000 MB" in page.text


def test_a_saved_notebook_asks_the_network_for_nothing(run, dag, plan, tmp_path):
    bundles = [run_mimebundle(run), dag_mimebundle(dag), plan_mimebundle(plan)]
    fetched = Page(html_of(notebook(*bundles, path=tmp_path / "all.ipynb"))).fetched
    assert len(fetched) >= 3
    assert {address.partition(",")[0] for address in fetched} == {"data:image/svg+xml;base64"}


def test_without_html_there_is_the_picture(run):
    """Where HTML is not shown, as in a presentation or by way of LaTeX, the SVG says who, what and how it ended."""
    bundle = run_mimebundle(run)
    assert "image &lt;pipeline&gt; · failed" in bundle["image/svg+xml"]
    assert bundle["text/plain"] == repr(run)


def test_markdown_has_the_table_too(run, tmp_path):
    text, _ = MarkdownExporter().from_notebook_node(notebook(run_mimebundle(run), path=tmp_path / "run.ipynb"))
    assert len(Page(text).rows) == 1 + len(run.record.functions)


def test_a_run_of_many_says_how_many_are_left_out():
    dag = DAG("many").add(*(Function(f"f{n}", max) for n in range(400)))
    record = RunRecord(id="r", dag_id="many")
    for id in dag.functions:
        record._function(id)
    bundle = run_mimebundle(SimpleNamespace(dag=dag, record=record, plan=None))
    assert "400 functions, folded" in bundle["image/svg+xml"]
    assert len(Page(bundle["text/html"]).rows) == 31
    assert "and 370 more functions" in bundle["text/html"]


def test_the_report_of_a_run_is_one_file_that_fetches_nothing(tmp_path):
    run = execute_local(DAG("sum").add(Function("xs", lambda: [1, 2]), Function("total", sum, ["xs"])))
    path = run.report(tmp_path / "new" / "r.html")
    assert path == tmp_path / "new" / "r.html"
    html = path.read_text(encoding="utf-8")
    page = Page(html)
    assert "✓ done" in page.text
    assert {"total", "xs"} <= {row[0] for row in page.rows if row}
    assert [address for address in page.fetched if not address.startswith("#")] == []
    assert not re.search(r"@import|url\((?!#)|<(script|link|iframe|object|embed)\b", html)


@pytest.mark.real
@pytest.mark.skipif(shutil.which("chromium") is None, reason="Chromium is not on PATH")
def test_paper_has_the_picture_and_the_table(run, tmp_path):
    page = tmp_path / "run.html"
    page.write_text(html_of(notebook(run_mimebundle(run), path=tmp_path / "run.ipynb")), encoding="utf-8")
    pdf = tmp_path / "run.pdf"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    folders = [f"--user-data-dir={tmp_path / 'profile'}", f"--print-to-pdf={pdf}"]
    subprocess.run(["chromium", *options, *folders, page.as_uri()], capture_output=True, timeout=180, check=True)
    said = _unpacked(pdf)
    assert re.search(rb"/S /Figure\s+/Alt \(image <pipeline>\)", said)
    assert len(re.findall(rb"/S /TR\b", said)) == 1 + len(run.record.functions)


def _unpacked(pdf: Path) -> bytes:
    """A PDF with what is packed in it."""
    data = pdf.read_bytes()
    for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", data, re.DOTALL):
        try:
            data += zlib.decompress(stream)
        except zlib.error:
            continue
    return data
