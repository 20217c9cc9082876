"""Joins the scheduler and a backend; holds the runs of a cluster."""

from handoff_lab.coordinator.coordinator import Coordinator
from handoff_lab.coordinator.request import Request, RunKeywords, prepare

__all__ = ["Coordinator", "Request", "RunKeywords", "prepare"]
