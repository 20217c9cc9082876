"""What tests of faults share: the marks that functions leave, and the story that events tell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import handoff_lab as hl
from handoff_lab.telemetry.events import Event
from tests.faults.marks import Marks

LOST_S = 1.0  # within which the loss of a node of this machine is known


@pytest.fixture
def marks(tmp_path: Path) -> Marks:
    return Marks(tmp_path)


def told(run: hl.Run, name: tuple[str, ...], node: str) -> list[Event]:
    """Events of this name about a node."""
    return [event for event in run.events if event.name == name and event.metadata["node"] == node]


def story_of(run: hl.Run, function: str) -> list[tuple[str, str, int]]:
    """What befell a function: the event, its node and its attempt."""
    return [
        (event.name[-1], event.metadata["node"], event.metadata["attempt"])
        for event in run.events
        if event.name[:3] == ("handoff", "execution", "function")
        and event.metadata["function"] == function
        and "attempt" in event.metadata
        and event.name[-1] != "log"
    ]


def begun(run: hl.Run, function: str) -> Callable[[], bool]:
    """Whether a function runs, and that is known here."""
    return lambda: any(what == "start" for what, _, _ in story_of(run, function))
