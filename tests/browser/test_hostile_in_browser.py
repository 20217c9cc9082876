"""A graph whose author means harm: its names, docstrings, logs and errors stay text in the live view."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Dialog

    from .lab import Lab

pytestmark = [pytest.mark.real, pytest.mark.browser]

IMAGE = "<img src=x onerror=alert(1)>"
GRAPH = f"""
import handoff_lab as hl

IMAGE = {IMAGE!r}
NAMES = [IMAGE, '"];evil[label="', "</script><script>alert(2)</script>", '"><svg onload=alert(3)>']
dag = hl.DAG(IMAGE)
for number, name in enumerate(NAMES):
    def function(*needs, name=name, fails=number == 3):
        print(name)
        if fails:
            raise ValueError(name)
        return name
    function.__doc__ = name
    dag.add(hl.Function(name, function, args=NAMES[:number][-1:], node=IMAGE, group=name))
cluster = hl.Cluster({{IMAGE: {{"cpu": 2, IMAGE: 1}}}}, name=IMAGE)
"""
RUN = "run = cluster.submit(dag, max_retries=0)\nrun.watch()"
# What only an injected element could be: ours have no such handlers, and load no such picture.
INJECTED = """() => [...document.querySelectorAll("*")].filter(element =>
    element.getAttribute("src") === "x"
    || ["onerror", "onload", "onmouseover"].some(name => element.hasAttribute(name))
    || (element.localName === "script" && element.textContent.startsWith("alert"))
).map(element => element.outerHTML)"""


def test_hostile_names_stay_text(lab: Lab) -> None:
    dialogs: list[str] = []

    def note(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    lab.page.on("dialog", note)
    notebook = lab.new([GRAPH, RUN, "run", "cluster", "dag"])
    notebook.run(0)
    notebook.run(1)
    view = notebook.view(1)
    view.wait("failed")
    shapes = view.part("graph").locator("[data-function]")
    assert shapes.count() == 4
    for number in range(4):
        shapes.nth(number).click()
        name = shapes.nth(number).get_attribute("data-function")
        assert name is not None
        assert name in view.details(name).inner_text()
        shapes.nth(number).hover()
    for tab in ("Table", "Graph"):
        view.app.get_by_role("tab", name=tab).click()
        assert lab.page.evaluate(INJECTED) == []
    lab.screenshot("live")
    for cell in (2, 3, 4):
        notebook.run(cell)
        notebook.show(cell)
        assert lab.page.evaluate(INJECTED) == []
    lab.screenshot("shown")
    assert dialogs == []
