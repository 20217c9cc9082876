"""What the magics show: one line of text, or something that displays itself."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from IPython.display import display

if TYPE_CHECKING:
    from handoff_lab.graph import DAG
    from handoff_lab.notebook.freshness import Change
    from handoff_lab.notebook.session import Session
    from handoff_lab.run import Run


def show(thing: object) -> None:
    """Show a DAG, a cluster, a run or a plan the way it shows itself."""
    display(thing)


def show_text(text: str) -> None:
    """Show text as it is."""
    display({"text/plain": text}, raw=True)


def show_change(change: Change, dag: DAG | None) -> None:
    """What a cell changed, and the graph as it is now, if it is not shown already."""
    show_text(change.line())
    if dag is not None and len(dag):
        _show_picture(dag, change.stale)


def show_graph(dag: DAG, stale: Sequence[Hashable]) -> None:
    """The graph, and which results are out of date."""
    _show_picture(dag, stale)
    if stale:
        show_text(f"stale: {', '.join(map(str, stale))}")


def _show_picture(dag: DAG, stale: Sequence[Hashable]) -> None:
    from handoff_lab.visualization.display import dag_mimebundle

    display(dag_mimebundle(dag, stale), raw=True)


def show_run(session: Session, run: Run, *, wait: bool) -> None:
    """The run, live where a browser may be, else as text; until it is over if ``wait``."""
    try:
        _show_run(session, run, wait=wait)
        if wait:
            run.join()
    except KeyboardInterrupt:
        if wait:
            run.abandon()
        raise


def _show_run(session: Session, run: Run, *, wait: bool) -> None:
    if hasattr(session.shell, "kernel"):
        display(session.widget(run))
    elif wait:
        from handoff_lab.widgets.text_progress import follow

        follow(run, sys.stdout)
    else:
        display(run)
