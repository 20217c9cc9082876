"""The notebook's graph as a plain Python module that runs it."""

from __future__ import annotations

import ast
import inspect
import linecache
import math
import sys
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import fields
from types import ModuleType
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
from IPython.core.error import UsageError

from handoff_lab.graph import DAG, Argument, Collocated, Function, function
from handoff_lab.notebook.freshness import inputs
from handoff_lab.resources import Resources

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_DECORATORS = (DAG.function, function)
_DEFAULTS = {name: p.default for name, p in inspect.signature(Function).parameters.items() if p.default is not p.empty}


def module_source(dag: DAG, setup: Sequence[str], nodes: Mapping[str, Mapping[str, float]] | None) -> str:
    """Source of a module with the functions of ``dag`` marked, all that they use, and a main block that runs them.

    Raises
    ------
    UsageError
        When something cannot be written as text; it says which function uses it.
    """
    _no_lone_inputs(dag)
    writer = _Writer()
    for made in dag.functions.values():
        if made.type != "input":
            writer.add_function(made)
    if inputs(dag):
        writer.needs("import ast")
    head = [f'"""The graph {dag.name!r}, exported from a notebook."""', "\n".join(writer.imports())]
    if setup:
        head.append(f"SETUP = {list(setup)!r}  # each slot of each node executes this first")
    if writer.constants:
        head.append("\n".join(writer.constants.values()))
    return "\n\n".join(head) + "\n\n\n" + "\n\n\n".join([*writer.definitions.values(), _main(dag, setup, nodes)]) + "\n"


def _no_lone_inputs(dag: DAG) -> None:
    inferred = DAG().add(*(f for f in dag.functions.values() if f.type != "input"))
    for id in inputs(dag):
        if id not in inferred:
            raise UsageError(
                f"the input {id!r} cannot be exported: name it as a parameter of a function, without args="
            )


def _main(dag: DAG, setup: Sequence[str], nodes: Mapping[str, Mapping[str, float]] | None) -> str:
    options = ""
    lines = ['if __name__ == "__main__":', f"    dag = hl.DAG.from_module(sys.modules[__name__], {dag.name!r})"]
    if inputs(dag):
        lines += [
            f"    # the inputs are given as words: {' '.join(f'{id}=VALUE' for id in inputs(dag))}",
            '    given = dict(word.split("=", 1) for word in sys.argv[1:])',
            "    inputs = {name: ast.literal_eval(text) for name, text in given.items()}",
        ]
        options += ", inputs=inputs"
    if setup:
        options += ", setup=SETUP"
    asked = "" if nodes is None else repr({name: dict(capabilities) for name, capabilities in nodes.items()})
    lines += [
        f"    with hl.Cluster({asked}) as cluster:",
        f"        run = cluster.execute(dag{options})",
        "        for id in dag:",
        "            if id in run.results and not dag.dependents(id):",
        '                print(f"{id} = {run.results[id]!r}")',
    ]
    return "\n".join(lines)


class _Writer:
    """Gathers definitions, and everything they name, until the module stands alone."""

    def __init__(self) -> None:
        self._imports = {"import handoff_lab as hl": None, "import sys": None}
        self.constants: dict[str, str] = {}
        self.definitions: dict[str, str] = {}
        self._meanings: dict[str, Any] = {"hl": sys.modules["handoff_lab"], "sys": sys, "ast": ast}
        self._marked: dict[str, Hashable] = {}
        self._user = ""  # the function that is being written, for messages

    def imports(self) -> list[str]:
        """The import lines, in order."""
        return sorted(self._imports)

    def needs(self, line: str) -> None:
        """See that an import line is there."""
        self._imports[line] = None

    def add_function(self, made: Function) -> None:
        """Write one function of the graph with its mark."""
        self._user = str(made.id)
        code = made.code
        name = getattr(code, "__name__", "")
        if not name.isidentifier() or not inspect.isfunction(inspect.unwrap(code)):  # type: ignore[arg-type]
            raise UsageError(f"{made.id!r} cannot be exported: it is {code!r}; write it as a def")
        if name in self._marked:
            raise UsageError(
                f"{made.id!r} cannot be exported: {self._marked[name]!r} is made of {name} too; write two defs"
            )
        self._marked[name] = made.id
        self._claim(name, code)
        options = "".join(f"{key}={self._express(value)}, " for key, value in _options(made, name))
        mark = f"@hl.function({options.removesuffix(', ')})\n" if options else "@hl.function\n"
        self._define(name, code, mark)

    def _define(self, name: str, value: Any, mark: str = "") -> None:
        node, text, scope = _definition(value, self._user)
        kept = [d for d in node.decorator_list if not _is_mark(d, scope)]
        for used in _names(node, kept):
            if used in scope and used != name:
                self._refer(used, scope[used])
        self.definitions.pop(name, None)  # a function of the graph that another one calls: now it gets its mark
        self.definitions[name] = "".join(f"@{ast.unparse(d)}\n" for d in kept) + mark + text

    def _claim(self, name: str, value: Any) -> bool:
        """Whether ``name`` is met for the first time; it can mean one thing only."""
        if name in self._meanings and self._meanings[name] is not value:
            raise UsageError(f"{self._user!r} cannot be exported: two things are called {name!r}; rename one of them")
        new = name not in self._meanings
        self._meanings[name] = value
        return new

    def _refer(self, name: str, value: Any) -> None:
        """See that ``name`` is ``value`` in the module."""
        if not self._claim(name, value):
            return
        if isinstance(value, ModuleType):
            plain = value.__name__ == name
            self._imports[f"import {value.__name__}" + ("" if plain else f" as {name}")] = None
        elif (path := _import_path(value)) is not None:
            module, attribute = path
            self._imports[f"from {module} import {attribute}" + ("" if attribute == name else f" as {name}")] = None
        elif _is_defined(value) and value.__name__ == name:
            self._define(name, value)
        elif _is_defined(value):
            self._refer(value.__name__, value)
            self.definitions[name] = f"{name} = {value.__name__}"
        else:
            self.constants[name] = f"{name} = {self._express(value)}"

    def _express(self, value: Any) -> str:
        """An expression that gives ``value``."""
        if (
            value is None
            or isinstance(value, bool | int | str | bytes)
            or (isinstance(value, float) and math.isfinite(value))
        ):
            return repr(value)
        if isinstance(value, Resources):
            return repr({name: int(v) if v.is_integer() else v for name, v in value.items()})
        if isinstance(value, Mapping):
            return "{" + ", ".join(f"{self._express(k)}: {self._express(v)}" for k, v in value.items()) + "}"
        if isinstance(value, list):
            return f"[{', '.join(map(self._express, value))}]"
        if isinstance(value, tuple):
            inside = ", ".join(map(self._express, value))
            return f"({inside},)" if len(value) == 1 else f"({inside})"
        if isinstance(value, Argument | Collocated):
            given = [(f.name, getattr(value, f.name)) for f in fields(value) if getattr(value, f.name) != f.default]
            name = "collocated" if isinstance(value, Collocated) else "Argument"
            return f"hl.{name}({', '.join(f'{option}={self._express(v)}' for option, v in given)})"
        path = _import_path(value)
        if path or _is_defined(value):
            if path != ("builtins", value.__name__):
                self._refer(value.__name__, value)
            return str(value.__name__)
        kind = type(value).__name__
        raise UsageError(
            f"{self._user!r} cannot be exported: it uses a value of type {kind}, "
            "which cannot be written as text; make it an input"
        )


def _options(made: Function, name: str) -> Iterator[tuple[str, Any]]:
    """Options of the mark that are not the default."""
    if made.id != name:
        yield "id", made.id
    if made.inferred is None:
        yield "args", dict(zip(made.parameters, made.args, strict=True)) if made.parameters else list(made.args)
    for option, default in _DEFAULTS.items():
        value = getattr(made, option)
        if option not in ("code", "args") and value != default and value not in ((), {}):
            yield option, value


def _definition(value: Any, user: str) -> tuple[Definition, str, dict[str, Any]]:
    """The syntax tree of a top-level function or class, its text without decorators, and the names around it."""
    plain = inspect.unwrap(value)
    scope = vars(sys.modules[plain.__module__])
    for filename in _files(plain):
        lines = linecache.getlines(filename)
        for node in ast.parse("".join(lines)).body:
            if isinstance(node, Definition) and node.name == plain.__name__ and node.end_lineno is not None:
                return node, "".join(lines[node.lineno - 1 : node.end_lineno]).rstrip("\n"), scope
    raise UsageError(f"{user!r} cannot be exported: {plain.__qualname__} is not defined at the top of a cell or module")


def _is_defined(value: Any) -> bool:
    """Whether a ``def`` or a ``class`` made it."""
    return isinstance(value, type) or inspect.isfunction(inspect.unwrap(value))


def _files(value: Any) -> Iterator[str]:
    """Where the definition may stand; a class does not say, so every cell is looked at, the latest first."""
    if inspect.isfunction(value):
        yield value.__code__.co_filename
    else:
        yield from (name for name, entry in reversed(linecache.cache.items()) if len(entry) == 4 and entry[1] is None)


def _names(node: Definition, decorators: list[ast.expr]) -> list[str]:
    parts = [*(child for child in ast.iter_child_nodes(node) if child not in node.decorator_list), *decorators]
    loaded = (n for part in parts for n in ast.walk(part) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load))
    return list(dict.fromkeys(name.id for name in loaded))


def _is_mark(decorator: ast.expr, scope: Mapping[str, Any]) -> bool:
    """Whether it is ``@dag.function`` or ``@hl.function``, called or not."""
    target = decorator.func if isinstance(decorator, ast.Call) else decorator
    try:
        value: Callable[..., Any] = eval(ast.unparse(target), dict(scope))  # noqa: S307 (it was evaluated before)
    except Exception:
        return False
    return getattr(value, "__func__", value) in _DECORATORS


def _import_path(value: Any) -> tuple[str, str] | None:
    """Module and name from which ``value`` can be imported anywhere."""
    module, name = getattr(value, "__module__", None), getattr(value, "__name__", None)
    if not isinstance(module, str) or not isinstance(name, str) or module == "__main__":
        return None
    found = getattr(sys.modules.get(module), name, None) is value
    return (module, name) if found and module not in cloudpickle.list_registry_pickle_by_value() else None
