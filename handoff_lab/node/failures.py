"""The story of what went wrong in an attempt, as values that any process can read."""

from __future__ import annotations

import inspect
import pickle
import reprlib
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

import cloudpickle  # type: ignore[import-untyped]

from handoff_lab import _items
from handoff_lab._names import writable
from handoff_lab._units import format_bytes
from handoff_lab.messages import Failure, FailureKind
from handoff_lab.transport.wire import TEXT_LIMIT

ExceptionClasses: TypeAlias = type[BaseException] | tuple[type[BaseException], ...]

EXCEPTION_LIMIT = 10**6  # bytes of a pickled exception
SUMMARY_LIMIT = 400  # characters of the summary of all arguments
_OURS = (str(Path(__file__).parent), _items.__file__)

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60
_short.maxlist = _short.maxtuple = _short.maxset = _short.maxdict = 4
_short.maxlevel = 3


def failure_of(error: BaseException, retry_on: ExceptionClasses = Exception, inputs: str = "") -> Failure:
    """The failure of a function that raised ``error``; call it while the traceback is there."""
    return Failure(
        FailureKind.EXCEPTION,
        _sentence(error),
        type_name=type(error).__name__,
        traceback=_traceback(error),
        exception=_pickled(error),
        retryable=isinstance(error, retry_on) and not _cannot_be_called_so(error),
        inputs=inputs,
    )


def set_up_failure(error: BaseException) -> Failure:
    """The failure of an attempt before which the run's set-up failed."""
    return code_failure("the set-up of the run", error, "failed")


def code_failure(what: str, error: BaseException, happened: str = "could not be loaded") -> Failure:
    """The failure of code that could not be unpickled or imported."""
    if isinstance(error, ModuleNotFoundError):
        reason = f"{what} needs the module {error.name!r}, which this node does not have; install it there"
    else:
        reason = f"{what} {happened}: {_sentence(error)}"
    return Failure(FailureKind.CODE, reason, type(error).__name__, _traceback(error), _pickled(error), retryable=False)


def input_failure(number: int, error: BaseException) -> Failure:
    """The failure of an input that could not be unpickled."""
    message = f"input {number} could not be unpickled: {_sentence(error)}"
    return Failure(FailureKind.INPUT, message, type(error).__name__, _traceback(error), retryable=False)


def result_failure(value: Any, error: BaseException) -> Failure:
    """The failure of a result that cannot be pickled."""
    name = type(value).__qualname__
    message = f"it returned {_a(name)} that cannot be pickled: {_sentence(error)}; return plain data instead"
    return Failure(FailureKind.RESULT, message, type(error).__name__, _traceback(error), retryable=False)


def shortage_failure(nbytes: int, error: OSError) -> Failure:
    """The failure of a result for which there is no memory; later, or elsewhere, there may be."""
    message = f"there is no shared memory for its result of {format_bytes(nbytes)}: {error}"
    return Failure(FailureKind.RESULT, message, type(error).__name__)


def sendable(failure: Failure) -> Failure:
    """The failure with texts that fit into a message."""
    return replace(
        failure,
        message=writable(failure.message)[:TEXT_LIMIT],
        type_name=writable(failure.type_name)[:TEXT_LIMIT],
        traceback=writable(failure.traceback)[-TEXT_LIMIT:],
        inputs=writable(failure.inputs),
    )


def describe_arguments(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """A short line about the arguments of a call.

    Examples
    --------
    >>> describe_arguments(lambda x, k: None, [list(range(100))], {"k": 2})
    'x=[0, 1, 2, 3, ...], k=2'
    """
    text = ", ".join(f"{name}={_describe(value)}" for name, value in _named(function, args, kwargs))
    return text if len(text) <= SUMMARY_LIMIT else text[: SUMMARY_LIMIT - 3] + "..."


def _named(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    try:
        return inspect.signature(function).bind_partial(*args, **kwargs).arguments.items()
    except (TypeError, ValueError):  # a builtin without a signature, or arguments that don't fit it
        return [*((str(number), value) for number, value in enumerate(args)), *kwargs.items()]


def _describe(value: Any) -> str:
    try:
        shape = getattr(value, "shape", None)
        if isinstance(shape, tuple):
            name = {"ndarray": "array"}.get(type(value).__name__, type(value).__name__)
            return f"{name}{shape} {getattr(value, 'dtype', '')}".rstrip()
        return _short.repr(value)
    except Exception:
        return f"<{type(value).__name__}>"


def _cannot_be_called_so(error: BaseException) -> bool:
    """Whether it is the call that fails, with no line of the function run: the next attempt would fare no better."""
    return isinstance(error, TypeError) and _outside(error.__traceback__) is None


def _sentence(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"SystemExit: it called sys.exit({error.code!r})"
    shown = traceback.TracebackException(type(error), error, None, compact=True)
    shown.__notes__ = None  # they stand in the traceback
    return list(shown.format_exception_only())[-1].strip()


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(type(error), error, _outside(error.__traceback__)))


def _outside(step: TracebackType | None) -> TracebackType | None:
    """The traceback without its first frames, which are ours."""
    while step is not None and step.tb_frame.f_code.co_filename.startswith(_OURS):
        step = step.tb_next
    return step


def _pickled(error: BaseException) -> bytes | None:
    """The exception as bytes, if it survives the way there and back."""
    try:
        data: bytes = cloudpickle.dumps(error, protocol=5)
        pickle.loads(data)
    except Exception:
        return None
    return data if len(data) <= EXCEPTION_LIMIT else None


def _a(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"
