"""The code that a process was given: unpickled when it is first used, sources of set-up executed once.

Functions of a notebook were pickled by value, with the globals that they name. What other names they see is decided
here: in a slot those that set-up code made, in a kernel the kernel's own namespace.
"""

from __future__ import annotations

import io
import linecache
import pickle
from collections.abc import Callable, Iterable
from types import CodeType, FunctionType, ModuleType
from typing import Any, TypeAlias

import cloudpickle  # type: ignore[import-untyped]
from cloudpickle import cloudpickle as _internals

from handoff_lab._loading import loading
from handoff_lab.store.segments import Buffer

Namespace: TypeAlias = dict[str, Any]
_MAIN = "__main__"


class Codes:
    """Code by key.

    Parameters
    ----------
    namespace
        The names of this process's ``__main__``.
    shared
        Whether functions from ``__main__`` live in that namespace (a kernel), or each in one of its own that
        sees the names of the other (a slot: two functions pickled at different times keep their own globals).
    """

    def __init__(self, namespace: Namespace, shared: bool = False) -> None:
        self._namespace = namespace
        self._captured: dict[str, bytes] | None = {} if shared else None
        self._pickled: dict[str, Buffer] = {}
        self._loaded: dict[str, Any] = {}
        self._set_up: set[str] = set()

    def add(self, key: str, pickled: Buffer) -> None:
        """Keep code until it is needed."""
        self._pickled[key] = pickled

    def remove(self, keys: Iterable[str]) -> None:
        """Forget code that is not needed any more."""
        for key in keys:
            self._pickled.pop(key, None)
            self._loaded.pop(key, None)

    def get(self, key: str) -> Any:
        """The live code; raises whatever unpickling it raises."""
        try:
            return self._loaded[key]
        except KeyError:
            unpickler = _Unpickler(self._pickled[key], self._namespace, self._captured)
            with loading():
                code = self._loaded[key] = unpickler.load()
            return code

    def set_up(self, key: str) -> None:
        """Execute a source in the namespace, the first time."""
        if key in self._set_up:
            return
        source: str = self.get(key)
        filename = f"<setup {key[:8]}>"
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
        exec(compile(source, filename, "exec"), self._namespace)  # noqa: S102 - running the user's code is the purpose
        self._set_up.add(key)


class _Unpickler(pickle.Unpickler):
    """Gives functions of a notebook their globals in our way."""

    def __init__(self, pickled: Buffer, namespace: Namespace, captured: dict[str, bytes] | None) -> None:
        super().__init__(io.BytesIO(pickled))
        self._namespace = namespace
        self._captured = captured

    def find_class(self, module: str, name: str) -> Any:
        if module == _internals.__name__:
            own: dict[str, Callable[..., Any]] = {
                "_make_function": self._make_function,
                "_function_setstate": self._set_state,
            }
            if name in own:
                return own[name]
        return super().find_class(module, name)

    def _make_function(
        self, code: CodeType, names: Namespace, name: str, argdefs: tuple[Any, ...] | None, closure: Any
    ) -> FunctionType:
        if names.get("__name__") == _MAIN:
            if self._captured is not None:
                names = self._namespace
            else:
                for known, value in self._namespace.items():
                    names.setdefault(known, value)
        function: FunctionType = _internals._make_function(code, names, name, argdefs, closure)
        return function

    def _set_state(self, function: FunctionType, state: tuple[Any, dict[str, Any]]) -> None:
        slots = state[1]
        if self._captured is not None and function.__globals__ is self._namespace:
            slots["__globals__"] = {n: v for n, v in slots["__globals__"].items() if self._is_new(n, v)}
        _internals._function_setstate(function, state)

    def _is_new(self, name: str, value: Any) -> bool:
        """Whether a global was changed in the notebook since it last came along: then it replaces the kernel's own.

        Otherwise the kernel keeps what it has: a model that a function loaded stays when the function is edited.
        """
        assert self._captured is not None
        if isinstance(value, FunctionType | type | ModuleType):
            return True
        try:
            pickled: bytes = cloudpickle.dumps(value)
        except Exception:
            return True
        changed = self._captured.get(name) != pickled
        self._captured[name] = pickled
        return changed or name not in self._namespace
