"""Run the example notebooks from top to bottom and save them with their outputs: ``python scripts/run_notebooks.py``.

With names it runs those only: ``python scripts/run_notebooks.py 01-first-dag``.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
PATIENCE_S = 300
LIVE = ("application/vnd.jupyter.widget-view+json", "application/vnd.handoff-lab.view+json")


def execute(path: Path) -> nbformat.NotebookNode:
    """The notebook with fresh outputs; the file stays as it is. What the notebook writes is thrown away."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            notebook,
            timeout=PATIENCE_S,
            kernel_name="python3",
            store_widget_state=False,  # a saved output shows its picture, not an empty widget
            record_timing=False,
            config=Config({"KernelManager": {"transport_encryption": "auto"}}),
            resources={"metadata": {"path": folder}},
        ).execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            for mime in LIVE:  # their models ended with this kernel; what stands beside them stays
                output.get("data", {}).pop(mime, None)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def main(names: list[str]) -> None:
    paths = [NOTEBOOKS / f"{name}.ipynb" for name in names] or sorted(NOTEBOOKS.glob("*.ipynb"))
    for path in paths:
        print(path.stem)
        nbformat.write(execute(path), path)


if __name__ == "__main__":
    main(sys.argv[1:])
