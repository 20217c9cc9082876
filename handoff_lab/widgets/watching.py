"""A run shown by the best means there is: a live view in a notebook, text elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from handoff_lab.run import Run
    from handoff_lab.widgets.dag_widget import DAGWidget


def watch(run: Run) -> DAGWidget | None:
    """A live view of ``run`` for a kernel's notebook; elsewhere text on the terminal, until the run is over."""
    from handoff_lab.widgets.panel import shell_of_kernel

    if shell_of_kernel() is not None:
        from handoff_lab.widgets.dag_widget import DAGWidget

        return DAGWidget(run)
    from handoff_lab.widgets.text_progress import follow

    follow(run, sys.stderr)
    return None
