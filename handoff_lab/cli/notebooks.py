"""Executes a notebook from the command line and prints what its cells say."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.kernelspec import NoSuchKernel
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode

from handoff_lab._errors import HandoffError
from handoff_lab.resources import Resources

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def run_notebook(path: Path, options: argparse.Namespace) -> int:
    """Execute it in a kernel whose folder is the notebook's; the file stays as it is."""
    if options.dag:
        raise HandoffError("--dag is for Python files; the functions of a notebook form one DAG")
    try:
        notebook = nbformat.read(path, as_version=4)
    except nbformat.reader.NotJSONError:
        raise HandoffError(f"{path} is not a notebook") from None
    _add_cells(notebook, options)
    client = NotebookClient(
        notebook,
        timeout=None,
        resources={"metadata": {"path": str(path.resolve().parent)}},
        on_cell_executed=_show,
    )
    try:
        client.execute()
    except CellExecutionError as error:
        raise HandoffError(f"a cell of {path} failed\n{_COLOURS.sub('', error.traceback).rstrip()}") from None
    except NoSuchKernel as error:
        raise HandoffError(f"{path} asks for kernel {error.name!r}, which is not installed here") from None
    except DeadKernelError:
        raise HandoffError(f"the kernel of {path} died") from None
    return 0


def _add_cells(notebook: NotebookNode, options: argparse.Namespace) -> None:
    """Start the nodes asked for before its first cell; run what was asked for after its last."""
    if options.nodes:
        start = " ".join(f"{name}:{_as_words(capabilities)}" for name, capabilities in options.nodes)
        notebook.cells.insert(0, nbformat.v4.new_code_cell(f"%load_ext handoff_lab\n%handoff start {start}"))
    if options.targets or options.inputs or options.allocator:
        asked = [*(options.targets or ()), *(f"--set {shlex.quote(f'{k}={v!r}')}" for k, v in options.inputs)]
        if options.allocator:
            asked.append(f"--allocator {options.allocator}")
        notebook.cells.append(nbformat.v4.new_code_cell(f"%handoff run --wait {' '.join(asked)}"))


def _as_words(capabilities: Resources) -> str:
    return ",".join(f"{name}={amount:g}" for name, amount in capabilities.items())


def _show(*, cell: NotebookNode, **_: Any) -> None:
    for output in cell.get("outputs", ()):
        if output.output_type == "stream":
            stream = sys.stderr if output.name == "stderr" else sys.stdout
            print(output.text, end="", file=stream, flush=True)
        elif "text/plain" in output.get("data", {}):
            print(output.data["text/plain"], flush=True)
