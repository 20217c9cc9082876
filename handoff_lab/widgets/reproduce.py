"""Plain Python that computes the result of one function again, in a fresh cell or process, without handoff_lab."""

from __future__ import annotations

import ast
import base64
import functools
import inspect
import keyword
import linecache
import sys
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from types import CodeType, FunctionType
from typing import Any

import cloudpickle  # type: ignore[import-untyped]

from handoff_lab._errors import HandoffError
from handoff_lab._items import Joined
from handoff_lab.graph import DAG, Argument, Function
from handoff_lab.graph.writing import SourceWriter, names_in, parsed
from handoff_lab.widgets.parameters import called
from handoff_lab.widgets.source_code import is_library

PICKLE_LIMIT = 10_000  # bytes of a value that is written as its pickle
ARRAY_LIMIT = 100  # numbers of an array that is written as a list
MOST_FUNCTIONS = 1000
ITEM_LIMIT = 1000  # of a list that is written item by item

ValueOf = Callable[[Hashable], Any]


def reproducing_code(dag: DAG, id: Hashable, setup: Sequence[str], value_of: ValueOf) -> str:
    """Python source whose last line is the result of ``id``; where it cannot be written, a comment that says why.

    Parameters
    ----------
    setup
        Source that runs first.
    value_of
        Gives the value of an input, or raises a `HandoffError`: its place is left open then.
    """
    try:
        return _write(dag, id, setup, value_of)
    except HandoffError as error:
        return f"{_comment(error)}\n"


def _write(dag: DAG, id: Hashable, setup: Sequence[str], value_of: ValueOf) -> str:
    needed = _needed(dag, id)
    if len(needed) > MOST_FUNCTIONS:
        raise HandoffError(f"{id!r} needs {len(needed)} functions, too many to be written one by one")
    writer = _ScriptWriter(setup)
    made = [
        writer.input(function.id, value_of) if function.type == "input" else writer.call(function)
        for function in needed
    ]
    results = writer.free_name("results")
    lines = [f"{results}[{writer.express(f.id)}] = {text.replace(_RESULTS, results)}" for f, text in zip(needed, made)]
    parts = [
        "\n".join([_comment(f"Computes {id!r} of the DAG {dag.name!r} again."), *writer.imports()]),
        *setup,
        "\n".join(writer.constants.values()),
        *writer.definitions.values(),
        "\n".join([f"{results} = {{}}", *lines, f"{results}[{writer.express(id)}]"]),
    ]
    return "\n\n".join(part.strip("\n") for part in parts if part.strip()) + "\n"


def _needed(dag: DAG, id: Hashable) -> list[Function]:
    """The function and all that it depends on, in topological order."""
    found, unseen = {id}, [id]
    while unseen:
        fresh = set(dag.dependencies(unseen.pop())) - found
        found |= fresh
        unseen += fresh
    return [function for function in dag.functions.values() if function.id in found]


_RESULTS = "\0"  # stands for the name of the results until all other names are known


class _ScriptWriter(SourceWriter):
    """Writes calls, too, and pickles where there is no text."""

    def __init__(self, setup: Sequence[str]) -> None:
        super().__init__({})
        self._set_up = {name for source in setup for name in _bound(source)}

    def free_name(self, name: str) -> str:
        """``name``, or one like it that means nothing yet."""
        while self.is_taken(name) or name in self._set_up:
            name += "_"
        return name

    def input(self, id: Hashable, value_of: ValueOf) -> str:
        """The value of an input."""
        self.user = str(id)
        try:
            return self.express(value_of(id))
        except HandoffError as error:
            return f"...  {_comment(f'put its value here: {error}')}"

    def call(self, function: Function) -> str:
        """The expression that calls a function as a run does."""
        self.user = str(function.id)
        terms = [self._term(argument) for argument in function.arguments]
        kwargs = {name: self.express(value) for name, value in function.kwargs.items()}
        if function.parameters is not None:
            kwargs |= zip(function.parameters, terms, strict=True)
            terms = []
        elif function.argument_inclusion == "as_list":
            terms = [_listed(terms)]
        else:
            terms = list(_gathered(function.arguments, terms))
        if isinstance(function.code, Joined):
            return _listed([f"*{term}" for term in terms])
        code, items, extra = called(function)
        name = self.express(code)
        given = [*terms, *map(self.express, extra), *_by_name(kwargs)]
        if items is None:
            return f"{name}({', '.join(given)})"
        item = self.free_name("item")
        return f"[{name}({', '.join([item, *given])}) for {item} in {self.express(items)}]"

    def _term(self, argument: Argument) -> str:
        """An argument; "here" stands for the nodes that a serializer is told."""
        text = f"{_RESULTS}[{self.express(argument.id)}]"
        for code in filter(None, (argument.serialize, argument.deserialize)):
            text = f"{self.express(code)}({text}, 'here', 'here')"
        return text

    def refer(self, name: str, value: Any) -> None:
        """See that ``name`` is ``value``, if the setup does not."""
        if name not in self._set_up:
            super().refer(name, value)

    def express(self, value: Any) -> str:
        """An expression that gives ``value``."""
        if isinstance(value, functools.partial):
            self.refer("functools", functools)
            given = [self.express(value.func), *map(self.express, value.args)]
            given += _by_name({name: self.express(item) for name, item in value.keywords.items()})
            return f"functools.partial({', '.join(given)})"
        if isinstance(value, str | bytes | list | tuple | dict | set) and len(value) > ITEM_LIMIT:
            return self.otherwise(value)
        if _is_small_array(value):
            self.refer("numpy", sys.modules["numpy"])
            return f"numpy.array({value.tolist()!r}, dtype={str(value.dtype)!r})"
        plain = inspect.unwrap(value) if callable(value) else value
        if isinstance(plain, FunctionType) and self.import_path(value) is None:
            if plain.__closure__:
                return self.otherwise(value)
            if plain.__name__ == "<lambda>":
                return self._lambda(plain)
        return super().express(value)

    def _lambda(self, value: FunctionType) -> str:
        node = _lambda_node(value.__code__)
        if node is None:
            return self.otherwise(value)
        self.refer_all(names_in(node), value.__globals__)
        return f"({ast.unparse(node)})"

    def otherwise(self, value: Any) -> str:
        """The pickle of a value, unless that is large."""
        try:
            known = getattr(value, "nbytes", 0)
            data: bytes = b"" if isinstance(known, int) and known > PICKLE_LIMIT else cloudpickle.dumps(value)
        except Exception:
            data = b""
        if not 0 < len(data) <= PICKLE_LIMIT:
            kind = type(value).__name__
            raise HandoffError(f"{self.user!r} uses a value of type {kind}, which is too large, or cannot be pickled")
        self.refer("base64", base64)
        self.needs("import pickle")
        return f"pickle.loads(base64.b64decode({base64.b64encode(data)!r}))"

    def import_path(self, value: Any) -> tuple[str, str] | None:
        """Where what is installed can be imported from; what the user wrote is written."""
        path = super().import_path(value)
        if path is None or path[0].startswith("handoff_lab."):
            return path
        filename = getattr(sys.modules[path[0]], "__file__", None)
        return path if filename is None or is_library(filename) else None


def _comment(text: object) -> str:
    """One line, whatever is in the text: what a user copies must run nothing that stands in a message or a name."""
    return f"# {' '.join(str(text).split())}"


def _by_name(given: Mapping[str, str]) -> Iterator[str]:
    """Arguments by name; names that Python's grammar has no place for are handed over in a dict."""
    odd = []
    for name, text in given.items():
        if name.isidentifier() and not keyword.iskeyword(name):
            yield f"{name}={text}"
        else:
            odd.append(f"{name!r}: {text}")
    if odd:
        yield f"**{{{', '.join(odd)}}}"


def _listed(terms: Sequence[str]) -> str:
    return f"[{', '.join(terms)}]"


def _gathered(arguments: Sequence[Argument], terms: Sequence[str]) -> Iterator[str]:
    """Terms in order; those to be passed as one list take the place of the first of them."""
    listed = [term for a, term in zip(arguments, terms, strict=True) if a.argument_inclusion == "as_list"]
    for argument, term in zip(arguments, terms, strict=True):
        if argument.argument_inclusion != "as_list":
            yield term
        elif listed:
            yield _listed(listed)
            listed = []


def _is_small_array(value: Any) -> bool:
    """Whether it is a NumPy array that reads well as a list of numbers."""
    numpy = sys.modules.get("numpy")
    if numpy is None or type(value) is not numpy.ndarray:
        return False
    return 0 < value.size <= ARRAY_LIMIT and value.dtype.kind in "biuf" and bool(numpy.isfinite(value).all())


def _bound(source: str) -> Iterator[str]:
    """Names that mean something after this source has run."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name).partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


@functools.lru_cache(maxsize=256)
def _lambda_node(code: CodeType) -> ast.Lambda | None:
    """The lambda in its source, known by its line and its byte code."""
    try:
        tree = parsed("".join(linecache.getlines(code.co_filename)))
    except SyntaxError:
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.Lambda) and node.lineno == code.co_firstlineno:
            made = compile(ast.Expression(node), code.co_filename, "eval").co_consts[0]
            if (made.co_code, made.co_names, _plain(made)) == (code.co_code, code.co_names, _plain(code)):
                return node
    return None


def _plain(code: CodeType) -> list[object]:
    """Its constants, but for code inside it, which is equal only at the same place."""
    return [constant for constant in code.co_consts if not isinstance(constant, CodeType)]
