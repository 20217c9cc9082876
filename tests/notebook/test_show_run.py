"""How a run is shown where there is no browser, and what an interrupt does to one that is waited for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

import handoff_lab as hl
from handoff_lab.notebook.display import show_run
from handoff_lab.widgets import text_progress

TERMINAL: Any = SimpleNamespace(shell=SimpleNamespace())


@pytest.fixture
def run() -> Iterator[hl.Run]:
    """One that goes on until it is cancelled, or the test is over."""
    over = threading.Event()
    with hl.Cluster({"alpha": {"cpu": 1}}, backend="local") as cluster:
        dag = hl.DAG("endless").add(
            hl.Function("wait", lambda: over.wait(60)), hl.Function("next", lambda x: x, args=["wait"])
        )
        yield cluster.submit(dag)
        over.set()


def is_cancelled(run: hl.Run) -> bool:
    """Whether it was told to end: what did not run yet is cancelled at once."""
    run.news.wait_for(lambda: run.record.functions["next"].status == "cancelled", 60)
    return run.record.functions["next"].status == "cancelled"


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_an_interrupt_while_it_is_waited_for_cancels_it(run: hl.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_progress, "follow", interrupt)
    with pytest.raises(KeyboardInterrupt):
        show_run(TERMINAL, run, wait=True)
    assert is_cancelled(run)


def test_an_interrupt_while_it_is_only_shown_does_not(run: hl.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handoff_lab.notebook.display.display", interrupt)
    with pytest.raises(KeyboardInterrupt):
        show_run(TERMINAL, run, wait=False)
    assert run.status == "running"


def test_a_second_interrupt_while_it_is_cancelled_does_no_harm(run: hl.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    cancel = run.cancel
    presses = iter([interrupt, cancel])
    monkeypatch.setattr(run, "cancel", lambda: next(presses)())
    monkeypatch.setattr(run, "wait", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run.join()
    assert is_cancelled(run)
