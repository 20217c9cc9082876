import re
import time
from html.parser import HTMLParser

from handoff_lab.telemetry import FunctionRecord, FunctionStatus, RunRecord
from handoff_lab.visualization import report
from handoff_lab.visualization.html_report import page

VOID = {"meta", "br", "img", "area", "link"}


class Reader(HTMLParser):
    """Collects tags, attributes and text; fails on tags that do not match."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)


def test_the_report_is_one_file_that_says_it_all(run, tmp_path):
    path = report(run, tmp_path / "new" / "report.html")
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    read = Reader(path.read_text(encoding="utf-8"))
    text = " ".join(read.text)
    for said in ("Graph", "Timeline", "Utilisation", "Functions", "Errors", "Environment", "✗ failed", "5 of 7"):
        assert said in text
    for said in ("blur", "500 ms", "5 MB", "load_balanced", "Python", "gpu-box", "✓ 500 ms · 2 attempts", "– skipped"):
        assert said in text
    assert read.tags.count("svg") == 3


def test_what_users_wrote_stays_text(run):
    html = page(run)
    read = Reader(html)
    assert "File <img src=x onerror=alert(1)>" in read.text
    assert "wrote <img src=x onerror=alert(1)>" in read.text
    assert "image <pipeline>" in " ".join(read.text)
    assert not {"img", "script", "iframe", "link", "b"} & set(read.tags)
    assert not [name for name, _ in read.attributes if name.startswith("on")]


def test_the_report_asks_the_network_for_nothing(run):
    html = page(run)
    addresses = {value for name, value in Reader(html).attributes if name in {"src", "href", "xlink:href", "action"}}
    assert all(address.startswith("#") for address in addresses)
    assert not re.search(r"@import|url\((?!#)", html)
    assert not {tag for tag in Reader(html).tags if tag in {"script", "link", "iframe", "object"}}


def test_the_report_has_a_light_and_a_dark_dress(run):
    html = page(run)
    assert 'content="light dark"' in html
    assert "prefers-color-scheme: dark" in html


def test_a_run_that_goes_on_and_a_bare_record_have_reports(record):
    assert "not started" in page(RunRecord(dag_id="d"))
    assert "5 of 7" in page(record)


def test_the_report_says_what_the_backend_could_not_do(run):
    assert "the backend" not in page(run)
    run.lacks = {"interrupt": "it can't interrupt", "timeout": "it has <no> watch"}
    assert "it can't interrupt; it has <no> watch" in Reader(page(run)).text


def test_a_huge_run_is_cut_but_its_failures_are_not():
    record = RunRecord(dag_id="d", started=0.0)
    for number in range(5000):
        record.functions[number] = FunctionRecord(number)
    record.functions[4999].status = FunctionStatus.FAILED
    before = time.perf_counter()
    html = page(record)
    assert time.perf_counter() - before < 30
    assert "<td>4999</td><td>✗ failed</td>" in html
    assert "and 3000 more functions" in html
