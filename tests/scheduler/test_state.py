"""Bugs of the scheduler say so, with the story of the function."""

from __future__ import annotations

import pickle
from collections import deque
from typing import Any

import pytest

from handoff_lab.scheduler import InvalidTransition, Program, RunOptions, ScheduledFunction, State
from handoff_lab.scheduler.state import Progress


def test_a_wrong_transition_tells_the_story() -> None:
    program = Program("r", "d", (ScheduledFunction("load"), ScheduledFunction("use", (0,))))
    progress = Progress(program, RunOptions(), 0.0, deque())
    progress.move(0, State.READY)
    progress.move(1, State.SKIPPED)
    progress.move(0, State.SUBMITTED)
    with pytest.raises(InvalidTransition) as caught:
        progress.move(0, State.READY)
    error = caught.value
    assert (error.function, error.before, error.after) == ("load", State.SUBMITTED, State.READY)
    assert "WAITING→READY(0) READY→SUBMITTED(0)" in str(error)
    assert progress.state[0] == State.SUBMITTED
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.story) == (str(error), error.story)


def test_the_story_of_a_function(simulate: Any, chain: Any) -> None:
    simulation = simulate({"n": {"cpu": 1}})
    simulation.begin(chain)
    simulation.run()
    steps = [step.after.name for step in simulation.scheduler.story("run", 1)]
    assert steps == ["READY", "SUBMITTED", "RUNNING", "DONE"]


@pytest.mark.parametrize("state", [State.FAILED, State.SKIPPED, State.CANCELLED])
@pytest.mark.parametrize("after", State)
def test_what_is_over_stays_over(state: State, after: State) -> None:
    progress = Progress(Program("r", "d", (ScheduledFunction("f"),)), RunOptions(), 0.0, deque())
    progress.move(0, state)
    with pytest.raises(InvalidTransition):
        progress.move(0, after)
