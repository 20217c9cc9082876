"""What a request makes of the options of a run."""

from __future__ import annotations

import math
from typing import Any

import pytest

from handoff_lab.coordinator.request import Request
from handoff_lab.graph import DAG, Function


@pytest.mark.parametrize(
    ("strategy", "expected"), [("locality", True), ("first_available", False), (lambda functions, nodes: {}, False)]
)
def test_the_request_says_whether_what_waits_may_be_moved(strategy: object, expected: bool) -> None:
    request = Request.make(DAG().add(Function("f", len)), None, allocation_strategy=strategy)  # type: ignore[arg-type]
    assert request.options.rebalances is expected


@pytest.mark.parametrize("option", ["wait_for_node", "wait_for_capacity"])
@pytest.mark.parametrize(("given", "seconds"), [(False, 0), (True, math.inf), (0, 0), (2.5, 2.5)])
def test_waits_are_seconds_or_for_ever(option: str, given: float | bool, seconds: float) -> None:
    request = Request.make(DAG().add(Function("f", len)), None, **{option: given})  # type: ignore[arg-type]
    assert getattr(request.options, f"{option}_s") == seconds


@pytest.mark.parametrize("wrong", [-1, math.nan, "long", None])
def test_other_waits_are_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"wait_for_node is .*; it must be a number of seconds"):
        Request.make(DAG().add(Function("f", len)), None, wait_for_node=wrong)  # type: ignore[arg-type]


def test_delays_before_retries_grow_and_differ() -> None:
    backoff = Request.make(DAG().add(Function("f", len)), None).options.backoff
    delays = [backoff.delay(10.0, retry, "a") for retry in range(1, 6)]
    for delay, least in zip(delays, (10, 20, 40, 60, 60), strict=True):
        assert least < delay < 1.25 * least
    assert backoff.delay(10.0, 1, "b") != delays[0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"setup": "import os"}, r"setup is 'import os'; it must be a list of texts, such as \['import numpy as np'\]"),
        ({"setup": 5}, "setup is 5; it must be a list"),
        ({"setup": [len]}, "setup is .*; it must be a list"),
        ({"nodes": "alpha"}, r"nodes is 'alpha'; it must be a list of texts, such as \['node-1'\]"),
        ({"nodes": []}, "nodes is empty; name at least one, or leave it out for all"),
        ({"timeout": 2**65}, "timeout is .*; it must be a number of seconds, up to 1e"),
        ({"wait_for_node": 2**65}, "wait_for_node is .*; it must be a number of seconds, up to 1e"),
        ({"max_retries": 2**65}, "max_retries is .*; it must be a whole number"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        Request.make(DAG().add(Function("f", len)), None, **options)
