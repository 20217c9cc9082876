"""What the tests of the conformance suite are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest

from handoff_lab.messages import AttemptId, Failed, FailureKind
from handoff_lab.testing.bench import Bench

Test = TypeVar("Test", bound=Callable[..., None])

each_node = pytest.mark.parametrize("at", [0, 1])
each_way = pytest.mark.parametrize(("at", "to"), [(0, 0), (0, 1), (1, 0), (1, 1)])


def verb(name: str) -> Callable[[Test], Test]:
    """Mark a test as one of this verb of a backend."""

    def mark(test: Test) -> Test:
        test.verb = name  # type: ignore[attr-defined]
        return test

    return mark


def fail() -> None:
    """Be a function that fails."""
    raise ValueError("on purpose")


def needs_execution(bench: Bench) -> None:
    """Leave out what a backend that executes nothing can't show."""
    if not bench.executes:
        bench.verdict = "runs nothing"
        pytest.skip("nothing is executed")


def is_refused(bench: Bench, id: AttemptId, what: str) -> None:
    """The attempt fails without being started, and its story says what its node can't do."""
    bench.verdict = "refused"
    end = bench.end(id)
    assert isinstance(end, Failed), end
    assert (end.failure.kind, end.failure.retryable) == (FailureKind.UNSUPPORTED, False)
    assert what in end.failure.message
    assert not bench.starts(id)
