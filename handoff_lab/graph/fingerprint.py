"""Hashes by which an edit shows: of a function alone, and of one with all that it depends on.

The same code, options and constants give the same hash in every process of one
Python version. Names of files, line numbers and local variables do not count.
"""

from __future__ import annotations

import functools
import hashlib
import pickle
from collections.abc import Hashable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from handoff_lab.graph.functions import Function
from handoff_lab.graph.references import Argument, Collocated

_SCALARS = (type(None), bool, int, float, complex, str, bytes, type(...))
_VALUE_OPTIONS = ("type", "code", "parameters", "extra_args", "kwargs", "argument_inclusion", "init")


def fingerprint(function: Function) -> str:
    """Hash of everything a function says: its code and all its options."""
    digest = _Digest()
    for field in fields(function):
        if field.name != "inferred":
            digest.feed((field.name, getattr(function, field.name)))
    return digest.hexdigest()


def with_inputs(function: Function, known: Mapping[Hashable, str]) -> str:
    """Hash of what decides a function's result, with the hashes of its inputs; cost and retries do not."""
    digest = _Digest()
    digest.feed(function.id if function.type == "input" else None)
    for name in _VALUE_OPTIONS:
        digest.feed(getattr(function, name))
    for arg in function.arguments:
        digest.feed((known.get(arg.id, repr(arg.id)), arg.serialize, arg.deserialize, arg.argument_inclusion))
    return digest.hexdigest()


class _Digest:
    """A hash of Python values; functions met on the way are queued, so no chain of helpers is too long."""

    def __init__(self, met: dict[FunctionType, int] | None = None) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self._met = {} if met is None else met
        self._queue: list[FunctionType] = []

    def hexdigest(self) -> str:
        while self._queue:
            self._feed_function(self._queue.pop())
        return self._hash.hexdigest()

    def feed(self, value: Any) -> None:
        if isinstance(value, _SCALARS):
            self._token(type(value).__name__, repr(value))
        elif isinstance(value, FunctionType):
            self._meet(value)
        elif isinstance(value, CodeType):
            self._feed_code(value)
        elif isinstance(value, (MethodType, BuiltinFunctionType)) and not isinstance(value.__self__, ModuleType | None):
            self.feed(("method", value.__name__, getattr(value, "__func__", None), value.__self__))
        elif isinstance(value, (type, BuiltinFunctionType, ModuleType)):
            self._token("named", _full_name(value))
        elif isinstance(value, (Argument, Collocated)):
            self.feed((type(value), *(getattr(value, field.name) for field in fields(value))))
        elif isinstance(value, (list, tuple)):
            self._token(type(value).__name__, str(len(value)))
            for item in value:
                self.feed(item)
        elif isinstance(value, Mapping):
            self._feed_unordered("mapping", value.items())
        elif isinstance(value, AbstractSet):
            self._feed_unordered("set", value)
        elif isinstance(value, functools.partial):
            self.feed(("partial", value.func, value.args, value.keywords))
        else:
            self._feed_pickle(value)

    def _token(self, kind: str, text: str) -> None:
        self._hash.update(f"{kind}:{len(text)}:{text};".encode("utf-8", "surrogatepass"))

    def _feed_unordered(self, kind: str, items: Iterable[Any]) -> None:
        self._token(kind, "")
        for item in sorted(self._digest_of(item) for item in items):
            self._token("item", item)

    def _digest_of(self, value: Any) -> str:
        part = _Digest(self._met)
        part.feed(value)
        return part.hexdigest()

    def _meet(self, function: FunctionType) -> None:
        if function not in self._met:
            self._met[function] = len(self._met)
            self._queue.append(function)
        self._token("function", str(self._met[function]))

    def _feed_function(self, function: FunctionType) -> None:
        self.feed(function.__code__)
        self.feed(function.__defaults__)
        self.feed(function.__kwdefaults__)
        for cell in function.__closure__ or ():
            try:
                self.feed(cell.cell_contents)
            except ValueError:
                self._token("cell", "empty")
        for name in sorted(_names(function.__code__)):
            if name in function.__globals__:
                self._feed_global(name, function.__globals__[name], function)

    def _feed_code(self, code: CodeType) -> None:
        counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
        parameters = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        self.feed((code.co_code, code.co_exceptiontable, counts, parameters, code.co_names, code.co_consts))

    def _feed_global(self, name: str, value: Any, user: FunctionType) -> None:
        """Helpers of the same module and constants count; of anything else only what it is."""
        self._token("global", name)
        if isinstance(value, _SCALARS) or (isinstance(value, FunctionType) and value.__module__ == user.__module__):
            self.feed(value)
        else:
            self._token("named", _full_name(value if hasattr(value, "__name__") else type(value)))

    def _feed_pickle(self, value: Any) -> None:
        self.feed(type(value))
        try:
            self._token("pickle", hashlib.blake2b(pickle.dumps(value, 5)).hexdigest())
        except Exception:  # an object's own __reduce__ may raise anything; then its class has to do
            self._token("pickle", "none")


def _names(code: CodeType) -> set[str]:
    """Names that ``code``, or code nested in it, may look up in its module."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _names(constant)
    return names


def _full_name(value: Any) -> str:
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', value.__name__)}"
