"""Functions, and everything that they use, as the text of a Python module."""

from __future__ import annotations

import ast
import inspect
import linecache
import math
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from functools import lru_cache
from itertools import chain
from types import MappingProxyType, ModuleType
from typing import Any

import cloudpickle  # type: ignore[import-untyped]

from handoff_lab._errors import HandoffError
from handoff_lab.graph.dag import DAG
from handoff_lab.graph.decorator import function
from handoff_lab.graph.references import Argument, Collocated
from handoff_lab.resources import Resources

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_DECORATORS = (DAG.function, function)
_WRITTEN = (type(None), bool, int, str, bytes, range)  # as their repr


class SourceWriter:
    """Gathers definitions, and everything they name, until the module stands alone.

    Parameters
    ----------
    meanings
        What names mean in the module already.

    Attributes
    ----------
    user : str
        The function that is being written, for messages.
    constants, definitions : dict of name to text
    """

    def __init__(self, meanings: Mapping[str, Any]) -> None:
        self.user = ""
        self.constants: dict[str, str] = {}
        self.definitions: dict[str, str] = {}
        self._imports: dict[str, None] = {}
        self._meanings = dict(meanings)

    def imports(self) -> list[str]:
        """The import lines, in order."""
        return sorted(self._imports)

    def needs(self, line: str) -> None:
        """See that an import line is there."""
        self._imports[line] = None

    def is_taken(self, name: str) -> bool:
        """Whether a name means something in the module."""
        return name in self._meanings

    def define(self, name: str, value: Any, mark: str = "") -> None:
        """Write the definition of a function or class, with ``mark`` above it, and all that it names."""
        node, text, scope = _definition(value, self.user)
        kept = [d for d in node.decorator_list if not _is_mark(d, scope)]
        self.refer_all(_names(node, kept), scope, but=name)
        self.definitions.pop(name, None)  # a function of the graph that another one calls: now it gets its mark
        self.definitions[name] = "".join(f"@{ast.unparse(d)}\n" for d in kept) + mark + text

    def refer_all(self, names: list[str], scope: Mapping[str, Any], but: str = "") -> None:
        """See that names mean in the module what they mean in ``scope``."""
        for used in names:
            if used in scope and used != but:
                self.refer(used, scope[used])

    def claim(self, name: str, value: Any) -> bool:
        """Whether ``name`` is met for the first time; it can mean one thing only."""
        if name in self._meanings and self._meanings[name] is not value:
            raise HandoffError(f"{self.user!r} cannot be exported: two things are called {name!r}; rename one of them")
        new = name not in self._meanings
        self._meanings[name] = value
        return new

    def refer(self, name: str, value: Any) -> None:
        """See that ``name`` is ``value`` in the module."""
        if not self.claim(name, value):
            return
        if isinstance(value, ModuleType):
            plain = value.__name__ == name
            self.needs(f"import {value.__name__}" + ("" if plain else f" as {name}"))
        elif (path := self.import_path(value)) is not None:
            module, attribute = path
            self.needs(f"from {module} import {attribute}" + ("" if attribute == name else f" as {name}"))
        elif is_defined(value) and value.__name__ == name:
            self.define(name, value)
        elif is_defined(value) and value.__name__.isidentifier():
            self.refer(value.__name__, value)
            self.definitions[name] = f"{name} = {value.__name__}"
        else:
            (self.definitions if callable(value) else self.constants)[name] = f"{name} = {self.express(value)}"

    def express(self, value: Any) -> str:
        """An expression that gives ``value``."""
        kind = type(value)  # of what is made of one of these, such as a named tuple, the text would be another thing
        if kind in _WRITTEN or (kind is float and math.isfinite(value)):
            return repr(value)
        if _is_number_of_numpy(value):
            self.refer("numpy", sys.modules["numpy"])
            return f"numpy.{kind.__name__}({value.item()!r})"
        if kind is Resources:
            return repr({name: int(v) if v.is_integer() else v for name, v in value.items()})
        if kind in (dict, MappingProxyType):
            return "{" + ", ".join(f"{self.express(k)}: {self.express(v)}" for k, v in value.items()) + "}"
        if kind is list:
            return f"[{', '.join(map(self.express, value))}]"
        if kind is tuple:
            inside = ", ".join(map(self.express, value))
            return f"({inside},)" if len(value) == 1 else f"({inside})"
        if isinstance(value, Argument | Collocated):
            given = [(f.name, getattr(value, f.name)) for f in fields(value) if getattr(value, f.name) != f.default]
            name = "collocated" if isinstance(value, Collocated) else "Argument"
            return f"hl.{name}({', '.join(f'{option}={self.express(v)}' for option, v in given)})"
        path = self.import_path(value)
        if path or is_defined(value):
            if path != ("builtins", value.__name__):
                self.refer(value.__name__, value)
            return str(value.__name__)
        return self.otherwise(value)

    def otherwise(self, value: Any) -> str:
        """An expression that gives a value for which there is no text."""
        raise HandoffError(
            f"{self.user!r} cannot be exported: it uses a value of type {type(value).__name__}, "
            "which cannot be written as text; make it an input"
        )

    def import_path(self, value: Any) -> tuple[str, str] | None:
        """Module and name from which ``value`` can be imported anywhere."""
        module, name = getattr(value, "__module__", None), getattr(value, "__name__", None)
        if not isinstance(module, str) or not isinstance(name, str) or module == "__main__":
            return None
        found = getattr(sys.modules.get(module), name, None) is value
        return (module, name) if found and module not in cloudpickle.list_registry_pickle_by_value() else None


def is_defined(value: Any) -> bool:
    """Whether a ``def`` or a ``class`` made it."""
    return isinstance(value, type) or inspect.isfunction(inspect.unwrap(value))


@lru_cache(maxsize=16)
def parsed(source: str) -> ast.Module:
    """The syntax tree of a file or cell, which is not to be changed."""
    return ast.parse(source)


def names_in(*trees: ast.AST) -> list[str]:
    """The names that are read in these trees, each once."""
    loaded = (n for tree in trees for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load))
    return list(dict.fromkeys(name.id for name in loaded))


def _is_number_of_numpy(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, numpy.generic) or value.dtype.kind not in "biuf":
        return False
    return type(value.item()) in (bool, int, float) and math.isfinite(value)


def _definition(value: Any, user: str) -> tuple[Definition, str, Mapping[str, Any]]:
    """The syntax tree of a function or class, its text without decorators, and the names around it."""
    plain = inspect.unwrap(value)
    for filename in _files(plain):
        lines = linecache.getlines(filename)
        for node in _candidates(parsed("".join(lines)), plain):
            if node.name == plain.__name__ and node.end_lineno is not None:
                text = textwrap.dedent("".join(lines[node.lineno - 1 : node.end_lineno])).rstrip("\n")
                return node, text, _scope(plain)
    raise HandoffError(
        f"{user!r} cannot be exported: {plain.__qualname__} is not defined at the top of a cell or module"
    )


def _candidates(tree: ast.Module, plain: Any) -> Iterator[Definition]:
    """Where ``plain`` may be defined: at the top, or anywhere if nothing but its module is around it."""
    if isinstance(plain, type):
        yield from (node for node in tree.body if isinstance(node, ast.ClassDef))
        return
    inside = () if plain.__closure__ else ast.walk(tree)
    for node in chain(tree.body, inside):  # most stand at the top, and looking there is quick
        if isinstance(node, Definition) and plain.__code__.co_firstlineno == _first_line(node):
            yield node


def _first_line(node: Definition) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def _scope(plain: Any) -> Mapping[str, Any]:
    scope: Mapping[str, Any] = vars(sys.modules[plain.__module__]) if isinstance(plain, type) else plain.__globals__
    return scope


def _files(value: Any) -> Iterator[str]:
    """Where the definition may stand; a class does not say, so every cell is looked at, the latest first."""
    if inspect.isfunction(value):
        yield value.__code__.co_filename
    else:
        yield from (name for name, entry in reversed(linecache.cache.items()) if len(entry) == 4 and entry[1] is None)
        yield from filter(None, [getattr(sys.modules[value.__module__], "__file__", None)])


def _names(node: Definition, decorators: list[ast.expr]) -> list[str]:
    return names_in(*(child for child in ast.iter_child_nodes(node) if child not in node.decorator_list), *decorators)


def _is_mark(decorator: ast.expr, scope: Mapping[str, Any]) -> bool:
    """Whether it is ``@dag.function`` or ``@hl.function``, called or not."""
    target = decorator.func if isinstance(decorator, ast.Call) else decorator
    try:
        value: Callable[..., Any] = eval(ast.unparse(target), dict(scope))  # noqa: S307 (it was evaluated before)
    except Exception:
        return False
    return getattr(value, "__func__", value) in _DECORATORS
