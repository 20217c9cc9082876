"""The state of a run in columns, kept up to date from its record: snapshots of all of it, patches of what changed.

It knows no threads and no clock: who calls holds a lock and says what time it is.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Final

from handoff_lab.allocation import Plan
from handoff_lab.graph import DAG
from handoff_lab.telemetry import RunRecord
from handoff_lab.telemetry import events as names
from handoff_lab.telemetry.batches import FinishedBatch, FunctionBatch, TransferredBatch
from handoff_lab.telemetry.events import Event, EventName
from handoff_lab.visualization.data import plan_bars
from handoff_lab.widgets.function_rows import FunctionRows
from handoff_lab.widgets.node_table import NodeTable, used_amounts
from handoff_lab.widgets.protocol import Patch, PlanState, RunFacts, State
from handoff_lab.widgets.rows import MS, EarlierAttempts, Transfers


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
        self._nodes = NodeTable()
        self._earlier = EarlierAttempts(self._index)
        self._transfers = Transfers(dag, self._index)
        self._functions = FunctionRows(self._index, self._nodes, self._transfers)
        self._read = 0  # parts of the events that were looked at
        self._run: RunFacts | None = None
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
        columns = self._functions.columns()
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
            "errors": self._functions.errors.copy(),
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
        since = self._functions.since
        if earlier := self._earlier.read(self._record, self._nodes.index, since):
            patch["earlier"] = earlier
        transfers, concerned = self._transfers.read(self._record, self._nodes.index, since)
        self._functions.inputs_moved(concerned)
        if transfers:
            patch["transfers"] = transfers

    def _add_functions(self, patch: Patch) -> None:
        changed, errors = self._functions.changes(self._record)
        if changed:
            patch["functions"] = changed
        if errors:
            patch["errors"] = errors

    # -- what the record took in ------------------------------------------------------

    def _catch_up(self) -> None:
        parts = self._record.events.parts
        end = len(parts)
        for at in range(self._read, end):
            part = parts[at]
            if not isinstance(part, Event):
                self._take_many(part)
            elif part.name in _READERS:
                _READERS[part.name](self, part)
        if end and isinstance(parts[end - 1], Event):
            end -= 1  # the record may not have taken it in yet: look at it again
        self._read = max(self._read, end)

    def _take_many(self, batch: FunctionBatch) -> None:
        if isinstance(batch, TransferredBatch):
            return  # these are read from the record's transfers
        self._functions.take(batch)
        if isinstance(batch, FinishedBatch):
            self._nodes.claims(batch.node, batch.claimed)

    def _started(self, event: Event) -> None:
        if self._functions.since(event.time) == 0.0:
            return  # it is looked at again
        self._nodes.begin(event.metadata.get("capabilities") or {})
        self._functions.begin(event.time, event.metadata.get("allocations") or {})

    def _touched(self, event: Event) -> None:
        i = self._index.get(event.metadata["function"])
        if i is not None:
            self._functions.look_at(i)

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
        self._nodes.measured(event.metadata["node"], used_amounts(event.measurements))

    def _node_came(self, event: Event) -> None:
        self._nodes.came_back(event.metadata["node"])
        self._node_changed(event)

    def _node_changed(self, event: Event) -> None:
        facts = event.metadata
        self._nodes.has(facts["node"], facts.get("capabilities") or {}, bool(facts.get("draining")))

    def _node_went(self, event: Event) -> None:
        reason = event.metadata.get("reason") or ""
        self._nodes.went(event.metadata["node"], self._functions.since(event.time) or 0.0, reason)


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
    names.FUNCTION_WAIT: LiveState._touched,
    names.FUNCTION_MOVE: LiveState._went_elsewhere,
    names.RESOURCE_ALLOCATION: LiveState._claimed,
    names.RESOURCE_RELEASE: LiveState._claimed,
    names.RESOURCE_UTILIZATION: LiveState._loaded,
    names.NODE_UP: LiveState._node_came,
    names.NODE_CHANGED: LiveState._node_changed,
    names.NODE_DOWN: LiveState._node_went,
}
