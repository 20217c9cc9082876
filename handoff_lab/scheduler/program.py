"""What a scheduler is given: the functions of a run by number, and how the run goes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from handoff_lab.allocation import AllocatorLike
from handoff_lab.graph import Argument, Function
from handoff_lab.graph.references import Serializer
from handoff_lab.messages import AttemptId
from handoff_lab.resources import Resources
from handoff_lab.scheduler.backoff import STEADY, Backoff

Crossing: TypeAlias = tuple[Hashable, Hashable, int]  # consumer, producer, which serializer

_NOTHING = Resources()


@dataclass(slots=True)
class ScheduledFunction:
    """A vertex of a program; others name it by its place in ``Program.functions``. Never changed once it is made.

    A hidden one, with ``beside``, is a serializer: it runs where its producer ran, and users hear nothing of it.
    """

    id: Hashable
    inputs: tuple[int, ...] = ()  # the functions whose results it takes, in order, each once
    cost: Resources = _NOTHING
    function: Function | None = None  # None for inputs and hidden serializers
    allocated: Function | None = None  # as allocators see it: inline functions and absent partners are worked in
    given: tuple[AttemptId, str] | None = None  # the value is there from the start, under this key on this node
    dormant: bool = False  # only what is given was made from its result: it runs if that is lost
    home: str | None = None  # node of a given result with which it is collocated
    beside: int | None = None  # hidden: the producer
    toward: int | None = None  # hidden: the consumer
    max_retries: int | None = None  # None: as the run says
    retry_delay: float = 0.0  # seconds
    retries_timeout: bool = True  # whether it is tried again when it ran longer than its timeout

    @property
    def is_to_run(self) -> bool:
        """Whether it is a function of the user's that runs even if nothing is lost."""
        return self.function is not None and self.given is None and not self.dormant


@dataclass(frozen=True, slots=True)
class Program:
    """A run's functions in topological order: only those that its targets need."""

    run: str
    dag: str
    functions: tuple[ScheduledFunction, ...]
    targets: tuple[int, ...] = ()  # whose results must be there at the end
    index: Mapping[Hashable, int] = field(default_factory=dict)  # of the user's functions, by id
    serializers: Mapping[int, Serializer] = field(default_factory=dict)  # code of the hidden functions
    _crossings: Mapping[Crossing, int] = field(default_factory=dict)
    together: Mapping[Hashable, tuple[int, ...]] = field(default_factory=dict)  # those bound to a function, with it

    def producer(self, argument: Argument, consumer: Function) -> int:
        """The function whose result ``consumer`` takes for ``argument``: a hidden one where it is serialized."""
        if argument.serialize is None:
            return self.index[argument.id]
        return self._crossings[crossing(argument, consumer)]


def seen_as(function: Function, **facts: object) -> Function:
    """The function with other facts, for allocators to see: unchecked, as it is never called so."""
    seen = copy(function)
    for name, value in facts.items():
        object.__setattr__(seen, name, value)
    return seen


def crossing(argument: Argument, consumer: Function) -> Crossing:
    """Key of a serializer: one that ``consumer`` uses twice on the same value runs once."""
    return consumer.id, argument.id, id(argument.serialize)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a run goes.

    Parameters
    ----------
    allocator, strategy
        What decides where functions run, and its name for people.
    max_retries
        Attempts after the first, for functions that do not say themselves.
    max_concurrency
        Functions of the run in flight at the same time; None: as many as fit.
    timeout_s
        Seconds after which the run is ended.
    on_error
        ``"stop"`` ends the run at the first failure, ``"continue"`` only what depends on it.
    nodes
        Names of the nodes that the run may use; None: all.
    rebalances
        Whether functions that wait may be moved to a node that has nothing to do.
    backoff
        How the delays before retries grow.
    wait_for_node_s, wait_for_capacity_s
        Seconds that a function may wait for the node to which it is pinned, or for any that can hold it; 0: it fails.
    """

    allocator: AllocatorLike = "first_available"
    strategy: str = "first_available"
    max_retries: int = 3
    max_concurrency: int | None = None
    timeout_s: float | None = None
    on_error: Literal["stop", "continue"] = "stop"
    nodes: tuple[str, ...] | None = None
    rebalances: bool = False
    backoff: Backoff = STEADY
    wait_for_node_s: float = 0.0
    wait_for_capacity_s: float = 0.0
