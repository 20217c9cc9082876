"""How far one run is: a state for each of its functions, by number, in columns of small values."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict, deque
from collections.abc import Hashable, Iterable, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Literal, NamedTuple

from handoff_lab._errors import HandoffError
from handoff_lab.messages import HERE, AttemptId, Failure
from handoff_lab.resources import Resources
from handoff_lab.scheduler.program import Program, RunOptions

if TYPE_CHECKING:
    from handoff_lab.scheduler.lanes import Lane

Ending = Literal["done", "failed", "cancelled"]


class State(IntEnum):
    """Where a function is in its life."""

    WAITING = 0  # for inputs
    READY = 1  # in the queue of its node
    DELAYED = 2  # for the time of its next attempt
    SUBMITTED = 3
    RUNNING = 4
    STOPPING = 5  # told to end, for good
    REVOKED = 6  # told to end, to be started again: an input was lost
    DONE = 7
    FAILED = 8
    SKIPPED = 9  # something that it needs failed
    CANCELLED = 10


WAITING, READY, DELAYED, SUBMITTED, RUNNING, STOPPING, REVOKED, DONE, FAILED, SKIPPED, CANCELLED = State

_NEXT = {
    WAITING: (READY, DONE, FAILED, SKIPPED, CANCELLED),  # done: nobody needs its lost result any more
    READY: (SUBMITTED, WAITING, FAILED, SKIPPED, CANCELLED),
    DELAYED: (WAITING, FAILED, SKIPPED, CANCELLED),
    SUBMITTED: (RUNNING, STOPPING, REVOKED, DONE, FAILED, DELAYED, WAITING, CANCELLED),
    RUNNING: (STOPPING, DONE, FAILED, DELAYED, WAITING, CANCELLED),
    STOPPING: (DONE, FAILED, CANCELLED),
    REVOKED: (RUNNING, STOPPING, DONE, FAILED, DELAYED, WAITING),
    DONE: (WAITING,),  # its result was lost
    FAILED: (),
    SKIPPED: (),
    CANCELLED: (),
}
_MAY = [sum(1 << to for to in _NEXT[state]) for state in State]

PENDING = (WAITING, READY, DELAYED)
IN_FLIGHT = (SUBMITTED, RUNNING, STOPPING, REVOKED)
DEAD = (FAILED, SKIPPED, CANCELLED)


class Step(NamedTuple):
    """A transition, for the story of a function."""

    run: str
    function: int
    before: State
    after: State
    attempt: int


class InvalidTransition(HandoffError):
    """A bug of the scheduler, with the latest transitions of the function."""

    def __init__(self, function: Hashable, before: State, after: State, story: Sequence[Step]) -> None:
        self.function = function
        self.before = before
        self.after = after
        self.story = tuple(story)
        told = " ".join(f"{step.before.name}→{step.after.name}({step.attempt})" for step in self.story)
        super().__init__(
            f"function {function!r} cannot go from {before.name} to {after.name} (before: {told or 'nothing'}); "
            "this is a bug of handoff_lab, please report it with this message"
        )


class Wait(NamedTuple):
    """What a function without a node waits for."""

    pin: str | None  # the node to which it is pinned, and which is not there; None: one that can hold it
    patience_s: float
    until: float


class FinalFailure(NamedTuple):
    """Why a function failed for good."""

    attempts: int
    deaths: int  # of slots and nodes under it
    node: str | None
    failure: Failure


class Progress:
    """State of one run. Only `move` changes a function's state."""

    __slots__ = (
        "_given_to", "_steps", "ahead", "awaited", "cancelled", "capped", "cost_class", "deaths", "dependents", "early",
        "ending", "failures", "given", "holder", "holding", "id", "in_flight", "inline", "lanes", "late", "made",
        "missing", "moving", "node", "number", "options", "overtime", "priority", "program", "promised", "queued",
        "recomputed", "retried", "retries", "seekers", "started", "state", "status", "stays", "unfinished", "unplaced",
        "vanished", "waits", "wanted", "withdrawn",
    )  # fmt: skip

    def __init__(self, program: Program, options: RunOptions, now: float, steps: deque[tuple[object, ...]]) -> None:
        functions = program.functions
        count = len(functions)
        self.id = program.run
        self.program = program
        self.options = options
        self.started = now
        self.status: Literal["running"] | Ending = "running"
        self.ending: Ending | None = None  # nothing starts any more; what the run ends as
        self.overtime = False  # ended by its own timeout
        self.state = bytearray(count)
        self.missing = [len(function.inputs) for function in functions]  # inputs that are not there
        self.awaited = self.missing.copy()  # those of them that are not on their way either
        self.promised = bytearray(count)  # whether the result is there, or on its way
        self.early = bytearray(count)  # whether it was handed over before its inputs, and waits for them still
        self.number = [0] * count  # of the latest attempt
        self.made: list[tuple[AttemptId, str] | None] = [None] * count  # the result, or what will be: its key and node
        self.node: list[str | None] = [None] * count  # given by the allocator; of a hidden one: where it ran last
        self.holder: list[str | None] = [None] * count  # where the result is
        self.inline = bytearray(count)  # whether the coordinator has the result too
        self.priority: list[float] = [0.0] * count
        self.dependents = _dependents(program)
        self.cost_class = _cost_classes(program)
        self.given: dict[int, AttemptId] = {}  # keys of the results that were given and not lost
        self.wanted = frozenset(program.targets)
        self.cancelled: set[int] = set()  # functions that the user cancelled
        self.retried: dict[int, int] = {}  # retries used up
        self.deaths: dict[int, int] = {}  # of slots and nodes, under each function
        self.withdrawn: dict[int, int] = {}  # attempts that were taken back before they ran
        self.moving: dict[int, str] = {}  # functions that were recalled to go to another node, and which
        self.late: set[int] = set()  # functions that are not handed over early again
        self.holding: set[int] = set()  # functions whose nodes said that they hold their claim
        self.queued: list[int] = []  # functions whose inputs are all there, of which that is still to be told
        self.ahead = options.max_concurrency is None  # whether functions may be handed over early
        self.unplaced: set[int] = set()  # functions whose node is gone
        self.stays: set[int] = set()  # functions that can run nowhere but on a node that retires
        self.waits: dict[int, Wait] = {}  # functions that fit on no node now, and may wait for one
        self.seekers: dict[tuple[str | None, Resources], list[int]] = {}  # those, and some more, by pin and cost
        self.vanished: dict[int, list[str]] = {}  # nodes that are there, but lost the function's result
        self.unfinished = count
        self.in_flight = 0  # without hidden ones
        self.retries = 0
        self.recomputed = 0
        self.failures: dict[int, FinalFailure] = {}  # in the order in which they happened
        self.lanes: dict[str, dict[int, Lane]] = {}  # by node, then cost class
        self.capped: list[tuple[float, int, Lane]] = []  # heap: lanes that wait for max_concurrency
        self._steps = steps
        self._given_to: dict[str, array[int]] | None = None  # functions by each node that they ever had; some twice

    def move(self, i: int, after: State) -> None:
        """Change the state of function ``i``."""
        before = self.state[i]
        if not _MAY[before] >> after & 1:
            raise InvalidTransition(self.program.functions[i].id, State(before), after, self.story(i))
        self.state[i] = after
        self._steps.append((self.id, i, before, after, self.number[i]))

    def move_all(self, functions: Iterable[int], after: State) -> None:
        """Change the state of many."""
        state, number, record, id = self.state, self.number, self._steps.append, self.id
        for i in functions:
            before = state[i]
            if not _MAY[before] >> after & 1:
                self.move(i, after)  # which raises
            state[i] = after
            record((id, i, before, after, number[i]))

    def place(self, i: int, node: str | None) -> None:
        """Give function ``i`` a node."""
        self.node[i] = node
        if node is not None and self._given_to is not None:
            self._given_to[node].append(i)

    def given_to(self, node: str) -> list[int]:
        """Functions that have this node, or once had, in order: all that run there, and all whose results lie there.

        Only the first call looks through all functions.
        """
        if self._given_to is None:
            self._given_to = defaultdict(lambda: array("I"))
            for i, name in enumerate(self.node):
                if name is not None:
                    self._given_to[name].append(i)
        return sorted(set(self._given_to[node])) if node in self._given_to else []

    def story(self, i: int) -> list[Step]:
        """The latest transitions of function ``i``, as far as they are remembered."""
        return [
            Step(run, function, State(before), State(after), attempt)  # type: ignore[arg-type]
            for run, function, before, after, attempt in self._steps
            if run == self.id and function == i
        ]

    def source(self, i: int) -> tuple[AttemptId, str] | None:
        """Key and node of the result of function ``i``; None: there is none."""
        return None if self.holder[i] is None else self.made[i]

    def have(self, i: int, place: tuple[AttemptId, str]) -> None:
        """The result of function ``i`` is there: its key and node."""
        self.made[i] = place
        self.holder[i] = place[1]

    def take_given(self, i: int, place: tuple[AttemptId, str]) -> None:
        """The result of function ``i`` is one of an earlier run, or given by the user: its key and node."""
        self.given[i] = place[0]
        self.have(i, place)

    def hold_here(self, i: int) -> None:
        """The result of function ``i`` is in the coordinator's process."""
        made = self.made[i]
        assert made is not None
        self.have(i, (made[0], HERE))

    def is_lost(self, i: int) -> bool:
        """Whether function ``i`` is done, but its result is not there any more."""
        return self.state[i] == DONE and self.holder[i] is None

    def attempt(self, i: int) -> int:
        """The number of the latest attempt at function ``i``, without those that never ran."""
        return self.number[i] - self.withdrawn.get(i, 0) if self.withdrawn else self.number[i]

    def is_hidden(self, i: int) -> bool:
        return self.program.functions[i].beside is not None

    def count(self, state: State) -> int:
        """How many of the user's functions are in this state."""
        return self.counts()[state]

    def counts(self) -> Counter[int]:
        """How many of the user's functions are in each state; inputs and dormant ones are not counted."""
        return Counter(
            state
            for i, (state, function) in enumerate(zip(self.state, self.program.functions, strict=True))
            if function.function is not None and not (function.dormant and self.is_lost(i))
        )


def _dependents(program: Program) -> list[Sequence[int]]:
    none: Sequence[int] = ()
    dependents: list[Sequence[int]] = [none] * len(program.functions)
    for i, function in enumerate(program.functions):
        for producer in function.inputs:
            known = dependents[producer]
            if isinstance(known, list):
                known.append(i)
            else:
                dependents[producer] = [i]
    return dependents


def _cost_classes(program: Program) -> list[int]:
    """A number for each function, the same for those with equal costs; 0 for hidden ones."""
    classes: dict[object, int] = {}
    return [
        0 if function.beside is not None else classes.setdefault(function.cost, len(classes) + 1)
        for function in program.functions
    ]
