"""Hashes by which an edit shows: of a function alone, and of one with all that it depends on.

The same code, options and constants give the same hash in every process of one
Python version. Names of files, line numbers and local variables do not count.
Of what a function uses, the functions, classes and plain constants of its own
module count; of anything else only what it is.
"""

from __future__ import annotations

import dis
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
_SCALAR_TYPES = frozenset(_SCALARS)
_CONSTANTS = (*_SCALARS, list, tuple, dict, set, frozenset, functools.partial)
_MEMBERS = (FunctionType, staticmethod, classmethod, property, functools.cached_property)
_LOOK_UPS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_VALUE_OPTIONS = ("type", "code", "parameters", "extra_args", "kwargs", "argument_inclusion", "init")


def fingerprint(function: Function) -> str:
    """Hash of everything a function says: its code and all its options."""
    digest = _Digest(_module(function.code))
    for field in fields(function):
        if field.name != "inferred":
            digest.feed((field.name, getattr(function, field.name)))
    return digest.hexdigest()


def with_inputs(function: Function, known: Mapping[Hashable, str]) -> str:
    """Hash of what decides a function's result, with the hashes of its inputs; cost and retries do not."""
    digest = _Digest(_module(function.code))
    digest.feed(function.id if function.type == "input" else None)
    for name in _VALUE_OPTIONS:
        digest.feed(getattr(function, name))
    if function.over is not None:
        digest.feed(("over", function.over))
    for arg in function.arguments:
        digest.feed((known.get(arg.id, repr(arg.id)), arg.serialize, arg.deserialize, arg.argument_inclusion))
    return digest.hexdigest()


class _Digest:
    """A hash of Python values; functions and classes met on the way are queued, so no chain of helpers is too long."""

    def __init__(self, module: str | None, above: _Digest | None = None) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self._module = module  # whose classes and helpers count
        self._met: dict[FunctionType | type, int] = {} if above is None else above._met
        self._open: list[int] = [] if above is None else above._open  # containers that what is fed is in
        self._queue: list[FunctionType | type] = []

    def hexdigest(self) -> str:
        while self._queue:
            met = self._queue.pop()
            self._module = met.__module__
            if isinstance(met, type):
                self._feed_class(met)
            else:
                self._feed_function(met)
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
        elif isinstance(value, type) and value.__module__ == self._module:
            self._meet(value)
        elif isinstance(value, (type, BuiltinFunctionType, ModuleType)):
            self._token("named", _full_name(value))
        elif isinstance(value, (Argument, Collocated)):
            self.feed((type(value), *(getattr(value, field.name) for field in fields(value))))
        elif isinstance(value, (list, tuple, Mapping, AbstractSet)):
            self._feed_container(value)
        elif isinstance(value, functools.partial):
            self.feed(("partial", value.func, value.args, value.keywords))
        elif _is_wrapper(value):
            self.feed((type(value), value.__wrapped__))
        else:
            self._feed_pickle(value)

    def _token(self, kind: str, text: str) -> None:
        self._hash.update(f"{kind}:{len(text)}:{text};".encode("utf-8", "surrogatepass"))

    def _feed_container(self, value: Any) -> None:
        if id(value) in self._open:
            self._token("within", str(len(self._open) - self._open.index(id(value))))
            return
        self._open.append(id(value))
        if isinstance(value, Mapping):
            self._feed_unordered("mapping", value.items())
        elif isinstance(value, AbstractSet):
            self._feed_unordered("set", value)
        elif _SCALAR_TYPES.issuperset(map(type, value)):  # often long, and this is fast
            self._token(type(value).__name__, repr(tuple(value)))
        else:
            self._token(type(value).__name__, str(len(value)))
            for item in value:
                self.feed(item)
        self._open.pop()

    def _feed_unordered(self, kind: str, items: Iterable[Any]) -> None:
        self._token(kind, "")
        for item in sorted(self._digest_of(item) for item in items):
            self._token("item", item)

    def _digest_of(self, value: Any) -> str:
        part = _Digest(self._module, self)
        part.feed(value)
        return part.hexdigest()

    def _meet(self, value: FunctionType | type) -> None:
        if value not in self._met:
            self._met[value] = len(self._met)
            self._queue.append(value)
        self._token("met", str(self._met[value]))

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
                self._token("global", name)
                self._feed_used(function.__globals__[name])

    def _feed_code(self, code: CodeType) -> None:
        counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
        parameters = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        self.feed((code.co_code, code.co_exceptiontable, counts, parameters, code.co_names, code.co_consts))

    def _feed_class(self, cls: type) -> None:
        self._token("class", _full_name(cls))
        self.feed(cls.__bases__)
        for name, value in sorted(vars(cls).items()):
            if isinstance(value, _MEMBERS) or not (name.startswith("__") and name.endswith("__")):
                self._token("member", name)
                for part in _parts(value):
                    self._feed_used(part)

    def _feed_used(self, value: Any) -> None:
        """What a function looks up in its module, or has in its class."""
        ours = getattr(value, "__module__", None) == self._module
        if isinstance(value, _CONSTANTS) or (ours and (isinstance(value, FunctionType | type) or _is_wrapper(value))):
            self.feed(value)
        elif hasattr(value, "__name__"):
            self._token("named", _full_name(value))
        else:
            self.feed(type(value))

    def _feed_pickle(self, value: Any) -> None:
        if callable(value):
            self._meet(type(value))
        else:
            self.feed(type(value))
        try:
            self._token("pickle", hashlib.blake2b(pickle.dumps(value, 5)).hexdigest())
        except Exception:  # an object's own __reduce__ may raise anything; then its class has to do
            self._token("pickle", "none")


@functools.lru_cache(maxsize=4096)
def _names(code: CodeType) -> frozenset[str]:
    """Names that ``code``, or code nested in it, looks up in its module; attributes and imports are none."""
    names = {step.argval for step in dis.get_instructions(code) if step.opname in _LOOK_UPS}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _names(constant)
    return frozenset(names)


def _full_name(value: Any) -> str:
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', value.__name__)}"


def _module(code: Any) -> str | None:
    """The module in which ``code``, or the class of such an object, was defined."""
    while isinstance(code, functools.partial):
        code = code.func
    return getattr(code, "__module__", None)


def _is_wrapper(value: Any) -> bool:
    """Whether ``value`` stands for another function, as what ``functools.cache`` makes does."""
    return callable(value) and "__wrapped__" in getattr(value, "__dict__", ())


def _parts(member: Any) -> tuple[Any, ...]:
    """The functions of which a member of a class is made; a constant is its own."""
    if isinstance(member, staticmethod | classmethod):
        return (type(member), member.__func__)
    if isinstance(member, property):
        return (property, member.fget, member.fset, member.fdel)
    if isinstance(member, functools.cached_property):
        return (functools.cached_property, member.func)
    return (member,)
