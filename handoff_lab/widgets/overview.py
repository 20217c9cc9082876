"""What JupyterLab's sidebar shows of a kernel: its nodes, runs and functions, as plain data."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Protocol, TypedDict

from handoff_lab._errors import HandoffError
from handoff_lab.graph import DAG, maps
from handoff_lab.telemetry import events as names
from handoff_lab.telemetry.events import EventName
from handoff_lab.telemetry.record import FunctionStatus
from handoff_lab.visualization.run_graph import URGENCY
from handoff_lab.widgets.actions import Notebook
from handoff_lab.widgets.node_table import NodeTable, used_amounts
from handoff_lab.widgets.protocol import STATUS_LETTERS, NodeState

if TYPE_CHECKING:
    from handoff_lab.cluster import Cluster
    from handoff_lab.nodes import Node
    from handoff_lab.run import Run

MOST_FUNCTIONS: Final = 1000
MOST_RUNS: Final = 50


class Session(Notebook, Protocol):
    """What the panel asks of the notebook's session."""

    @property
    def dag(self) -> DAG: ...


class Cells:
    """A session whose stale functions are found once after each cell, as that takes fingerprints of all."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._stale: frozenset[Hashable] | None = None

    @property
    def dag(self) -> DAG:
        return self.session.dag

    def look_again(self) -> None:
        self._stale = None

    def stale(self) -> frozenset[Hashable]:
        stale = self._stale
        if stale is None:
            stale = self._stale = frozenset(self.session.stale())
        return stale

    def rerun_stale(self) -> Run:
        return self.session.rerun_stale()

    def adopt(self, before: Run, run: Run) -> None:
        self.session.adopt(before, run)

    def place(self, id: Hashable) -> tuple[str | None, str] | None:
        return self.session.place(id)


class CellPlace(TypedDict):
    id: str | None
    label: str


class FunctionRow(TypedDict):
    id: str
    status: str | None
    node: str | None
    stale: bool
    place: CellPlace | None


class RunRow(TypedDict):
    id: str
    dag: str
    status: str
    running: int
    done: int
    failed: int
    total: int
    started: float | None
    ended: float | None


def function_rows(
    dag: DAG,
    run: Run | None,
    stale: Collection[Hashable],
    place: Callable[[Hashable], tuple[str | None, str] | None],
) -> tuple[list[FunctionRow], int]:
    """The first functions of a graph as its last run left them, and how many more there are; inputs are none."""
    ids = [id for id, function in dag.functions.items() if function.type != "input"]
    rows = []
    for id in ids[:MOST_FUNCTIONS]:
        status, node = (None, None) if run is None else _left_by(run, id)
        where = place(id)
        rows.append(
            FunctionRow(
                id=id if isinstance(id, str) else repr(id),
                status=None if status is None else STATUS_LETTERS[status],
                node=node,
                stale=id in stale,
                place=None if where is None else {"id": where[0], "label": where[1]},
            )
        )
    return rows, len(ids) - len(rows)


def _left_by(run: Run, id: Hashable) -> tuple[FunctionStatus | None, str | None]:
    """Status and node of a function; of a map the most urgent status of its chunks, and their node if it is one."""
    found = [record for part in maps.expanded(run.dag, [id]) if (record := run.record.functions.get(part)) is not None]
    status = min((record.status for record in found), key=URGENCY.index, default=None)
    nodes = {record.node for record in found}
    return status, nodes.pop() if len(nodes) == 1 else None


class RunRows:
    """Rows of runs, newest first; what is over is counted once."""

    def __init__(self) -> None:
        self._over: dict[str, RunRow] = {}

    def of(self, runs: Iterable[Run]) -> list[RunRow]:
        """The rows of the newest of ``runs``."""
        rows = [self._over.get(run.id) or run_row(run) for run in islice(newest_first(runs), MOST_RUNS)]
        self._over = {row["id"]: row for row in rows if row["status"] != "running"}
        return rows


def newest_first(runs: Iterable[Run]) -> list[Run]:
    """A run that has not begun is the newest."""
    return sorted(runs, key=lambda run: run.record.started or float("inf"), reverse=True)


def run_row(run: Run) -> RunRow:
    status = run.status  # before the counts: those of a run that is over must be final
    counts = run.record.counts()
    return {
        "id": run.id,
        "dag": run.dag_id,
        "status": status,
        "running": counts.get(FunctionStatus.RUNNING, 0),
        "done": counts.get(FunctionStatus.DONE, 0) + counts.get(FunctionStatus.CACHED, 0),
        "failed": counts.get(FunctionStatus.FAILED, 0),
        "total": sum(counts.values()) or len(run.dag.functions),
        "started": run.record.started,
        "ended": run.record.ended,
    }


class NodeRows:
    """The nodes of a kernel's clusters, and those lost since the last run began."""

    def __init__(self) -> None:
        self._table = NodeTable()
        self._lost: set[str] = set()

    def hear(self, name: EventName, numbers: Mapping[str, float], facts: Mapping[str, Any]) -> None:
        """What telemetry tells of nodes."""
        if name == names.RUN_START:  # letters as in the run's own pictures
            self._table, self._lost = NodeTable(), set()
            self._table.begin(facts.get("capabilities") or {})
        elif name == names.RESOURCE_UTILIZATION:
            self._table.measured(facts["node"], used_amounts(numbers))
        elif name == names.NODE_DOWN:
            self._lost.add(facts["node"])
            self._table.went(facts["node"], numbers["time"], facts.get("reason") or "it was lost")
        elif name == names.NODE_UP:
            self._lost.discard(facts["node"])

    def of(self, present: Mapping[str, Node]) -> list[NodeState]:
        """What is shown of these nodes, and of those that were lost."""
        for name, node in present.items():
            self._table.has(name, node.capabilities, draining=node.status == "draining")
            self._table.claims(name, node.used)
        self._table.changes(meters=True)
        shown = present.keys() | (self._lost if present else set())
        return [node for node in self._table.told() if node["name"] in shown]


def nodes_of(clusters: Iterable[Cluster]) -> dict[str, Node]:
    """The nodes of all clusters that are open; asks them, and waits for their answers."""
    present: dict[str, Node] = {}
    for cluster in clusters:
        try:
            present |= cluster.nodes
        except HandoffError:  # it is closed
            continue
    return present


def functions_part(cells: Cells | None, runs: list[Run]) -> dict[str, Any]:
    """Of the notebook; of the newest run where no notebook is known."""
    if cells is not None:
        dag, stale, place = cells.dag, cells.stale(), cells.place
    else:
        dag, stale, place = runs[0].dag if runs else DAG(), frozenset(), _nowhere
    latest = next((run for run in runs if run.dag_id == dag.name), None)
    rows, more = function_rows(dag, latest, stale, place)
    return {"dag": dag.name if rows else None, "functions": rows, "more": more}


def _nowhere(id: Hashable) -> None:
    """Where functions are defined that no notebook knows."""
