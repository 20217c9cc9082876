"""The code of a run's functions: found once per object, pickled once, known by a key."""

from __future__ import annotations

import hashlib
import linecache
import pickle
from collections.abc import Mapping
from typing import Any

import cloudpickle  # type: ignore[import-untyped]

from handoff_lab._items import Items
from handoff_lab._units import format_bytes
from handoff_lab.messages import Failure, FailureKind, Recipe
from handoff_lab.node.execution import Sourced

CODE_LIMIT = 64 * 10**6  # bytes of one pickled function, with the globals that it names


class LiveCode:
    """Code for a backend in this process: the object itself, never pickled."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def pickled(self) -> bytes:
        """The code as bytes."""
        return dump(self.value)


class PickledCode:
    """Code for the nodes of other processes, as it was when the run was submitted."""

    __slots__ = ("_data", "value")

    def __init__(self, value: Any, data: bytes) -> None:
        self.value = value
        self._data = data

    def pickled(self) -> bytes:
        """The code as bytes."""
        return self._data


class CodeBook:
    """Gives each piece of code of a run its key; an object seen before costs a dictionary look-up."""

    def __init__(self, run: str, pickle: bool) -> None:
        self.codes: dict[str, LiveCode | PickledCode] = {}
        self.broken: dict[str, Failure] = {}
        self._run = run
        self._pickle = pickle
        self._keys: dict[int, str] = {}
        self._kept: list[Any] = []  # so that an id is not used again while the book lives

    def key(self, value: Any) -> str:
        """The key of ``value``; what can't be pickled gets one too, listed in ``broken``."""
        key = self._keys.get(id(value))
        if key is None:
            key = self._keys[id(value)] = self._enter(value)
            self._kept.append(value)
        return key

    def packed(self, arguments: Recipe | tuple[Any, ...]) -> bytes | Failure | None:
        """A recipe, or constant arguments, as they are now, where code is pickled."""
        if not self._pickle:
            return None
        try:
            return dump_arguments(arguments)
        except Exception as error:
            return _unpicklable("its arguments", error)

    def _enter(self, value: Any) -> str:
        if not self._pickle:
            key = f"{self._run}/{len(self._kept)}"
            self.codes[key] = LiveCode(value)
            return key
        try:
            data = dump(_with_source(value))
        except Exception as error:
            key = f"{self._run}/broken/{len(self._kept)}"
            self.codes[key] = LiveCode(value)  # nodes in this process can still run it
            name = getattr(value, "__qualname__", repr(value))
            self.broken[key] = _unpicklable(f"the code of {name}", error)
            return key
        key = hashlib.sha256(data).hexdigest()[:32]
        if len(data) > CODE_LIMIT:
            self.broken[key] = _too_large(value, len(data))
        else:
            self.codes.setdefault(key, PickledCode(value, data))
        return key


def dump(value: Any) -> bytes:
    """Pickle a piece of code by value where it has no module to be imported from."""
    data: bytes = cloudpickle.dumps(value, protocol=5)
    return data


def dump_arguments(arguments: Recipe | tuple[Any, ...]) -> bytes:
    """As `dump` does it, at a tenth of the time where nothing has to travel by value."""
    try:
        data = pickle.dumps(arguments, protocol=5)
    except Exception:  # cloudpickle takes it, or says why not
        return dump(arguments)
    by_value = cloudpickle.list_registry_pickle_by_value()
    if b"__main__" in data or (by_value and any(name.encode() in data for name in by_value)):
        return dump(arguments)
    return data


def _with_source(value: Any) -> Any:
    """``value`` with the text of the notebook cell or script that it was defined in, for tracebacks on the nodes."""
    if isinstance(value, Items):
        return value.calling(_with_source(value.__wrapped__))
    code = getattr(value, "__code__", None)
    if code is None or getattr(value, "__module__", None) != "__main__":
        return value
    lines = linecache.getlines(code.co_filename)
    return Sourced(value, code.co_filename, "".join(lines)) if lines else value


def _unpicklable(what: str, error: Exception) -> Failure:
    return Failure(
        FailureKind.CODE,
        f"{what} cannot be pickled: {error}; build such objects inside the function instead",
        type_name=type(error).__name__,
        retryable=False,
    )


def _too_large(value: Any, size: int) -> Failure:
    name = getattr(value, "__qualname__", repr(value))
    message = f"the code of {name} is {format_bytes(size)} when pickled, over the limit of {format_bytes(CODE_LIMIT)}"
    largest = _largest_global(value)
    if largest is not None:
        message += (
            f"; it takes along the global {largest[0]!r} ({format_bytes(largest[1])}): make it an input of the DAG"
        )
    return Failure(FailureKind.CODE, message, retryable=False)


def _largest_global(value: Any) -> tuple[str, int] | None:
    value = getattr(value, "__wrapped__", value)
    code = getattr(value, "__code__", None)
    scope: Mapping[str, Any] = getattr(value, "__globals__", {})
    if code is None:
        return None
    named = {name: scope[name] for name in code.co_names if name in scope}
    named |= {n: c.cell_contents for n, c in zip(code.co_freevars, value.__closure__ or (), strict=True)}
    sizes = [(name, len(dump(item))) for name, item in named.items()]
    return max(sizes, key=lambda pair: pair[1], default=None)
