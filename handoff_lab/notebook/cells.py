"""The body of a cell: compiled once, with the line numbers that the user sees, and executed once."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from types import CodeType
from typing import Any

from IPython import version_info
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell


@dataclass(frozen=True, slots=True)
class Body:
    """A compiled cell body, and the names of the functions that it defines at its top level."""

    codes: tuple[CodeType, ...]
    names: tuple[str, ...]

    def run(self, namespace: dict[str, Any]) -> None:
        """Execute it; the value of a last expression is shown, as in any cell."""
        __tracebackhide__ = True  # IPython leaves this frame out of tracebacks
        for code in self.codes:
            exec(code, namespace)  # noqa: S102


def running_count(shell: InteractiveShell, stored: bool) -> int:
    """The number of the running cell; since 9.8, IPython counts one that goes into the history before it runs it."""
    return int(shell.execution_count) - (stored and version_info[:2] >= (9, 8))


def compile_body(shell: InteractiveShell, body: str, raw_cell: str | None, count: int) -> Body:
    """Compile what stands below the line of a cell magic.

    The source is cached under the name of the whole cell with an empty line in
    the place of the magic: so tracebacks, ``inspect.getsource`` and the
    debugger's breakpoints find it.
    """
    blank_lines = len(body[: len(body) - len(body.lstrip())].splitlines())  # IPython drops them
    source = "\n" * (1 + blank_lines) + shell.transform_cell(body)
    filename = shell.compile.cache(source, count, raw_code=raw_cell)
    tree = shell.transform_ast(shell.compile.ast_parse(source, filename))
    names = defined_functions(tree)
    last = tree.body[-1:] if tree.body and isinstance(tree.body[-1], ast.Expr) else []
    parts: list[tuple[ast.AST, str]] = [(ast.Module(tree.body[: len(tree.body) - len(last)], []), "exec")]
    if last:
        parts.append((ast.Interactive(last), "single"))
    # not plain compile(): the shell remembers the __future__ imports of earlier cells
    codes = tuple(shell.compile(part, filename, mode) for part, mode in parts)  # type: ignore[arg-type]
    return Body(codes, names)


def defined_functions(tree: ast.Module) -> tuple[str, ...]:
    r"""Names of the top-level functions, in order; those with a leading underscore are helpers, not functions of a DAG.

    >>> defined_functions(ast.parse("def load(): ...\ndef _clip(x): ..."))
    ('load',)
    """
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"this cell defines {name!r} twice; give one of them another name")
    return tuple(name for name in names if not name.startswith("_"))


def plain_source(body: str) -> str:
    """The body of a setup cell, which must be plain Python: the slots of a node know no magics."""
    try:
        ast.parse(body)
    except SyntaxError as error:
        raise UsageError(
            f"a setup cell runs in every slot and must be plain Python: line {error.lineno}: {error.msg}"
        ) from None
    return body
