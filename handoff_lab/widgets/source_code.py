"""The source of a function as people know it: its text, highlighted, and the cell or file where it stands."""

from __future__ import annotations

import functools
import inspect
import os
import sys
import textwrap
from pathlib import Path
from typing import Any

SOURCE_LIMIT = 100_000  # characters
_LIBRARY = ("/site-packages/", "/dist-packages/", f"/lib/python{sys.version_info.major}.")
_PACKAGE = f"{Path(__file__).parents[1]}/"
_EXAMPLES = f"{_PACKAGE}examples/"
_COMPILED = (".pyx", ".pxd", ".pxi")


def source_of(code: Any) -> str | None:
    """The text of what is called, or None where there is none, as for what is written in C."""
    try:
        text = inspect.getsource(_written(code))
    except (OSError, TypeError):
        return None
    text = textwrap.dedent(text).rstrip("\n")
    return text if len(text) <= SOURCE_LIMIT else f"{text[:SOURCE_LIMIT]}\n# and more"


def highlighted(source: str) -> str:
    """HTML of spans with Pygments' short classes.

    >>> highlighted("x = 1")
    '<span class="n">x</span> <span class="o">=</span> <span class="mi">1</span>'
    """
    from pygments import highlight  # type: ignore[import-untyped]
    from pygments.formatters import HtmlFormatter  # type: ignore[import-untyped]
    from pygments.lexers import PythonLexer  # type: ignore[import-untyped]

    html: str = highlight(source, PythonLexer(ensurenl=False, stripnl=False), HtmlFormatter(nowrap=True))
    return html.rstrip("\n").replace('<span class="w"> </span>', " ")


def doc_of(code: Any) -> str | None:
    """The docstring of what is called."""
    try:
        return inspect.getdoc(_bare(code)) or None
    except Exception:  # a docstring may be any property
        return None


def place_of(code: Any) -> str | None:
    """Where it is defined, such as ``In [3], line 2`` or ``pipeline.py:12``."""
    written = _written(code)
    try:
        filename, line = inspect.getsourcefile(written), inspect.getsourcelines(written)[1]
    except (OSError, TypeError):
        return None
    if filename is None:
        return None
    cell = cell_of(filename)
    return f"{cell}, line {max(line, 1)}" if cell else f"{Path(filename).name}:{max(line, 1)}"


def cell_of(filename: str) -> str | None:
    """The notebook's name for a cell that was compiled under this file name; None if it is no cell of this kernel."""
    if "IPython" not in sys.modules:
        return None
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    name = None if shell is None else shell.compile.format_code_name(filename)
    return None if name is None else str(name[1]).replace("In[", "In [")


def is_library(filename: str) -> bool:
    """Whether a file is not of the user's making: of a package that was installed, of Python, or of handoff_lab.

    What was compiled elsewhere is known by its suffix, or by a path that leads nowhere from here.
    """
    if filename.startswith("<frozen") or filename.endswith(_COMPILED) or is_own(filename):
        return True
    if filename.startswith((_PACKAGE, "<")):  # an example; a cell, or what was typed
        return False
    return any(part in filename for part in _LIBRARY) or not (filename.startswith("/") or os.access(filename, os.F_OK))


def is_own(filename: str) -> bool:
    """Whether a file is of handoff_lab, here or where it is installed on a node; examples are as a user writes them."""
    if filename.startswith(_PACKAGE):
        return not filename.startswith(_EXAMPLES)
    return "-packages/handoff_lab/" in filename and "-packages/handoff_lab/examples/" not in filename


def _bare(code: Any) -> Any:
    """What is below partials and decorators."""
    while isinstance(code, functools.partial):
        code = code.func
    return inspect.unwrap(code) if callable(code) else code


def _written(code: Any) -> Any:
    """What someone wrote: of an object that can be called, its ``__call__``."""
    bare = _bare(code)
    if inspect.isroutine(bare) or isinstance(bare, type) or not callable(bare):
        return bare
    return type(bare).__call__
