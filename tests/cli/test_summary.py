"""What is said of a run afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import handoff_lab as hl
from handoff_lab.cli.summary import closing_line, functions_table, nodes_table, results


@pytest.fixture
def cluster() -> Iterator[hl.Cluster]:
    with hl.Cluster({"alpha": {"cpu": 2}, "beta": {"cpu": 1}}, backend="local") as cluster:
        yield cluster


def branching() -> hl.DAG:
    return hl.DAG("branching").add(
        hl.Function("numbers", lambda: [10, 20, 30]),
        hl.Function("plus_one", lambda xs: [x + 1 for x in xs], args=["numbers"], cost={"cpu": 1}),
        hl.Function("total", sum, args=["plus_one"], cost={"cpu": 1}),
    )


def test_the_summary_names_functions_nodes_and_results(cluster: hl.Cluster) -> None:
    run = cluster.execute(branching())
    header, *rows = functions_table(run).splitlines()
    assert header.split() == ["function", "node", "cost", "status", "attempts", "time", "result"]
    assert rows[1].split()[:5] == ["plus_one", "alpha", "cpu", "1", "done"]
    assert [line.split()[0] for line in nodes_table(run).splitlines()] == ["node", "alpha", "beta"]
    assert f"run {run.id} of 'branching': done in " in closing_line(run)
    assert results(run) == "total = 63"
