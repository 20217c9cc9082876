"""Large graphs: drawn one by one, folded, or counted by level. How fast is for benchmarks/browser.py to say."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .lab import Lab
    from .view import View

pytestmark = [pytest.mark.real, pytest.mark.browser]

LAYERS = """
import handoff_lab as hl

def layers(count, width):
    dag = hl.DAG(f"{count} × {width}")
    for row in range(count):
        above = [f"f_{row - 1}_{place}" for place in range(width)] if row else []
        dag.add(*(
            hl.Function(f"f_{row}_{i}", print, args=[above[(i + step) % width] for step in range(1 + i % 2) if row])
            for i in range(width)
        ))
    return dag
"""
PATIENCE_S = 60


def shown(lab: Lab, count: int, width: int) -> View:
    """A graph of layers, as soon as it is there."""
    notebook = lab.new([LAYERS, f"dag = layers({count}, {width})", "hl.DAGWidget(dag)"])
    for cell in range(3):
        notebook.run(cell)
    begin = time.monotonic()
    view = notebook.view(2)
    view.part("graph").locator(".hl-fn, .hl-level").first.wait_for()
    assert time.monotonic() - begin < PATIENCE_S
    return view


def test_a_thousand_functions(lab: Lab) -> None:
    view = shown(lab, 20, 50)
    assert len(view.shapes()) == 1000
    view.part("graph").locator(".hl-minimap").wait_for()
    lab.screenshot("graph", view.app)
    lab.page.keyboard.press("Escape")
    search = view.app.get_by_role("searchbox")
    search.fill("f_19_49")
    search.press("Enter")
    view.details("f_19_49")
    assert view.function("f_19_49").is_visible()


def test_five_thousand_are_folded(lab: Lab) -> None:
    view = shown(lab, 50, 100)
    folds = view.part("graph").locator(".hl-fold")
    assert 2 <= folds.count() <= 150
    folds.nth(1).click()
    view.part("table").locator("tr[data-function]").first.wait_for()
    lab.screenshot("members", view.app)


def test_fifty_thousand_are_counted_by_level(lab: Lab) -> None:
    view = shown(lab, 100, 500)
    levels = view.part("graph").locator(".hl-level")
    assert levels.count() == 100
    lab.screenshot("levels", view.app)
    levels.nth(3).click()
    grid = view.app.get_by_role("grid")
    grid.and_(lab.page.locator('[aria-rowcount="501"]')).wait_for()
    assert grid.locator("tr[data-function]").count() < 100
