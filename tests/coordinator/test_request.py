"""What a request makes of the options of a run."""

from __future__ import annotations

import pytest

from handoff_lab.coordinator.request import Request
from handoff_lab.graph import DAG, Function


@pytest.mark.parametrize(
    ("strategy", "expected"), [("locality", True), ("first_available", False), (lambda functions, nodes: {}, False)]
)
def test_the_request_says_whether_what_waits_may_be_moved(strategy: object, expected: bool) -> None:
    request = Request.make(DAG().add(Function("f", len)), None, allocation_strategy=strategy)  # type: ignore[arg-type]
    assert request.options.rebalances is expected
