"""What happens in runs, told to who attaches, written to logs, and gathered into records."""

from handoff_lab.telemetry.bus import Bus, attach, detach, dispatch, span
from handoff_lab.telemetry.events import Event
from handoff_lab.telemetry.log import RunLog, log_directory, read_log
from handoff_lab.telemetry.opentelemetry import to_opentelemetry
from handoff_lab.telemetry.record import (
    AttemptRecord,
    FunctionRecord,
    FunctionStatus,
    RunRecord,
    TransferRecord,
)

__all__ = [
    "AttemptRecord",
    "Bus",
    "Event",
    "FunctionRecord",
    "FunctionStatus",
    "RunLog",
    "RunRecord",
    "TransferRecord",
    "attach",
    "detach",
    "dispatch",
    "log_directory",
    "read_log",
    "span",
    "to_opentelemetry",
]
