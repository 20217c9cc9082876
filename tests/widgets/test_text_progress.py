"""How a run is shown where there is no browser."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import handoff_lab as hl
from handoff_lab.telemetry import FunctionRecord, FunctionStatus
from handoff_lab.widgets.text_progress import follow, progress_line


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
    follow(cluster.submit(branching()), screen)
    lines = screen.getvalue().splitlines()
    assert [re.sub(r", \S+ m?s$", "", line) for line in lines] == [
        "  1/3  done      numbers on alpha",
        "  2/3  done      plus_one on alpha",
        "  3/3  done      total on alpha",
    ]


def test_many_functions_get_few_lines_but_no_failure_is_left_out(cluster: hl.Cluster) -> None:
    dag = hl.DAG("many").add(*(hl.Function(f"f{i}", (lambda: 1 / 0) if i == 7 else list) for i in range(400)))
    screen = io.StringIO()
    follow(cluster.submit(dag, max_retries=0, on_error="continue"), screen)
    lines = screen.getvalue().splitlines()
    assert len(lines) <= 21
    assert sum("FAILED    f7 on alpha" in line for line in lines) == 1
    assert "400/400" in lines[-1]
    assert "1 failed" in lines[-1]


def test_a_terminal_gets_one_line_that_changes(cluster: hl.Cluster) -> None:
    screen = Terminal()
    follow(cluster.submit(branching()), screen)
    states = screen.getvalue().split("\r\x1b[2K")
    assert re.fullmatch(r"█{24} 3/3 \[0:\d\d<0:00, \S+/s\]\n", states[-1])
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


def test_an_interrupt_ends_the_line_and_not_the_run(cluster: hl.Cluster) -> None:
    go_on = threading.Event()

    class Interrupted(Terminal):
        def write(self, text: str) -> int:
            written = super().write(text)
            if "wait on alpha" in text:
                raise KeyboardInterrupt
            return written

    screen = Interrupted()
    run = cluster.submit(hl.DAG().add(hl.Function("wait", lambda: go_on.wait(60))))
    with pytest.raises(KeyboardInterrupt):
        follow(run, screen)
    assert screen.getvalue().endswith("wait on alpha\n")
    assert run.status == "running"
    go_on.set()
    assert run.wait(60).results["wait"] is True


@pytest.mark.parametrize(
    ("statuses", "elapsed_s", "expected"),
    [
        ("", 0.0, "0/0 [0:00<?, ?/s]"),
        ("ww", 2.0, "0/2 [0:02<?, ?/s]"),
        ("dddw", 6.0, "3/4 [0:06<0:02, 0.5/s]"),
        ("cc", 1.0, "2/2 [0:01<?, ?/s]"),
        ("dfsw", 3.0, "3/4 [0:03<0:01, 1/s]  1 failed"),
        ("dr", 3661.0, "1/2 [1:01:01<1:01:01, 0.000273/s]  f1 on n"),
    ],
)
def test_the_line_says_how_it_goes(statuses: str, elapsed_s: float, expected: str) -> None:
    by_letter = {status.value[0]: status for status in reversed(FunctionStatus)}
    records: list[Any] = [FunctionRecord(f"f{i}", by_letter[letter], "n") for i, letter in enumerate(statuses)]
    assert progress_line(records, elapsed_s)[25:] == expected
