"""The example notebooks in JupyterLab."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .lab import Lab, NotebookPage

pytestmark = [pytest.mark.real, pytest.mark.browser]

LIVE = "application/vnd.jupyter.widget-view+json"


def picture_sizes(notebook: NotebookPage, cell: str) -> list[list[int]]:
    """Width and height of each picture that a cell shows; 0 where it could not be drawn."""
    notebook.show(cell)
    pictures = notebook.outputs(cell).locator("img").all()
    return [picture.evaluate("p => p.decode().then(() => [p.naturalWidth, p.naturalHeight])") for picture in pictures]


@pytest.fixture
def notebook(lab: Lab) -> NotebookPage:
    return lab.open("01-first-dag")


def test_notebook_01_as_it_was_saved(lab: Lab, notebook: NotebookPage) -> None:
    for cell in ("functions", "decorator"):
        [(width, height)] = picture_sizes(notebook, cell)
        assert width > 50
        assert height > 100
    run = notebook.show("run")
    run.locator("svg, img").first.wait_for()
    run.get_by_text("pre_a").first.wait_for(state="attached")
    assert run.get_by_text("Error displaying widget").count() == 0
    lab.screenshot("run")


def test_notebook_01(lab: Lab, notebook: NotebookPage) -> None:
    notebook.run_all()
    assert notebook.text("answer") == notebook.text("cluster") == "183"
    view = notebook.view("run")
    view.wait("done")
    shapes = view.shapes()
    assert set(shapes) == {"input_data", "pre_a", "pre_b", "agg"}
    assert {status for status, _ in shapes.values()} == {"done"}
    assert {node for _, node in shapes.values()} == {"alpha", "beta"}
    lab.screenshot("run")
    [output] = next(cell for cell in notebook.save().cells if cell.id == "run").outputs
    assert LIVE in output.data
    assert "<svg" in output.data["image/svg+xml"]
    table = output.data["text/html"]
    assert "<table" in table
    assert all(word in table for word in (*shapes, "done", "alpha", "beta"))
    assert output.data["text/plain"].endswith("4 done>>")
