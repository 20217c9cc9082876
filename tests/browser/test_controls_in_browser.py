"""The controls made of ipywidgets: nodes of a cluster, and the form that runs a DAG."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .lab import Lab

pytestmark = [pytest.mark.real, pytest.mark.browser]

SETUP = """
import handoff_lab as hl
from handoff_lab.widgets.cluster_widget import ClusterWidget
from handoff_lab.widgets.inputs_form import RunForm
cluster = hl.Cluster({"alpha": {"cpu": 2, "memory": 2000}, "beta": {"cpu": 1}})
dag = hl.DAG("powers")

@dag.function(cost={"cpu": 1})
def power(base: float, exponent: int) -> float:
    return base**exponent
"""


def test_nodes_are_added_changed_and_removed(lab: Lab) -> None:
    notebook = lab.new([SETUP, "ClusterWidget(cluster)", "print(cluster.discover())"])
    notebook.run(0)
    notebook.run(1)
    widget = notebook.outputs(1).locator(".hl-cluster")
    widget.locator('[data-node="beta"][data-resource="cpu"]').wait_for()
    lab.screenshot("light", widget)
    new = widget.locator(".hl-new-node")
    new.get_by_placeholder("name").fill("gamma")
    new.get_by_placeholder("cpu=2, memory=4GB").fill("gpu=two")
    new.get_by_role("alert").filter(has_text="not a number").wait_for()
    new.get_by_role("button", name="Add node", disabled=True).wait_for()
    new.get_by_placeholder("cpu=2, memory=4GB").fill("cpu=1, gpu=2")
    new.get_by_role("button", name="Add node").click()
    widget.locator('[data-node="gamma"][data-resource="gpu"]').wait_for()
    beta = widget.locator(".hl-node").filter(has=lab.page.locator('[data-node="beta"]'))
    beta.get_by_role("textbox").fill("cpu=3")
    beta.get_by_role("button", name="Apply").click()
    beta.get_by_text("0 of 3 claimed").wait_for()
    alpha = widget.locator(".hl-node").filter(has=lab.page.locator('[data-node="alpha"]'))
    alpha.get_by_role("button", name="Log").click()
    alpha.locator('[data-log="alpha"]').wait_for()
    lab.theme("dark")
    lab.screenshot("dark", widget)
    alpha.get_by_role("button", name="Drain").click()
    alpha.wait_for(state="detached")
    assert "alpha" not in notebook.run(2)


def test_a_form_runs_a_dag_and_shows_the_run(lab: Lab) -> None:
    notebook = lab.new([SETUP, "form = RunForm(dag, cluster)\nform", "print(form.run.wait().results['power'])"])
    notebook.run(0)
    notebook.run(1)
    form = notebook.outputs(1).locator(".hl-run-form")
    form.get_by_placeholder("a number").fill("1.5")
    form.get_by_role("button", name="Run").click()
    form.get_by_text("it is needed: a whole number", exact=True).wait_for()
    lab.screenshot("missing", form)
    form.get_by_placeholder("a whole number").fill("2")
    form.get_by_role("button", name="Run").click()
    form.locator('[data-function="power"][data-status="done"]').first.wait_for()
    lab.screenshot("run", form)
    assert notebook.run(2).strip() == "2.25"
