"""The DAG of a Python file."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import cloudpickle  # type: ignore[import-untyped]

from handoff_lab._errors import HandoffError
from handoff_lab.graph import DAG


def load_module(path: Path) -> ModuleType:
    """Import a file under its own name; what lies beside it can be imported, as when Python runs it."""
    sys.path.insert(0, str(path.resolve().parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise HandoffError(f"{path} cannot be imported")
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    cloudpickle.register_pickle_by_value(module)  # as if it were __main__: nodes must not execute the file again
    spec.loader.exec_module(module)
    return module


def find_dag(module: ModuleType, variable: str | None = None) -> DAG:
    """The DAG of the module in this variable; or its only one; or the one that its marked functions form."""
    dags = {name: value for name, value in vars(module).items() if isinstance(value, DAG)}
    if variable is not None:
        if variable not in dags:
            raise HandoffError(f"{module.__file__} has no DAG {variable!r}; it has {', '.join(dags) or 'none'}")
        return dags[variable]
    different = {id(dag): dag for dag in dags.values()}
    if len(different) > 1:
        raise HandoffError(f"{module.__file__} has several DAGs: choose with --dag one of {', '.join(dags)}")
    dag = next(iter(different.values())) if different else DAG.from_module(module)
    if not dag.functions:
        raise HandoffError(f"{module.__file__} has no DAG: make one with hl.DAG(), or mark functions with @hl.function")
    return dag
