"""How a run is shown while it goes, and what is said of it afterwards."""

from __future__ import annotations

import io
import re
from collections.abc import Hashable, Iterator
from typing import Any

import pytest

import handoff_lab as hl
from handoff_lab.cli.progress import follow
from handoff_lab.cli.summary import closing_line, functions_table, nodes_table, results


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


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


def test_elsewhere_each_function_has_a_line(cluster: hl.Cluster) -> None:
    screen = io.StringIO()
    run = cluster.submit(branching())
    follow(run, screen)
    lines = screen.getvalue().splitlines()
    assert [re.sub(r", \S+ m?s$", "", line) for line in lines] == [
        "  1/3  done      numbers on alpha",
        "  2/3  done      plus_one on alpha",
        "  3/3  done      total on alpha",
    ]


def test_a_terminal_gets_one_line_that_changes(cluster: hl.Cluster) -> None:
    screen = Terminal()
    follow(cluster.submit(branching()), screen)
    states = screen.getvalue().split("\r\x1b[2K")
    assert states[-1].startswith("█" * 24 + " 3/3")
    assert states[-1].endswith("\n")
    assert all("\n" not in state for state in states[:-1])


def test_a_narrow_terminal_is_not_wrapped(cluster: hl.Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    screen = Terminal()
    follow(cluster.submit(branching()), screen)
    assert max(len(state.rstrip("\n")) for state in screen.getvalue().split("\r\x1b[2K")) <= 19


def test_a_failure_is_told_and_not_raised(cluster: hl.Cluster) -> None:
    dag = hl.DAG("bad").add(hl.Function("a", lambda: 1 / 0), hl.Function("b", lambda a: a, args=["a"]))
    screen = io.StringIO()
    run = cluster.submit(dag, max_retries=0, on_error="continue")
    follow(run, screen)
    said = screen.getvalue()
    assert "FAILED    a on alpha" in said
    assert "division by zero" in said
    assert "skipped   b" in said
    assert run.status == "failed"


def test_following_leaves_no_handler_behind(cluster: hl.Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    attached: list[Hashable] = []
    attach = hl.telemetry.attach

    def remember(id: Hashable, *rest: Any) -> None:
        attached.append(id)
        attach(id, *rest)

    monkeypatch.setattr(hl.telemetry, "attach", remember)
    follow(cluster.submit(branching()), io.StringIO())
    assert [hl.telemetry.detach(id) for id in attached] == [False]


def test_the_summary_names_functions_nodes_and_results(cluster: hl.Cluster) -> None:
    run = cluster.execute(branching())
    header, *rows = functions_table(run).splitlines()
    assert header.split() == ["function", "node", "cost", "status", "attempts", "time", "result"]
    assert rows[1].split()[:5] == ["plus_one", "alpha", "cpu", "1", "done"]
    assert [line.split()[0] for line in nodes_table(run).splitlines()] == ["node", "alpha", "beta"]
    assert f"run {run.id} of 'branching': done in " in closing_line(run)
    assert results(run) == "total = 63"
