"""Every backend does what `handoff_lab.backends.base.Backend` says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from handoff_lab.backends.kernels import KernelBackend
from handoff_lab.backends.local import LocalBackend
from handoff_lab.backends.mixed import MixedBackend
from handoff_lab.backends.simulated import SimulatedBackend
from handoff_lab.messages import Attempt, Failure, FailureKind
from handoff_lab.testing.bench import Bench
from handoff_lab.testing.conformance import BackendConformance
from handoff_lab.testing.conformance_table import Rule, read_table, with_table
from handoff_lab.testing.dask_cluster import DaskBench

ONE = {"cpu": 1.0}
PAGE = Path(__file__).parents[2] / "docs" / "backends.md"
COLUMNS = {"local": "in-process", "kernels": "kernels", "DaskBench": "Dask", "simulated": "simulated"}
SEEN: dict[str, dict[Rule, str]] = {}


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


REAL = [pytest.param(make, marks=pytest.mark.real) for make in (kernels, mixed, DaskBench)]


@pytest.fixture(scope="module", params=[local, simulated, *REAL])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    bench = request.param()
    SEEN[request.param.__name__] = bench.seen
    yield bench
    bench.close()


class TestConformance(BackendConformance):
    """All of it."""


@pytest.mark.parametrize(
    "name",
    [
        "local",
        "simulated",
        pytest.param("kernels", marks=pytest.mark.real),
        pytest.param("DaskBench", marks=pytest.mark.real),
    ],
)
def test_the_docs_say_what_was_seen(name: str) -> None:
    """After the others: each column of the table is made of what they saw."""
    rules = sum(test.startswith("test_") for test in dir(BackendConformance))
    if len(SEEN.get(name, ())) < rules:
        pytest.skip("not all of the suite ran on it")
    page = PAGE.read_text(encoding="utf-8")
    table = read_table(page)
    if table.get(COLUMNS[name]) != SEEN[name]:
        table[COLUMNS[name]] = SEEN[name]
        PAGE.write_text(with_table(page, {column: table.get(column, {}) for column in COLUMNS.values()}))
        pytest.fail(f"{PAGE.name} said otherwise; it is written anew: look at it and commit it")
