"""Functions of the graph that come from a Python file."""

from __future__ import annotations

import importlib.util
import secrets
import sys
from pathlib import Path
from types import ModuleType

import cloudpickle  # type: ignore[import-untyped]
from IPython.core.error import UsageError

from handoff_lab.graph.decorator import marked_functions
from handoff_lab.notebook.graph import Cell
from handoff_lab.notebook.session import Session


def import_module(session: Session, path: Path) -> None:
    """Add the functions that a file marks with ``@hl.function``; importing it again replaces them."""
    module = _load(path)
    cloudpickle.register_pickle_by_value(module)  # nodes cannot import it
    functions = marked_functions(module)
    if not functions:
        raise UsageError(f"{path} marks no function with @hl.function")
    with session.as_cell(Cell(f"file:{path.resolve()}", path.name)):
        if hasattr(module, "SETUP"):
            session.dag.set_up("\n".join(module.SETUP))
        session.dag.add(*functions)
    codes = [function.code for function in functions]
    session.shell.push({name: value for name, value in vars(module).items() if value in codes}, interactive=False)


def _load(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    name = f"{path.stem}_{secrets.token_hex(4)}"  # importing a file again must not meet the old module
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is no Python module; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
