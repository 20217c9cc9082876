"""What crosses between the scheduler, the backends and the nodes: values, which decide nothing.

The scheduler numbers the functions of a run; these numbers, not the user's ids, travel.
Times in ``started`` and ``ended`` are wall-clock seconds of the node that measured them.
None of these is ever changed; those of which a run makes one per function are not frozen only because that triples the
time it takes to make one. What many brief functions have in common crosses in columns: ``FinishedMany``.
"""

from handoff_lab.messages.attempts import (
    HERE,
    Attempt,
    AttemptId,
    Constant,
    Evaluate,
    Failure,
    FailureKind,
    HowToEnd,
    Recipe,
    RunsIn,
    Source,
    Term,
    Use,
    ids_of,
)
from handoff_lab.messages.commands import (
    Command,
    Ended,
    Free,
    Report,
    ReportFinished,
    ReportQueued,
    ReportTransferred,
    Start,
    Stop,
    Wake,
)
from handoff_lab.messages.events import (
    BackendEvent,
    Cancelled,
    Failed,
    Finished,
    FinishedMany,
    ResultLost,
    Started,
    Transferred,
    TransferredMany,
    Wrote,
)
from handoff_lab.messages.nodes import GpuLoad, GpuUse, NodeChanged, NodeInfo, NodeJoined, NodeLoad, NodeLost

__all__ = [
    "HERE",
    "Attempt",
    "AttemptId",
    "BackendEvent",
    "Cancelled",
    "Command",
    "Constant",
    "Ended",
    "Evaluate",
    "Failed",
    "Failure",
    "FailureKind",
    "Finished",
    "FinishedMany",
    "Free",
    "GpuLoad",
    "GpuUse",
    "HowToEnd",
    "NodeChanged",
    "NodeInfo",
    "NodeJoined",
    "NodeLoad",
    "NodeLost",
    "Recipe",
    "Report",
    "ReportFinished",
    "ReportQueued",
    "ReportTransferred",
    "ResultLost",
    "RunsIn",
    "Source",
    "Start",
    "Started",
    "Stop",
    "Term",
    "Transferred",
    "TransferredMany",
    "Use",
    "Wake",
    "Wrote",
    "ids_of",
]
