"""How long a run will take from now on, from what is known of its functions' durations."""

from __future__ import annotations

from collections.abc import Container, Hashable, Mapping
from heapq import heapify, heapreplace
from typing import Final

from handoff_lab.allocation.problem import seconds_on
from handoff_lab.graph import DAG
from handoff_lab.telemetry import FunctionRecord, FunctionStatus, RunRecord

_AHEAD: Final = frozenset(
    {FunctionStatus.WAITING, FunctionStatus.QUEUED, FunctionStatus.RETRYING, FunctionStatus.RUNNING}
)
_OVERDUE: Final = 1.1  # what runs for longer than it should is taken to run for a tenth longer still


class Forecast:
    """When a run of ``dag`` will be over: what is left is placed on as many slots as were busy at once until now.

    A function takes as long as it says, corrected by how wrong others were; else as long as others of the same code
    took; else as long as any. Where that is no more than a mean of others and a function has run for longer than the
    longest of them, nobody knows.

    Parameters
    ----------
    slots : int
        How many functions go on at once, by a plan, where there is one.
    """

    def __init__(self, dag: DAG, slots: int = 1) -> None:
        self._dag = dag
        self._slots = slots

    def seconds_left(self, record: RunRecord, now: float) -> float | None:
        """Seconds from ``now``, in wall-clock seconds, until the run is over; None while that is not known."""
        if self._dag.functions and not record.functions:  # it has not begun
            return None
        pace = _Pace(self._dag)
        for function in list(record.functions.values()):
            pace.look(function, now)
        self._slots = max(self._slots, len(pace.running))
        left: dict[Hashable, float] = {}
        for function in pace.ahead:
            seconds = pace.expected(function)
            if seconds is None or pace.is_beyond(function):
                return None
            left[function.id] = seconds
        for id, elapsed in pace.running.items():
            left[id] = max(left[id], _OVERDUE * elapsed) - elapsed
        busy = [left[id] for id in pace.running]
        return _makespan(self._dag, left, pace.running, busy + [0.0] * (self._slots - len(busy)))


class _Pace:
    """How long functions took until now."""

    def __init__(self, dag: DAG) -> None:
        self.ahead: list[FunctionRecord] = []
        self.running: dict[Hashable, float] = {}  # for how many seconds
        self._dag = dag
        self._said = self._took = 0.0  # seconds, of those that say how long they take and are done
        self._by_code: dict[object, tuple[int, float, float]] = {}  # how many took how long together, and the longest

    def look(self, function: FunctionRecord, now: float) -> None:
        if function.status in _AHEAD:
            self.ahead.append(function)
            if function.status is FunctionStatus.RUNNING and function.started is not None:
                self.running[function.id] = max(0.0, now - function.started)
        elif function.status is FunctionStatus.DONE and function.duration is not None:
            self._learn(function, function.duration)

    def _learn(self, function: FunctionRecord, seconds: float) -> None:
        for key in (self._code(function), None):
            count, together, longest = self._by_code.get(key, (0, 0.0, 0.0))
            self._by_code[key] = count + 1, together + seconds, max(longest, seconds)
        said = self._duration(function)
        if said is not None:
            self._said += said
            self._took += seconds

    def expected(self, function: FunctionRecord) -> float | None:
        said = self._duration(function)
        if said is not None:
            return said * (self._took / self._said if self._said else 1.0)
        alike = self._alike(function)
        return None if alike is None else alike[1] / alike[0]

    def is_beyond(self, function: FunctionRecord) -> bool:
        """Whether it runs for longer than any like it took, and nobody said for how long it would."""
        elapsed = self.running.get(function.id)
        if elapsed is None or self._duration(function) is not None:
            return False
        alike = self._alike(function)
        return alike is not None and elapsed > _OVERDUE * alike[2]

    def _alike(self, function: FunctionRecord) -> tuple[int, float, float] | None:
        return self._by_code.get(self._code(function)) or self._by_code.get(None)

    def _duration(self, function: FunctionRecord) -> float | None:
        duration = self._dag.functions[function.id].duration
        return None if duration is None else seconds_on([function.node or ""], duration)[0]

    def _code(self, function: FunctionRecord) -> object:
        """The same for functions that were made of one piece of source."""
        code = self._dag.functions[function.id].code
        return getattr(getattr(code, "__wrapped__", code), "__code__", function.id)


def _makespan(dag: DAG, left: Mapping[Hashable, float], running: Container[Hashable], slots: list[float]) -> float:
    """When all that is left is done, if each function takes the slot that is free first; ``slots``: when that is."""
    heapify(slots)
    until: dict[Hashable, float] = {}
    for id, function in dag.functions.items():  # in topological order
        begin = max((until.get(producer, 0.0) for producer in function.dependencies), default=0.0)
        if id in left and id not in running:
            until[id] = max(begin, slots[0]) + left[id]
            heapreplace(slots, until[id])
        else:
            until[id] = begin + left.get(id, 0.0)
    return max(until.values(), default=0.0)
