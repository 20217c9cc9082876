"""Compiling a cell's body."""

from __future__ import annotations

import ast

import pytest
from IPython.core.error import UsageError

from handoff_lab.notebook.cells import defined_functions, plain_source


def test_only_top_level_functions_without_an_underscore_count():
    source = (
        "def a(): ...\ndef _b(): ...\nclass C:\n    def d(self): ...\nif True:\n    def e(): ...\nasync def f(): ..."
    )
    assert defined_functions(ast.parse(source)) == ("a", "f")


def test_setup_must_be_plain_python():
    assert plain_source("import os\n") == "import os\n"
    with pytest.raises(UsageError, match="line 2"):
        plain_source("import os\n%matplotlib inline\n")
