"""What befell many functions of a run at once, in columns: events that are made only for those who ask for them.

A batch stands for a list of events, and takes no more room than its columns.
"""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from handoff_lab.messages import ReportFinished, ReportQueued, ReportTransferred
from handoff_lab.resources import Resources
from handoff_lab.telemetry import events as catalogue
from handoff_lab.telemetry.events import Event, EventName


@dataclass(frozen=True, slots=True)
class QueuedBatch:
    """Functions that have all their inputs, and wait for room on their nodes."""

    run: str
    ids: Sequence[Hashable]  # of all functions of the run, by number
    time: float
    functions: Sequence[int]
    nodes: Sequence[str]

    names: ClassVar[tuple[EventName, ...]] = (catalogue.FUNCTION_QUEUED,)

    def __len__(self) -> int:
        return len(self.functions)

    def event_of(self, k: int) -> Event:
        """The event of the function at one place."""
        facts = {"run": self.run, "function": self.ids[self.functions[k]], "node": self.nodes[k]}
        return Event(catalogue.FUNCTION_QUEUED, self.time, {}, facts)

    @property
    def event_count(self) -> int:
        """How many events it stands for."""
        return len(self.functions)

    def events(self) -> list[Event]:
        """The events, in order."""
        return [self.event_of(k) for k in range(len(self.functions))]


@dataclass(frozen=True, slots=True)
class FinishedBatch:
    """Functions that began and ended well on one node, in the order of their ends."""

    run: str
    ids: Sequence[Hashable]  # of all functions of the run, by number
    node: str
    functions: Sequence[int]
    attempts: Sequence[int]
    started: Sequence[float]
    ended: Sequence[float]
    nbytes: Sequence[int]
    slots: Sequence[int]
    peak_memory: Sequence[int | None]
    logs: Sequence[str]
    costs: Sequence[Mapping[str, float]]  # empty for those that cost nothing
    claimed: Mapping[str, float]  # on the node by others, all the while
    capabilities: Mapping[str, float]

    names: ClassVar[tuple[EventName, ...]] = (
        catalogue.RESOURCE_ALLOCATION,
        catalogue.FUNCTION_START,
        catalogue.FUNCTION_STOP,
        catalogue.RESOURCE_RELEASE,
    )

    def __len__(self) -> int:
        return len(self.functions)

    @property
    def time(self) -> float:
        """Of the last of its events."""
        return self.ended[-1]

    @property
    def event_count(self) -> int:
        """How many events it stands for."""
        return 2 * len(self.functions) + 2 * sum(map(bool, self.costs))

    def events(self) -> list[Event]:
        """The events, in the order in which they happened on the node."""
        made: list[Event] = []
        claims = _Claims(self.claimed)
        for k, begins in self.steps():
            facts = self._facts(k)
            if begins:
                made += self._claim(k, facts, claims, takes=True)
                made.append(self._start(k, facts))
            else:
                made.append(self._stop(k, facts))
                made += self._claim(k, facts, claims, takes=False)
        return made

    def events_of(self, k: int) -> tuple[Event, Event]:
        """The start and the stop of the function at one place."""
        facts = self._facts(k)
        return self._start(k, facts), self._stop(k, facts)

    def claims(self) -> Iterator[tuple[float, str, Mapping[str, float]]]:
        """When what was claimed on the node changed, the node, and what was claimed from then on."""
        claims = _Claims(self.claimed)
        for k, begins in self.steps():
            if self.costs[k]:
                moment = self.started[k] if begins else self.ended[k]
                yield moment, self.node, claims.change(self.costs[k], takes=begins)

    def by_start(self) -> Sequence[int]:
        """The places of the functions in the order in which they began."""
        places = range(len(self.functions))
        started = self.started
        if all(map(float.__le__, started, started[1:])):
            return places
        return sorted(places, key=started.__getitem__)

    def steps(self) -> Iterator[tuple[int, bool]]:
        """The places of the functions, each twice: as it began (True) and as it ended; ends go before beginnings."""
        begun = bytearray(len(self.functions))
        by_start = iter(self.by_start())
        upcoming = next(by_start, None)
        for k, ended in enumerate(self.ended):
            while upcoming is not None and (not begun[k] or self.started[upcoming] < ended):
                yield upcoming, True
                begun[upcoming] = True
                upcoming = next(by_start, None)
            yield k, False

    def _facts(self, k: int) -> dict[str, Any]:
        return {
            "run": self.run,
            "function": self.ids[self.functions[k]],
            "node": self.node,
            "attempt": self.attempts[k],
        }

    def _claim(self, k: int, facts: Mapping[str, Any], claims: _Claims, *, takes: bool) -> tuple[Event, ...]:
        cost = self.costs[k]
        if not cost:
            return ()
        name = catalogue.RESOURCE_ALLOCATION if takes else catalogue.RESOURCE_RELEASE
        facts = {**facts, "claimed": claims.change(cost, takes=takes), "capabilities": self.capabilities}
        return (Event(name, self.started[k] if takes else self.ended[k], cost, facts),)

    def _start(self, k: int, facts: Mapping[str, Any]) -> Event:
        moment = self.started[k]
        return Event(catalogue.FUNCTION_START, moment, {"started": moment}, {**facts, "slot": self.slots[k]})

    def _stop(self, k: int, facts: Mapping[str, Any]) -> Event:
        started, ended, peak = self.started[k], self.ended[k], self.peak_memory[k]
        numbers = {"started": started, "ended": ended, "duration": ended - started, "nbytes": self.nbytes[k]}
        if peak is not None:
            numbers["peak_memory"] = peak
        return Event(catalogue.FUNCTION_STOP, ended, numbers, {**facts, "slot": self.slots[k], "log": self.logs[k]})


@dataclass(frozen=True, slots=True)
class TransferredBatch:
    """Results that were copied to one node, in the order in which the node told of them."""

    run: str
    ids: Sequence[Hashable]  # of all functions of the run, by number
    target: str
    functions: Sequence[int]
    sources: Sequence[str]
    nbytes: Sequence[int]
    started: Sequence[float]
    ended: Sequence[float]

    names: ClassVar[tuple[EventName, ...]] = (catalogue.TRANSFER_STOP,)

    def __len__(self) -> int:
        return len(self.functions)

    @property
    def time(self) -> float:
        """Of the last of its events."""
        return self.ended[-1]

    @property
    def event_count(self) -> int:
        """How many events it stands for."""
        return len(self.functions)

    def events(self) -> list[Event]:
        """The events, in order."""
        return [self._event(k) for k in range(len(self.functions))]

    def _event(self, k: int) -> Event:
        started, ended = self.started[k], self.ended[k]
        numbers = {"nbytes": self.nbytes[k], "duration": ended - started, "started": started, "ended": ended}
        facts = {"function": self.ids[self.functions[k]], "source": self.sources[k], "target": self.target}
        return Event(catalogue.TRANSFER_STOP, ended, numbers, {"run": self.run, **facts})


FunctionBatch: TypeAlias = QueuedBatch | FinishedBatch | TransferredBatch


def queued_batch(command: ReportQueued, ids: Sequence[Hashable], moment: float) -> QueuedBatch:
    """What ``command`` reports.

    Parameters
    ----------
    ids
        Of all functions of the run, by number.
    moment
        In wall-clock seconds.
    """
    return QueuedBatch(command.run, ids, moment, array("q", command.functions), command.nodes)


def finished_batch(command: ReportFinished, ids: Sequence[Hashable]) -> FinishedBatch:
    """What ``command`` reports; its own times are those of the node.

    Parameters
    ----------
    ids
        Of all functions of the run, by number.
    """
    return FinishedBatch(
        command.run,
        ids,
        command.node,
        array("q", command.functions),
        command.attempts,
        array("d", command.started),
        array("d", command.ended),
        array("q", command.nbytes),
        command.slots,
        command.peak_memory,
        command.logs,
        command.costs,
        command.claimed,
        command.capabilities,
    )


def transferred_batch(command: ReportTransferred, ids: Sequence[Hashable]) -> TransferredBatch:
    """What ``command`` reports; its own times are those of the node.

    Parameters
    ----------
    ids
        Of all functions of the run, by number.
    """
    return TransferredBatch(
        command.run,
        ids,
        command.target,
        array("q", command.functions),
        command.sources,
        array("q", command.nbytes),
        array("d", command.started),
        array("d", command.ended),
    )


class _Claims:
    """What is claimed on a node, kept up with those who take and give; no sum is made twice."""

    def __init__(self, claimed: Mapping[str, float]) -> None:
        self._total = Resources(claimed)
        self._totals = {self._total: self._total}  # one object of each amount
        self._sums: dict[tuple[int, int, bool], Resources] = {}  # by ids of total and cost, which both live on

    def change(self, cost: Mapping[str, float], *, takes: bool) -> Resources:
        key = id(self._total), id(cost), takes
        found = self._sums.get(key)
        if found is None:
            amount = Resources(cost)
            total = self._total + amount if takes else self._total - amount
            found = self._sums[key] = self._totals.setdefault(total, total)
        self._total = found
        return found
