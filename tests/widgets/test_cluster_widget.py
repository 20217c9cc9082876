"""Nodes in a notebook, and the controls that change them."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Iterator

import pytest

import handoff_lab as hl
from handoff_lab.widgets.cluster_widget import ClusterWidget
from handoff_lab.widgets.node_row import NodeRow

NODES = {"alpha": {"cpu": 2, "memory": 4000}, "beta": {"cpu": 1}}


@pytest.fixture
def cluster() -> Iterator[hl.Cluster]:
    with hl.Cluster(NODES, backend="local") as cluster:
        yield cluster


@pytest.fixture
def widget(cluster: hl.Cluster) -> Iterator[ClusterWidget]:
    widget = ClusterWidget(cluster)
    yield widget
    widget.close()


def rows(widget: ClusterWidget) -> dict[str, NodeRow]:
    return {row.name: row for row in widget._list.children}


def settle(widget: ClusterWidget) -> None:
    """Wait until what was begun is done."""
    for thread in list(widget._working):
        thread.join(60)
        assert not thread.is_alive()


def plain(html: str) -> str:
    return re.sub(r"<[^>]*>", " ", html)


def test_what_the_backend_lacks_is_said(cluster: hl.Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hl.Cluster, "lacks", {"interrupt": "it interrupts nothing", "add_nodes": "it starts <nodes>"})
    widget = ClusterWidget(cluster)
    assert "it interrupts nothing; it starts &lt;nodes&gt;" in widget._note.value
    widget.close()


def test_each_node_has_a_row_and_each_resource_a_bar(widget: ClusterWidget) -> None:
    alpha = rows(widget)["alpha"]
    assert list(rows(widget)) == ["alpha", "beta"]
    assert plain(alpha.head.value).split() == ["A", "alpha", "●", "up"]
    assert re.findall(r'data-node="(\w+)" data-resource="(\w+)"', alpha.bars.value) == [
        ("alpha", "cpu"),
        ("alpha", "memory"),
    ]
    assert "0 MB of 4000 MB claimed" in alpha.bars.value
    assert alpha.field.text.value == "cpu=2, memory=4000"
    assert "hl-node" in alpha._dom_classes


def test_claims_are_shown_while_a_function_runs(cluster: hl.Cluster, widget: ClusterWidget) -> None:
    started, go_on = threading.Event(), threading.Event()
    code = lambda: started.set() or go_on.wait(60)  # noqa: E731
    run = cluster.submit(hl.DAG().add(hl.Function("f", code, cost={"cpu": 1.5}, node="alpha")))
    assert started.wait(60)
    widget.refresh()
    assert "1.5 of 2 claimed" in rows(widget)["alpha"].bars.value
    go_on.set()
    run.wait(60)
    widget.refresh()
    assert "0 of 2 claimed" in rows(widget)["alpha"].bars.value


def test_it_keeps_up_by_itself_until_it_is_closed(cluster: hl.Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handoff_lab.widgets.cluster_widget.REFRESH_S", 0.01)
    widget = ClusterWidget(cluster)
    shown = threading.Event()
    rows(widget)["beta"].bars.observe(lambda change: shown.set(), "value")
    cluster.update_node_resources("beta", {"cpu": 7})
    assert shown.wait(60)
    widget.close()
    widget._thread.join(60)
    assert not widget._thread.is_alive()


def test_it_ends_with_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handoff_lab.widgets.cluster_widget.REFRESH_S", 0.01)
    with hl.Cluster(NODES, backend="local") as cluster:
        widget = ClusterWidget(cluster)
    widget._thread.join(60)
    assert not widget._thread.is_alive()
    assert "the cluster is closed" in widget._note.value
    assert rows(widget)["alpha"].remove.disabled
    assert widget._new.button.disabled
    widget.close()


def test_capabilities_are_changed(cluster: hl.Cluster, widget: ClusterWidget) -> None:
    row = rows(widget)["beta"]
    assert row.apply.disabled  # nothing to change
    row.field.text.value = "cpu=3, memory=2GB"
    assert not row.apply.disabled
    row.apply.click()
    settle(widget)
    assert cluster.discover()["beta"] == {"cpu": 3, "memory": 2000}
    assert row.note.value == ""
    row.field.text.value = "cpu=3, memory=2000"
    assert row.apply.disabled


@pytest.mark.parametrize(
    ("typed", "complaint"),
    [
        ("cpu", "&#x27;cpu&#x27; is not NAME=AMOUNT"),
        ("cpu=two", "is not a number, zero or more"),
        ("memory=2 apples", "is not an amount of memory"),
        ("", "is not NAME=AMOUNT"),
    ],
)
def test_what_is_no_amount_is_told_beside_the_field(widget: ClusterWidget, typed: str, complaint: str) -> None:
    row = rows(widget)["beta"]
    row.field.text.value = typed
    assert complaint in row.field.note.value
    assert 'role="alert"' in row.field.note.value
    assert row.apply.disabled
    row.field.text.value = "cpu=1"
    assert row.field.note.value == ""


def test_what_someone_types_is_not_overwritten(cluster: hl.Cluster, widget: ClusterWidget) -> None:
    row = rows(widget)["beta"]
    row.field.text.value = "cpu=5"
    cluster.update_node_resources("beta", {"cpu": 4})
    widget.refresh()
    assert row.field.text.value == "cpu=5"
    row.field.text.value = "cpu=4"
    cluster.update_node_resources("beta", {"cpu": 6})
    widget.refresh()
    assert row.field.text.value == "cpu=6"


def test_a_node_is_added(cluster: hl.Cluster, widget: ClusterWidget) -> None:
    new = widget._new
    new.field.text.value = "gpu"
    assert new.button.disabled
    new.name.value, new.field.text.value = "gamma", "cpu=1,gpu=2"
    new.button.click()
    settle(widget)
    assert cluster.discover()["gamma"] == {"cpu": 1, "gpu": 2}
    assert "gamma" in rows(widget)
    assert (new.name.value, new.note.value) == ("", "")


def test_a_name_that_is_taken_is_refused_beside_the_button(widget: ClusterWidget) -> None:
    new = widget._new
    new.name.value = "alpha"
    new.button.click()
    settle(widget)
    assert "there is a node &#x27;alpha&#x27; already" in new.note.value
    assert not new.button.disabled


def test_a_node_is_drained_then_removed(cluster: hl.Cluster, widget: ClusterWidget) -> None:
    started, go_on = threading.Event(), threading.Event()
    code = lambda: started.set() or go_on.wait(60)  # noqa: E731
    run = cluster.submit(hl.DAG().add(hl.Function("f", code, node="alpha")))
    assert started.wait(60)
    row = rows(widget)["alpha"]
    row.drain.click()
    assert "draining" in row.note.value
    assert row.drain.disabled
    cluster._coordinator.wait_until(lambda: cluster._coordinator.scheduler.is_draining("alpha"))
    widget.refresh()
    assert 'data-status="draining"' in row.head.value
    go_on.set()
    settle(widget)
    assert run.wait(60).status == "done"
    assert list(cluster.nodes) == list(rows(widget)) == ["beta"]


def test_a_node_is_removed_at_once(cluster: hl.Cluster, widget: ClusterWidget) -> None:
    rows(widget)["beta"].remove.click()
    settle(widget)
    assert list(cluster.nodes) == list(rows(widget)) == ["alpha"]


def test_a_node_that_has_no_log_says_why(widget: ClusterWidget) -> None:
    row = rows(widget)["alpha"]
    row.logs.value = True
    assert "have no agents that write a log" in row.log_text.value
    assert row.log_text.layout.display == ""


def test_a_saved_notebook_has_a_table(widget: ClusterWidget) -> None:
    bundle = widget._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert bundle["text/plain"] == "<ClusterWidget of 2 nodes>"
    assert "alpha" in bundle["text/html"]
    assert "<table" in bundle["text/html"]


def test_closing_leaves_no_widget_behind(cluster: hl.Cluster) -> None:
    from ipywidgets.widgets.widget import _instances

    before = set(_instances)
    widget = ClusterWidget(cluster)
    widget.close()
    cluster.add_node({"cpu": 1}, "gamma")
    widget.refresh()  # as a verb that ends later does
    assert set(_instances) == before


@pytest.mark.real
def test_on_real_nodes_a_log_is_read_and_a_loss_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handoff_lab.widgets.cluster_widget.REFRESH_S", 3600)
    with hl.Cluster({"alpha": {"cpu": 1}, "beta": {"cpu": 1}}) as cluster:
        widget = ClusterWidget(cluster)
        rows(widget)["alpha"].logs.value = True
        assert plain(rows(widget)["alpha"].log_text.value).strip()
        cluster._coordinator.wait_until(lambda: "beta" in cluster._coordinator.loads)
        widget.refresh()
        assert re.search(r"of 1 claimed, \S+ used", rows(widget)["beta"].bars.value)
        os.kill(cluster.nodes["beta"].pid, signal.SIGKILL)
        cluster._coordinator.wait_until(lambda: "beta" not in cluster._coordinator.scheduler.nodes)
        widget.refresh()
        beta = rows(widget)["beta"]
        assert re.search(r"✗ lost at \d\d:\d\d:\d\d", beta.head.value)
        assert (beta.apply.disabled, beta.remove.disabled, beta.remove.description) == (True, False, "Forget")
        beta.remove.click()
        assert list(rows(widget)) == ["alpha"]
    widget.close()
