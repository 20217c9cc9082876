"""Tab, as a front end asks for it."""

from __future__ import annotations

import pytest

from handoff_lab.allocation import STRATEGIES
from handoff_lab.notebook.arguments import CELL, COMMANDS

pytestmark = pytest.mark.real


@pytest.fixture
def filled(notebook):
    notebook.ok("%%handoff\ndef load(path, size): ...\ndef blur(load): ...", "A")
    return notebook


def test_commands(filled):
    assert filled.complete("%handoff ") == list(COMMANDS)
    assert filled.complete("%handoff re") == ["report", "reset"]
    assert filled.complete("x = 1\n%handoff ex") == ["export"]


def test_options(filled):
    assert filled.complete("%handoff run --") == [name for name in COMMANDS["run"].options if name.startswith("--")]
    assert filled.complete("%%handoff --m") == [name for name in CELL.options if name.startswith("--m")]
    assert filled.complete("%%handoff se") == ["setup"]


def test_values(filled):
    assert filled.complete("%handoff run ") == ["load", "blur"]
    assert filled.complete("%handoff run load --wait b") == ["blur"]
    assert filled.complete("%handoff logs bl") == ["blur"]
    assert filled.complete("%handoff run --set ") == ["path=", "size="]
    assert filled.complete("%handoff run --allocator ") == list(STRATEGIES)
    assert filled.complete("%handoff run --allocator load_balanced l") == ["load"]


def test_other_lines_are_left_alone(filled):
    assert "blur" in filled.complete("blu")
    assert "setup" not in filled.complete("se")
