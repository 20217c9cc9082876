"""What kernel and browser say to each other of a run, as it goes over the comm; the other side of it is
``labextension/src/protocol.ts``, which says what the fields mean.

Functions go by their index in the structure's ids, nodes by their index in the state's nodes; -1 is none.
"""

from __future__ import annotations

from typing import Any, Final, NotRequired, TypeAlias, TypedDict

from handoff_lab.telemetry import FunctionStatus

STATUS_LETTERS: Final = {
    FunctionStatus.WAITING: "w",
    FunctionStatus.QUEUED: "q",
    FunctionStatus.RUNNING: "r",
    FunctionStatus.DONE: "d",
    FunctionStatus.CACHED: "c",
    FunctionStatus.FAILED: "f",
    FunctionStatus.RETRYING: "t",
    FunctionStatus.SKIPPED: "s",
    FunctionStatus.CANCELLED: "x",
}

Times: TypeAlias = list[float | None]
AttemptRow: TypeAlias = tuple[int, int, int, int, float | None, float | None, str]
TransferRow: TypeAlias = tuple[int, int, int, float, float, int]
Message: TypeAlias = dict[str, Any]


class RunFacts(TypedDict):
    id: str
    status: str
    strategy: str | None
    started: float
    ended: float | None
    expected: float | None
    error: str | None
    cannot: dict[str, str]


class ResourceState(TypedDict):
    capability: float
    claimed: float
    used: float | None


class NodeLoss(TypedDict):
    at: float
    reason: str
    moved: list[int]


class GpuState(TypedDict):
    gpu: str
    percent: float | None
    memory: float
    total: float
    functions: int


class NodeState(TypedDict):
    name: str
    letter: str
    colour: str
    ink: str
    status: str
    resources: dict[str, ResourceState]
    lost: NodeLoss | None
    gpus: NotRequired[list[GpuState]]  # in the widget of a cluster alone


class PlanState(TypedDict):
    node: list[int]
    slot: list[int]
    start: Times
    end: Times


class FunctionColumns(TypedDict):
    status: str
    node: list[int]
    slot: list[int]
    attempts: list[int]
    queued: Times
    started: Times
    ended: Times
    peak: Times
    transfer: Times


class Columns(FunctionColumns):
    at: list[int]


class State(FunctionColumns):
    seq: int
    key: str
    now: float
    run: RunFacts | None
    nodes: list[NodeState]
    errors: dict[str, str]
    stale: list[int]
    earlier: list[AttemptRow]
    transfers: list[TransferRow]
    plan: PlanState | None


class _PatchHead(TypedDict):
    type: str
    seq: int
    key: str
    now: float


class Patch(_PatchHead, total=False):
    run: dict[str, Any]
    functions: Columns
    errors: dict[str, str | None]
    nodes: list[NodeState]
    stale: list[int]
    earlier: list[AttemptRow]
    transfers: list[TransferRow]
    plan: PlanState
