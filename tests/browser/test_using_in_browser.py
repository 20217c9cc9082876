"""The live view for everyone: by keyboard alone, with a screen reader, in a light and a dark theme."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from .lab import Lab, NotebookPage
    from .view import View

pytestmark = [pytest.mark.real, pytest.mark.browser]

LOAD = "%load_ext handoff_lab"
FUNCTIONS = """%%handoff --cpu 1 --max-retries 0
def numbers():
    "From 3 down to 0."
    return [3, 2, 1, 0]

def inverse(numbers):
    return [6 / number for number in numbers]

def squares(numbers):
    return [number**2 for number in numbers]

def total(inverse, squares):
    return sum(inverse) + sum(squares)
"""
RUN = "%handoff run"
CONTRAST = 4.5  # WCAG 2.2, 1.4.3
_RING = """() => {
    const at = document.activeElement;
    return [at, at.parentElement, ...at.querySelectorAll(".hl-box")].some(e => {
        const style = getComputedStyle(e);
        const outlined = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
        return outlined || style.boxShadow !== "none" || parseFloat(style.strokeWidth) > 3;
    });
}"""


@pytest.fixture
def notebook(lab: Lab) -> NotebookPage:
    return lab.new([LOAD, FUNCTIONS, RUN, "1"])


@pytest.fixture
def view(notebook: NotebookPage) -> View:
    for cell in range(3):
        notebook.run(cell)
    view = notebook.view(2)
    view.wait("failed")
    return view


def focused(page: Page, what: str) -> str:
    """An attribute of what has the focus, or of what it is in."""
    found: str = page.evaluate("w => document.activeElement.closest(`[${w}]`)?.getAttribute(w) ?? ''", what)
    return found


def wait_for_focus(page: Page, what: str, value: str) -> None:
    """Wait until it is in something with this attribute: a component moves it after it was painted."""
    page.wait_for_function(f"document.activeElement.closest('[{what}={value}]')")


def tab_to(page: Page, what: str, value: str, key: str = "Tab") -> None:
    """Press `key` until something with this attribute has the focus; all on the way must show that they have it."""
    for _ in range(40):
        page.keyboard.press(key)
        if focused(page, "data-run-status"):
            assert page.evaluate(_RING), page.evaluate("document.activeElement.outerHTML")
        if focused(page, what) == value:
            return
    raise AssertionError(f"Tab never came to {what}={value}")


def test_everything_by_keyboard(lab: Lab, notebook: NotebookPage) -> None:
    page, keys = lab.page, lab.page.keyboard
    for cell in range(3):
        with notebook.starting(cell):
            keys.press("Shift+Enter")
        notebook.finish(cell)
    view = notebook.view(2)
    view.wait("failed")
    keys.press("ArrowUp")  # back to the cell that runs

    tab_to(page, "data-function", "numbers")
    keys.press("ArrowDown")
    first = focused(page, "data-function")
    keys.press("ArrowRight" if first == "inverse" else "ArrowLeft")
    assert {first, focused(page, "data-function")} == {"inverse", "squares"}
    keys.press("ArrowDown")
    assert focused(page, "data-function") == "total"
    keys.press("ArrowUp")
    assert focused(page, "data-function") in ("inverse", "squares")
    keys.press("Home")
    assert focused(page, "data-function") == "numbers"
    lab.screenshot("focus")

    keys.press("Enter")
    view.details("From 3 down to 0.")
    wait_for_focus(page, "data-part", "details")
    keys.press("Escape")
    view.part("details").wait_for(state="detached")
    assert focused(page, "data-function") == "numbers"

    keys.press("f")
    view.details("ZeroDivisionError")
    wait_for_focus(page, "data-part", "details")
    tab_to(page, "data-function", "numbers", key="Shift+Tab")
    keys.press("Escape")
    view.part("details").wait_for(state="detached")
    assert focused(page, "data-function") == "numbers"
    keys.press("/")
    keys.type("squ")
    keys.press("Enter")
    view.details("number**2")
    assert page.evaluate("document.activeElement.type") == "search"  # details that nobody opened leave the focus there
    keys.press("Escape")
    keys.press("Escape")
    view.part("details").wait_for(state="detached")

    tab_to(page, "data-tab", "graph")
    keys.press("ArrowRight")
    tab_to(page, "role", "grid")
    keys.press("End")
    keys.press("Enter")
    view.details("return sum(inverse) + sum(squares)")
    lab.screenshot("table")
    assert_notebook_is_untouched(notebook)


def test_jupyterlab_leaves_keys_to_the_view(lab: Lab, notebook: NotebookPage, view: View) -> None:
    view.function("numbers").click()
    for key in ("a", "b", "d", "d", "x", "m", "y", "0", "0", "i", "i", "h", "/", "Escape", "Shift+ArrowDown", "Delete"):
        lab.page.keyboard.press(key)
    assert_notebook_is_untouched(notebook)
    lab.page.keyboard.press("Control+s")
    lab.page.wait_for_function("jupyterapp.shell.currentWidget.context.model.dirty === false")
    assert [cell.source for cell in notebook.saved().cells] == [LOAD, FUNCTIONS, RUN, "1"]


def assert_notebook_is_untouched(notebook: NotebookPage) -> None:
    assert notebook.panel.locator(".jp-Notebook .jp-CodeCell").count() == 4
    assert notebook.page.locator(".jp-Dialog, .jp-DocumentSearch-overlay").count() == 0


def test_roles_and_names(lab: Lab, view: View) -> None:
    app, page = view.app, lab.page
    assert app.get_attribute("role") == "region"
    for name in ("Run", "Graph", "Nodes", "Timeline"):
        app.get_by_role("region", name=name, exact=True).wait_for()
    bar = app.get_by_role("progressbar")
    assert [bar.get_attribute(f"aria-value{what}") for what in ("min", "max", "now")] == ["0", "4", "4"]
    assert "2 done" in (bar.get_attribute("aria-valuetext") or "")
    meter = app.get_by_role("meter", name="cpu of node-1")
    assert "claimed" in (meter.get_attribute("aria-valuetext") or "")
    app.get_by_role("button", name="inverse, failed on node-1").wait_for()
    cancel = app.get_by_role("button", name="Cancel", exact=True)
    assert cancel.is_disabled()
    assert cancel.get_attribute("aria-description") == "the run is over"

    app.get_by_role("tab", name="Table").click()
    grid = app.get_by_role("grid")
    assert grid.get_attribute("aria-rowcount") == "5"
    header = grid.get_by_role("columnheader", name="Function")
    orders = []
    for way in ("ascending", "descending"):
        header.get_by_role("button").click()
        page.wait_for_function("([e, way]) => e.ariaSort === way", arg=[header.element_handle(), way])
        orders.append([row.get_attribute("data-function") for row in grid.locator("tr[data-function]").all()])
    assert orders == [["inverse", "numbers", "squares", "total"], ["total", "squares", "numbers", "inverse"]]
    grid.get_by_role("row", name="inverse failed").click()
    app.get_by_role("region", name="Details of inverse").wait_for()


def test_texts_are_legible_in_both_themes(lab: Lab, view: View) -> None:
    view.app.get_by_role("button", name="inverse, failed").click()
    view.details("In [2], line 6").get_by_label("Traceback").wait_for()
    for theme in ("light", "dark"):
        lab.theme(theme)
        for tab in ("Table", "Graph"):
            view.app.get_by_role("tab", name=tab).click()
            contrasts = view.contrasts()
            assert len(contrasts) > 40
            assert {text: ratio for text, ratio in contrasts.items() if ratio < CONTRAST} == {}, f"{tab}, {theme}"
        lab.screenshot(theme)
