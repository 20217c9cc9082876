"""A run without its code, for a coordinator that calls none of it and imports none of the user's modules."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from typing import Any

import cloudpickle  # type: ignore[import-untyped]

from handoff_lab._errors import InvalidFunctionError
from handoff_lab.coordinator.state import RunState
from handoff_lab.graph import DAG, Argument, Function
from handoff_lab.telemetry.encoding import Encoder, decode, dump
from handoff_lab.telemetry.record import RunRecord

_CODELESS: dict[str, Any] = {
    "code": None,
    "inferred": None,
    "extra_args": (),
    "kwargs": {},
    "retry_on": Exception,
    "init": None,
}
_FACTS = tuple(field.name for field in fields(Function) if field.name not in _CODELESS)


def outline(state: RunState) -> bytes:
    """What a coordinator elsewhere needs of a run; ``from_outline`` reads it.

    Raises
    ------
    InvalidFunctionError
        For an id that its log could not tell from another.
    """
    _check_ids(state.dag)
    program = replace(state.program, serializers=dict.fromkeys(state.program.serializers, _nowhere), _crossings={})
    buffer = io.BytesIO()
    _Outliner(buffer, protocol=5).dump((state.id, state.dag, program, state.calls.without_code(program)))
    return buffer.getvalue()


def from_outline(data: bytes) -> RunState:
    """The run, as its coordinator holds it."""
    id, dag, program, calls = pickle.loads(data)
    return RunState(id, dag, program, calls, RunRecord())


class _Outliner(cloudpickle.Pickler):  # type: ignore[misc]
    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is Function:
            return _function, tuple(getattr(obj, name) for name in _FACTS)
        if type(obj) is Argument:
            return Argument, (obj.id, None, None, obj.argument_inclusion, obj.nbytes)
        if type(obj) is DAG:
            return _dag, (obj.name, tuple(obj.functions.values()))
        return super().reducer_override(obj)


def _function(*facts: Any) -> Function:
    function = object.__new__(Function)
    for name, value in (*zip(_FACTS, facts, strict=True), *_CODELESS.items()):
        object.__setattr__(function, name, value)
    return function


def _dag(name: str, functions: Iterable[Function]) -> DAG:
    return DAG(name).add(*functions)


def _nowhere(value: Any, source: str, target: str) -> Any:
    raise NotImplementedError("this stands for code that is elsewhere")


def _check_ids(dag: DAG) -> None:
    encode: Callable[[object], object] = Encoder().encode
    for id in dag.functions:
        if type(id) is not str and json.loads(dump(encode(id)), object_hook=decode) != id:
            reason = "in a detached cluster ids are strings, numbers, or tuples of them: the run's log must keep them"
            raise InvalidFunctionError(id, reason)
