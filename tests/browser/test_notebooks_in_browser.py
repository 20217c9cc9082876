"""The example notebooks in JupyterLab."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .lab import Lab, NotebookPage

pytestmark = [pytest.mark.real, pytest.mark.browser]


def picture_sizes(notebook: NotebookPage, cell: str) -> list[list[int]]:
    """Width and height of each picture that a cell shows; 0 where it could not be drawn."""
    pictures = notebook.outputs(cell).locator("img").all()
    return [picture.evaluate("p => p.decode().then(() => [p.naturalWidth, p.naturalHeight])") for picture in pictures]


@pytest.fixture
def notebook(lab: Lab) -> NotebookPage:
    return lab.open("01-first-dag")


def assert_pictures_are_shown(notebook: NotebookPage) -> None:
    for cell in ("functions", "run", "decorator"):
        [(width, height)] = picture_sizes(notebook, cell)
        assert width > 50
        assert height > 100


def test_notebook_01_as_it_was_saved(lab: Lab, notebook: NotebookPage) -> None:
    assert_pictures_are_shown(notebook)
    notebook.show("run")
    lab.screenshot("run")


def test_notebook_01(lab: Lab, notebook: NotebookPage) -> None:
    notebook.run_all()
    assert notebook.text("answer") == notebook.text("cluster") == "183"
    assert_pictures_are_shown(notebook)
    lab.screenshot("decorator")
