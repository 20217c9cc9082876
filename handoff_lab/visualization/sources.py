"""What pictures are made of: a run, its bare record, a plan, or just who goes where."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Protocol, TypeAlias

from handoff_lab.allocation import Plan
from handoff_lab.telemetry import RunRecord

if TYPE_CHECKING:
    from handoff_lab.graph import DAG


class RunLike(Protocol):
    """The part of a run that pictures need."""

    @property
    def record(self) -> RunRecord: ...
    @property
    def dag(self) -> DAG: ...
    @property
    def plan(self) -> Plan | None: ...


AnyRun: TypeAlias = RunLike | RunRecord
Placement: TypeAlias = AnyRun | Plan | Mapping[Hashable, str] | None


def record_of(run: AnyRun) -> RunRecord:
    """The record of a run."""
    return run if isinstance(run, RunRecord) else run.record


def dag_of(run: AnyRun) -> DAG | None:
    """The graph of a run; a bare record has none."""
    return None if isinstance(run, RunRecord) else run.dag


def plan_of(run: AnyRun) -> Plan | None:
    """The plan of a run, where there is one."""
    return None if isinstance(run, RunRecord) else run.plan


def lacks_of(it: object) -> str:
    """What the backend of a run or a cluster can't do, in words; what is neither lacks nothing."""
    lacks: Mapping[str, str] = getattr(it, "lacks", {})
    return "; ".join(lacks.values())


def allocations_of(placement: Placement) -> dict[Hashable, str]:
    """The node of each function."""
    if placement is None:
        return {}
    if isinstance(placement, Mapping):
        return dict(placement)
    if isinstance(placement, Plan):
        return dict(placement.allocations)
    return record_of(placement).functions.nodes()


def nodes_of(placement: Placement) -> set[str]:
    """Names of all nodes there are, those without a function among them."""
    nodes = set(allocations_of(placement).values())
    if isinstance(placement, Plan):
        nodes.update(placement.capabilities)
    elif placement is not None and not isinstance(placement, Mapping):
        nodes.update(record_of(placement).capabilities)
    return nodes
