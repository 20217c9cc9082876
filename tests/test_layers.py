"""Imports point downwards only, lazy ones too, and the model stays pure."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "handoff_lab"

# From the ground up; names in one row are one storey and may import each other.
STOREYS = (
    {"_errors", "_items", "_loading", "_names", "_units", "_version"},
    {"resources"},
    {"graph"},
    {"allocation"},
    {"messages"},
    {"scheduler"},
    {"telemetry"},
    {"store"},
    {"transport"},
    {"node"},
    {"backends"},
    {"coordinator"},
    {"detached", "guests"},
    {"attaching", "nodes", "planning", "cluster", "results", "run", "api"},
    {"streaming"},
    {"visualization"},
    {"widgets"},
    {"notebook"},
    {"cli", "testing", "examples", "display"},
)
LEVEL = {name: level for level, storey in enumerate(STOREYS) for name in storey}

MODEL = {"resources", "graph", "allocation", "messages", "scheduler"}
NOT_IN_THE_MODEL = {"asyncio", "IPython", "ipykernel", "jupyter_client", "socket", "time", "zmq"}

# What may look up, and why.
ALLOWED = {
    ("cluster", "visualization"): "objects draw themselves in a notebook",
    ("run", "visualization"): "objects draw themselves in a notebook",
    ("run", "widgets"): "run.watch()",
    ("cluster", "widgets"): "a cluster in a kernel is offered to JupyterLab's panel",
}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.name != "__init__.py")


def unit(path: Path) -> str:
    """The box of the design that a module belongs to: its package, or its own name."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imported(path: Path) -> list[tuple[int, str]]:
    """Line and dotted name of everything that a module imports, anywhere in it."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [(node.lineno, name) for name in _sources(path, node)]
    return found


def _sources(path: Path, node: ast.ImportFrom) -> list[str]:
    base = node.module or ""
    if node.level:
        package = ("handoff_lab", *path.relative_to(PACKAGE).parts[:-1])
        base = ".".join((*package[: len(package) - node.level + 1], *filter(None, [base])))
    if base == "handoff_lab":
        return [f"{base}.{alias.name}" for alias in node.names]
    return [base]


def typing_only(path: Path) -> set[int]:
    """Lines under ``if TYPE_CHECKING:``, which never run."""
    lines: set[int] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            lines.update(range(node.lineno, (node.body[-1].end_lineno or node.lineno) + 1))
    return lines


def upward_imports(path: Path) -> list[str]:
    here = unit(path)
    skipped = typing_only(path)
    wrong = []
    for line, name in imported(path):
        root, _, rest = name.partition(".")
        there = rest.partition(".")[0]
        if root != "handoff_lab" or line in skipped or there == here:
            continue
        if there not in LEVEL or (LEVEL[there] > LEVEL[here] and (here, there) not in ALLOWED):
            wrong.append(f"{path.relative_to(PACKAGE)}:{line} imports {name}")
    return wrong


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downwards(path: Path) -> None:
    assert unit(path) in LEVEL, f"{unit(path)} has no storey: give it one in STOREYS"
    assert upward_imports(path) == []


@pytest.mark.parametrize("name", sorted(MODEL))
def test_the_model_knows_no_clock_and_no_machine(name: str) -> None:
    files = [path for path in modules() if unit(path) == name]
    assert files
    roots = {(path.name, source.partition(".")[0]) for path in files for _, source in imported(path)}
    assert {pair for pair in roots if pair[1] in NOT_IN_THE_MODEL} == set()


def test_every_exception_to_the_rule_is_in_use() -> None:
    used = {(unit(p), n.split(".")[1]) for p in modules() for _, n in imported(p) if n.startswith("handoff_lab.")}
    assert set(ALLOWED) <= used


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("from handoff_lab.scheduler import state", True),
        ("def f():\n    from handoff_lab import api", True),
        ("from ..transport import frames", True),
        ("import handoff_lab.node.agent", True),
        ("from handoff_lab.unknown import x", True),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from handoff_lab import api", False),
        ("from handoff_lab._errors import HandoffError\nfrom . import dag\nimport json", False),
    ],
)
def test_the_check_itself(source: str, wrong: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    path = tmp_path / "graph" / "module.py"
    path.parent.mkdir()
    path.write_text(source)
    assert bool(upward_imports(path)) is wrong
