"""Delays before retries: doubled up to a bound, apart from each other, and the same each time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handoff_lab.graph import DAG, Function
from handoff_lab.messages import FailureKind
from handoff_lab.scheduler import Backoff

DOUBLING = Backoff(growth=2.0, most_s=60.0)
FAILS = [FailureKind.EXCEPTION] * 20


@pytest.mark.parametrize(
    ("first", "delays"),
    [(1.0, [1, 2, 4, 8, 16, 32, 60, 60]), (25.0, [25, 50, 60]), (90.0, [90, 90]), (0.0, [0, 0])],
)
def test_delays_double_up_to_a_bound(first: float, delays: list[float]) -> None:
    assert [DOUBLING.delay(first, retry, "") for retry in range(1, len(delays) + 1)] == delays


@given(
    first=st.floats(0, 1e6),
    retry=st.integers(1, 10**9),
    growth=st.floats(1, 10),
    jitter=st.floats(0, 1),
    seed=st.text(),
)
def test_jitter_lengthens_by_its_share_at_most(
    first: float, retry: int, growth: float, jitter: float, seed: str
) -> None:
    plain = Backoff(growth, 60.0).delay(first, retry, seed)
    delay = Backoff(growth, 60.0, jitter).delay(first, retry, seed)
    assert plain <= delay <= plain * (1 + jitter)
    assert first <= plain <= max(first, 60.0)
    assert Backoff(growth, 60.0, jitter).delay(first, retry, seed) == delay


def test_functions_that_fail_together_are_tried_apart(simulate: Any) -> None:
    simulation = simulate({"n": {"cpu": 4}}, fails={str(i): FAILS[:1] for i in range(4)})
    backoff = Backoff(growth=2.0, most_s=60.0, jitter=0.25)
    simulation.begin(DAG().add(*(Function(i, list, retry_delay=8.0) for i in range(4))), backoff=backoff)
    simulation.run()
    starts = [start for start, _ in simulation.spans().values()]
    assert len(set(starts)) == 4
    assert all(9.0 <= start <= 11.0 for start in starts)
    simulation.check_end()


def test_six_attempts_on_two_nodes_each_twice_as_late(simulate: Any) -> None:
    simulation = simulate({"n": {"cpu": 1}, "m": {"cpu": 1}}, fails={"f": FAILS})
    simulation.begin(DAG().add(Function("f", list, retry_delay=1.0)), max_retries=5, backoff=DOUBLING)
    simulation.run()
    assert simulation.attempts() == {"f": 6}
    assert [report.measurements["delay"] for report in simulation.told("retry")] == [1, 2, 4, 8, 16]
    assert simulation.backend.now == 6 + 31
    assert (simulation.ended["run"].status, simulation.ended["run"].attempts) == ("failed", 6)
    simulation.check_end()
