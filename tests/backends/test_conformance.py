"""Every backend does what `handoff_lab.backends.base.Backend` says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from handoff_lab.backends.kernels import KernelBackend
from handoff_lab.backends.local import LocalBackend
from handoff_lab.backends.mixed import MixedBackend
from handoff_lab.backends.simulated import SimulatedBackend
from handoff_lab.messages import Attempt, Failure, FailureKind
from handoff_lab.testing.bench import Bench
from handoff_lab.testing.conformance import BackendConformance

ONE = {"cpu": 1.0}


def local() -> Bench:
    return Bench(LocalBackend({"a": ONE, "b": ONE}), ("a", "b"))


def kernels() -> Bench:
    return Bench(KernelBackend({"a": ONE, "b": ONE}, name="test"), ("a", "b"))


def mixed() -> Bench:
    return Bench(MixedBackend({"local": ONE, "a": ONE}, name="test"), ("local", "a"))


def simulated() -> Bench:
    def outcome(attempt: Attempt) -> Failure | None:
        return Failure(FailureKind.EXCEPTION, "as its label says") if attempt.label == "fails" else None

    def duration(attempt: Attempt) -> float:
        return 1000.0 if attempt.label == "held" else 1.0

    backend = SimulatedBackend({"a": ONE, "b": ONE}, duration=duration, outcome=outcome)
    return Bench(backend, ("a", "b"), backend.step)


REAL = [pytest.param(make, marks=pytest.mark.real) for make in (kernels, mixed)]


@pytest.fixture(scope="module", params=[local, simulated, *REAL])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    bench = request.param()
    yield bench
    bench.close()


class TestConformance(BackendConformance):
    """All of it."""
