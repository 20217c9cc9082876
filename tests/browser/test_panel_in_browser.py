"""JupyterLab's panel: the sidebar, the dashboard, the palette's commands and the item of the status bar."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from .view import View

if TYPE_CHECKING:
    from playwright.sync_api import Locator

    from .lab import Lab, NotebookPage

pytestmark = [pytest.mark.real, pytest.mark.browser]

NUMBERS = "%%handoff --cpu 1\ndef numbers():\n    return [1, 2, 3]\n"
TOTAL = "%%handoff --cpu 1\ndef total(numbers):\n    return sum(numbers)\n"
CELLS = [
    "%load_ext handoff_lab",
    NUMBERS,
    TOTAL,
    "%handoff start alpha:cpu=1 beta:cpu=1",
    "%handoff run -o run",
    *(["# far away\n" * 12] * 4),
]
COMMANDS = (
    "Open Dashboard",
    "Show Panel",
    "Cancel Run",
    "Re-run Failed Functions",
    "Run Stale Functions",
    "Next Failure",
)


@pytest.fixture
def notebook(lab: Lab) -> NotebookPage:
    return lab.new(CELLS)


def sidebar(lab: Lab) -> Locator:
    lab.command("handoff-lab:show-panel")
    return lab.page.locator(".hl-sidebar")


def in_the_palette(lab: Lab) -> list[str]:
    lab.command("apputils:activate-command-palette")
    palette = lab.page.locator(".lm-CommandPalette").filter(visible=True)
    palette.locator("input").fill("handoff")
    palette.locator(".lm-CommandPalette-itemLabel", has_text="Open Dashboard").wait_for()
    labels = palette.locator(".lm-CommandPalette-itemLabel").all_inner_texts()
    lab.page.keyboard.press("Escape")
    return labels


def test_the_panel_shows_the_notebook_and_jumps_to_its_cells(lab: Lab, notebook: NotebookPage) -> None:
    panel = sidebar(lab)
    panel.get_by_text("%load_ext handoff_lab").wait_for()
    for cell in range(5):
        notebook.run(cell)
    panel.locator('[data-run-status="done"]').wait_for()
    for node in ("alpha", "beta"):
        panel.get_by_role("meter", name=f"cpu of {node}").wait_for()
    panel.locator('[data-function="total"]').filter(has_text=re.compile("on (alpha|beta)")).wait_for()
    lab.page.locator(".hl-status-item", has_text="2/2 · 2 nodes").wait_for()

    notebook.show(8).locator(".cm-content").click()
    panel.locator('[data-function="numbers"]').click()
    lab.page.wait_for_function("jupyterapp.shell.currentWidget.content.activeCellIndex === 1")
    notebook.cell(1).locator(".cm-content").filter(visible=True).wait_for()
    jumped = notebook.cell(1).element_handle()
    lab.page.wait_for_function("cell => cell.getBoundingClientRect().top > 0", arg=jumped)  # it scrolls in steps
    lab.screenshot("panel")

    notebook.edit(1, NUMBERS.replace("3", "4"))
    notebook.run(1)
    panel.locator('[data-function="total"][data-stale="true"]').wait_for()
    lab.command("handoff-lab:run-stale")
    panel.locator('[data-function="total"]:not([data-stale])').wait_for()
    panel.locator('[data-run-status="done"]').nth(1).wait_for()
    lab.theme("dark")
    lab.screenshot("dark")
    assert set(COMMANDS) <= {label.removeprefix("Handoff: ") for label in in_the_palette(lab)}


def test_the_dashboard_opens_beside_the_notebook(lab: Lab, notebook: NotebookPage) -> None:
    for cell in range(5):
        notebook.run(cell)
    with lab.page.expect_request(lambda r: r.method == "PUT" and "handoff-lab:dashboard" in (r.post_data or "")):
        lab.page.locator(".hl-status-item button").click()  # and JupyterLab notes down what is open
    dashboard = lab.page.locator(".hl-dashboard")
    view = View(dashboard)
    view.wait("done")
    shapes = view.shapes()
    assert {status for status, _ in shapes.values()} == {"done"}
    left, right = notebook.panel.bounding_box(), dashboard.bounding_box()
    assert left is not None
    assert right is not None
    assert left["x"] + left["width"] <= right["x"]
    view.function("total").click()
    view.details("return sum(numbers)")
    lab.screenshot("dashboard")

    lab.reload()
    notebook.ready()
    view.wait("done")
    assert view.shapes() == shapes


def test_the_palette_cancels_while_a_cell_blocks(lab: Lab) -> None:
    nap = "%%handoff\ndef nap():\n    import time\n    time.sleep(300)\n"
    notebook = lab.new(["%load_ext handoff_lab", nap, "%handoff run --wait"])
    for cell in range(2):
        notebook.run(cell)
    notebook.start(2)
    lab.page.locator(".hl-status-item", has_text="1/1").wait_for()
    lab.page.wait_for_function("jupyterapp.commands.isEnabled('handoff-lab:cancel-run')")
    lab.command("handoff-lab:cancel-run")
    assert "RunCancelledError" in notebook.finish(2, fails=True)
