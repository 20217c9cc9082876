"""A run as a pure state machine: events in, commands out."""

from handoff_lab.scheduler.backoff import Backoff
from handoff_lab.scheduler.compile import compile_program, sinks
from handoff_lab.scheduler.program import Program, RunOptions, ScheduledFunction
from handoff_lab.scheduler.resuming import Past, Tried
from handoff_lab.scheduler.scheduler import Scheduler
from handoff_lab.scheduler.state import InvalidTransition, State

__all__ = [
    "Backoff",
    "InvalidTransition",
    "Past",
    "Program",
    "RunOptions",
    "ScheduledFunction",
    "Scheduler",
    "State",
    "Tried",
    "compile_program",
    "sinks",
]
