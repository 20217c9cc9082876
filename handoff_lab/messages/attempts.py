"""One try at one function: what it is to do, what it takes, and how it may fail."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias

RunsIn: TypeAlias = Literal["process", "kernel"]
HowToEnd: TypeAlias = Literal["interrupt", "kill", "recall"]  # a recall leaves what runs already alone
HERE = ""  # the "node" of values that the coordinator's own process holds: inputs given by the user


class AttemptId(NamedTuple):
    """One try at one function. Also the key of the result that it made; number 0 is a given value."""

    run: str
    function: int
    number: int

    def __str__(self) -> str:
        return f"{self.run}:{self.function}:{self.number}"


def ids_of(runs: Iterable[str], functions: Iterable[int], numbers: Iterable[int]) -> list[AttemptId]:
    """Ids from columns of the same length, in half the time that `AttemptId` takes one by one."""
    return [*map(_AS_ID, zip(runs, functions, numbers, strict=True))]


_AS_ID = partial(tuple.__new__, AttemptId)


@dataclass(slots=True, unsafe_hash=True)
class Source:
    """Where an input of an attempt lies, or will lie: the attempt waits on its node until it is there."""

    key: AttemptId
    node: str
    inline: tuple[bytes, ...] | None = None  # the value's frames, when it is small


@dataclass(frozen=True, slots=True)
class Use:
    """A term of a recipe: the attempt's input number ``input``, passed through code number ``deserialize``."""

    input: int
    deserialize: int | None = None


@dataclass(frozen=True, slots=True)
class Constant:
    """A term of a recipe: a value known beforehand."""

    value: Any


@dataclass(frozen=True, slots=True)
class Evaluate:
    """A term of a recipe: an inline function, evaluated on the spot."""

    code: int
    recipe: Recipe


Term: TypeAlias = Use | Constant | Evaluate


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a function is called: terms in place of arguments. Numbers point into the attempt's inputs and codes."""

    args: tuple[Term | tuple[Term, ...], ...] = ()  # a tuple of terms becomes one list argument
    kwargs: tuple[tuple[str, Term | tuple[Term, ...]], ...] = ()


@dataclass(slots=True)
class Attempt:
    """One try at one function on one node, as a backend receives it.

    ``codes`` are keys of code sent before with ``Backend.load``; the first is the function itself. ``recipe`` is None
    for the usual call: the inputs in order, nothing else. Pickled, it is a ``Recipe``, or a tuple: the positional
    arguments that follow the inputs.
    """

    id: AttemptId
    node: str
    label: str  # the user's id of the function, as text, for logs and errors
    codes: tuple[str, ...]
    inputs: tuple[Source, ...] = ()
    recipe: Recipe | bytes | None = None  # bytes: pickled, for nodes in other processes
    cost: Mapping[str, float] = field(default_factory=dict)
    priority: float = 0.0  # lower starts first among those that wait on a node
    runs_in: RunsIn = "process"
    timeout_s: float | None = None
    retry_on: str | None = None  # key of code: the exception classes worth another attempt; None: every Exception
    setup: tuple[str, ...] = ()  # keys of code: sources executed first in a slot, once each
    granted: bool = True  # False: its node has yet to find room for its cost (see ``NodeInfo.keeps_ledger``)


class FailureKind(StrEnum):
    """Why an attempt failed."""

    EXCEPTION = "exception"  # the function raised
    DIED = "died"  # its slot ended under it: a signal, os._exit, out of memory
    TIMEOUT = "timeout"
    MEMORY = "memory"  # it used far more than it claimed
    CODE = "code"  # its code could not be pickled, unpickled or imported
    RESULT = "result"  # what it returned cannot be pickled
    INPUT = "input"  # an input could not be fetched or unpickled
    NODE = "node"  # its node was lost
    UNSUPPORTED = "unsupported"  # its node cannot do what the function asks for
    CAPACITY = "capacity"  # no node that could hold it came in time


@dataclass(frozen=True, slots=True)
class Failure:
    """The story of a failed attempt. ``exception`` is pickled; only the user's own side unpickles it."""

    kind: FailureKind
    message: str
    type_name: str = ""
    traceback: str = ""
    exception: bytes | None = None
    retryable: bool = True
    inputs: str = ""  # a short summary of the arguments
