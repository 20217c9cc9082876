"""A short soak; ``make soak`` is the long one."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from handoff_lab.testing.soak import ATTEMPTS


@pytest.mark.real
def test_runs_over_nodes_that_are_killed_give_what_a_serial_run_gives() -> None:
    words = ["--nodes", "4", "--functions", "600", "--kill-every-s", "2", "--seconds", "12", "--seed", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "handoff_lab.testing.soak", *words],
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
    )
    assert done.stdout, done.stderr
    story: dict[str, Any] = json.loads(done.stdout)
    assert story["wrong"] == [], done.stderr
    assert story["killed"] >= 1
    assert story["functions"] >= 600
    assert 1 <= story["most_attempts"] <= ATTEMPTS
