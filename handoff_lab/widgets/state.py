"""The state of a run in columns, kept up to date from its record: snapshots of all of it, patches of what changed.

It knows no threads and no clock: who calls holds a lock and says what time it is.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Final, TypeAlias

from handoff_lab.allocation import Plan
from handoff_lab.graph import DAG
from handoff_lab.telemetry import FunctionRecord, FunctionStatus, RunRecord
from handoff_lab.telemetry import events as names
from handoff_lab.telemetry.batches import FinishedBatch, FunctionBatch
from handoff_lab.telemetry.events import Event, EventName
from handoff_lab.visualization.data import plan_bars
from handoff_lab.widgets.node_table import NodeTable
from handoff_lab.widgets.protocol import STATUS_LETTERS, Columns, Patch, PlanState, RunFacts, State
from handoff_lab.widgets.rows import MS, EarlierAttempts, Transfers

_LONGEST_ERROR: Final = 300

# status, node, slot, attempts, queued, started, ended, peak, transfer
Row: TypeAlias = tuple[str, int, int, int, float | None, float | None, float | None, int | None, float | None]
_BLANK: Final[Row] = ("w", -1, -1, 0, None, None, None, None, None)


class LiveState:
    """What the browser shows of one run, or of a DAG that was not run.

    Parameters
    ----------
    key
        Of the structure whose functions the columns are of.
    dag
        The run's.
    record
        The run's; events that it takes in later are found by the next patch. None: not run.
    """

    def __init__(self, key: str, dag: DAG, record: RunRecord | None) -> None:
        self.key = key
        self.seq = 0
        self._record = RunRecord() if record is None else record
        self._ids = tuple(dag.functions)
        self._index = {id: i for i, id in enumerate(self._ids)}
        self._rows: list[Row] = [_BLANK] * len(self._ids)
        self._nodes = NodeTable()
        self._earlier = EarlierAttempts(self._index)
        self._transfers = Transfers(dag, self._index)
        self._begin: float | None = None
        self._read = 0  # parts of the events that were looked at
        self._ids_told: Sequence[Hashable] = ()  # by the numbers in batches
        self._places: list[int] = []  # by these numbers, in the columns; -1: not shown
        self._dirty: set[int] = set()  # functions that they were about
        self._run: RunFacts | None = None
        self._errors: dict[str, str] = {}
        self._stale: list[int] = []
        self._stale_is_new = False
        self._plan: PlanState | None = None
        self._plan_is_new = False

    # -- what is not in the record ------------------------------------------------

    def mark_stale(self, ids: Iterable[Hashable]) -> None:
        """These results are out of date: the next patch says so."""
        stale = sorted(self._index[id] for id in ids if id in self._index)
        if stale != self._stale:
            self._stale, self._stale_is_new = stale, True

    def show_plan(self, plan: Plan) -> None:
        """The next patch says how the run was predicted."""
        count = len(self._ids)
        found: PlanState = {"node": [-1] * count, "slot": [-1] * count, "start": [None] * count, "end": [None] * count}
        for bar in plan_bars(plan):
            i = self._index.get(bar.function)
            if i is not None:
                found["node"][i], found["slot"][i] = self._nodes.index(bar.node), bar.lane
                found["start"][i], found["end"][i] = round(bar.start, MS), round(bar.end, MS)
        self._plan, self._plan_is_new = found, True

    # -- all of it, and what changed ------------------------------------------------

    def snapshot(self, now: float) -> State:
        """Everything as the patches so far make it."""
        columns = _columns(range(len(self._rows)), self._rows)
        return {
            "seq": self.seq,
            "key": self.key,
            "now": round(now, MS),
            "run": self._run,
            "nodes": self._nodes.told(),
            "status": columns["status"],
            "node": columns["node"],
            "slot": columns["slot"],
            "attempts": columns["attempts"],
            "queued": columns["queued"],
            "started": columns["started"],
            "ended": columns["ended"],
            "peak": columns["peak"],
            "transfer": columns["transfer"],
            "errors": self._errors.copy(),
            "stale": self._stale,
            "earlier": self._earlier.rows.copy(),
            "transfers": self._transfers.rows.copy(),
            "plan": self._plan,
        }

    def patch(self, now: float, run: RunFacts | None, *, meters: bool = True) -> Patch | None:
        """What changed since the last patch, None if nothing did; nodes whose amounts alone changed if ``meters``."""
        self._catch_up()
        patch: Patch = {"type": "patch", "seq": self.seq + 1, "key": self.key, "now": round(now, MS)}
        empty = len(patch)
        self._add_rows(patch)
        self._add_functions(patch)
        if self._stale_is_new:
            patch["stale"], self._stale_is_new = self._stale, False
        if self._plan is not None and self._plan_is_new:
            patch["plan"], self._plan_is_new = self._plan, False
        if nodes := self._nodes.changes(meters=meters):  # last: what comes before may have met new nodes
            patch["nodes"] = nodes
        if run is not None and run != self._run:
            before: dict[str, object] = {**self._run} if self._run is not None else {}
            patch["run"] = {name: value for name, value in run.items() if name not in before or value != before[name]}
            self._run = run
        if len(patch) == empty:
            return None
        self.seq += 1
        return patch

    def _add_rows(self, patch: Patch) -> None:
        if earlier := self._earlier.read(self._record, self._nodes.index, self._since):
            patch["earlier"] = earlier
        transfers, concerned = self._transfers.read(self._record, self._nodes.index, self._since)
        self._dirty |= concerned
        if transfers:
            patch["transfers"] = transfers

    def _add_functions(self, patch: Patch) -> None:
        changed: list[int] = []
        errors: dict[str, str | None] = {}
        for i in sorted(self._dirty):
            record = self._record.functions.get(self._ids[i])
            if record is None:
                continue
            row = self._row(i, record)
            if row != self._rows[i]:
                self._rows[i] = row
                changed.append(i)
            error = _error(record)
            if error != self._errors.get(str(i)):
                errors[str(i)] = error
        self._dirty.clear()
        if changed:
            patch["functions"] = _columns(changed, [self._rows[i] for i in changed])
        if errors:
            patch["errors"] = errors
            self._errors = {at: error for at, error in {**self._errors, **errors}.items() if error is not None}

    def _row(self, i: int, record: FunctionRecord) -> Row:
        return (
            STATUS_LETTERS[record.status],
            self._nodes.index(record.node),
            -1 if record.slot is None else record.slot,
            record.attempts,
            self._since(record.queued),
            self._since(record.started),
            self._since(record.ended),
            record.peak_memory,
            self._transfers.waited(i, record.node),
        )

    def _since(self, moment: float | None) -> float | None:
        return None if moment is None or self._begin is None else round(moment - self._begin, MS)

    # -- what the record took in ------------------------------------------------------

    def _catch_up(self) -> None:
        parts = self._record.events.parts
        end = len(parts)
        for at in range(self._read, end):
            part = parts[at]
            if not isinstance(part, Event):
                self._touched_many(part)
            elif part.name in _READERS:
                _READERS[part.name](self, part)
        self._read = max(self._read, end - 1)  # the record may not have taken in the last yet: look at it again

    def _touched_many(self, batch: FunctionBatch) -> None:
        if batch.ids is not self._ids_told:
            self._ids_told, self._places = batch.ids, [self._index.get(id, -1) for id in batch.ids]
        self._dirty.update(map(self._places.__getitem__, batch.functions))
        self._dirty.discard(-1)
        if isinstance(batch, FinishedBatch):
            self._nodes.claims(batch.node, batch.claimed)

    def _started(self, event: Event) -> None:
        if self._begin != event.time:
            self._begin = event.time
            self._nodes.begin(event.metadata.get("capabilities") or {})
            self._dirty.update(range(len(self._ids)))

    def _touched(self, event: Event) -> None:
        i = self._index.get(event.metadata["function"])
        if i is not None:
            self._dirty.add(i)

    def _went_elsewhere(self, event: Event) -> None:
        self._touched(event)
        id, source = event.metadata["function"], event.metadata["source"]
        i = self._index.get(id)
        if i is not None:
            self._nodes.moved(source, i)
            self._earlier.leave(id, source)

    def _claimed(self, event: Event) -> None:
        self._nodes.claims(event.metadata["node"], event.metadata["claimed"])

    def _loaded(self, event: Event) -> None:
        numbers = event.measurements
        self._nodes.measured(event.metadata["node"], numbers["cpu_percent"] / 100, numbers["memory"])

    def _node_came(self, event: Event) -> None:
        self._nodes.came_back(event.metadata["node"])
        self._node_changed(event)

    def _node_changed(self, event: Event) -> None:
        facts = event.metadata
        self._nodes.has(facts["node"], facts.get("capabilities") or {}, bool(facts.get("draining")))

    def _node_went(self, event: Event) -> None:
        reason = event.metadata.get("reason") or ""
        self._nodes.went(event.metadata["node"], self._since(event.time) or 0.0, reason)


_READERS: Final[dict[EventName, Callable[[LiveState, Event], None]]] = {
    names.RUN_START: LiveState._started,
    names.FUNCTION_QUEUED: LiveState._touched,
    names.FUNCTION_START: LiveState._touched,
    names.FUNCTION_STOP: LiveState._touched,
    names.FUNCTION_EXCEPTION: LiveState._touched,
    names.FUNCTION_RETRY: LiveState._touched,
    names.FUNCTION_CACHED: LiveState._touched,
    names.FUNCTION_CANCEL: LiveState._touched,
    names.FUNCTION_SKIP: LiveState._touched,
    names.FUNCTION_MOVE: LiveState._went_elsewhere,
    names.RESOURCE_ALLOCATION: LiveState._claimed,
    names.RESOURCE_RELEASE: LiveState._claimed,
    names.RESOURCE_UTILIZATION: LiveState._loaded,
    names.NODE_UP: LiveState._node_came,
    names.NODE_CHANGED: LiveState._node_changed,
    names.NODE_DOWN: LiveState._node_went,
}


def _columns(at: Iterable[int], rows: list[Row]) -> Columns:
    status, node, slot, attempts, queued, started, ended, peak, transfer = (
        map(list, zip(*rows, strict=True)) if rows else ([] for _ in _BLANK)
    )
    return {
        "at": list(at),
        "status": "".join(status),
        "node": node,
        "slot": slot,
        "attempts": attempts,
        "queued": queued,
        "started": started,
        "ended": ended,
        "peak": peak,
        "transfer": transfer,
    }


def _error(record: FunctionRecord) -> str | None:
    """Why a function failed, in one line."""
    if record.status is not FunctionStatus.FAILED:
        return None
    line = (record.error or "it failed").partition("\n")[0]
    return line if len(line) <= _LONGEST_ERROR else f"{line[: _LONGEST_ERROR - 1]}…"
