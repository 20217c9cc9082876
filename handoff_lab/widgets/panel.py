"""JupyterLab's panel of this kernel: there is one at most, offered when there is something to show."""

from __future__ import annotations

import atexit
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

from handoff_lab.widgets.panel_comm import Comm, Panel

if TYPE_CHECKING:
    from handoff_lab.cluster import Cluster
    from handoff_lab.widgets.overview import Session

TARGET: Final = "handoff_lab.panel"


def offer(cluster: Cluster | None = None, session: Session | None = None) -> None:
    """Have the browser find what it can show of this kernel; does nothing where there is no kernel.

    Parameters
    ----------
    cluster
        One more whose nodes and runs are shown, as long as someone holds it.
    session
        The notebook whose functions are shown.
    """
    shell = shell_of_kernel()
    if shell is None:
        return
    with _lock:
        if not _panels:
            _panels.append(Panel(_open_comm))
            shell.events.register("post_run_cell", _after_cell)
        panel = _panels[0]
    panel.show(cluster, session)


def withdraw() -> None:
    """Take back what was offered."""
    with _lock:
        panels, _panels[:] = list(_panels), []
    for panel in panels:
        panel.close()
    shell = shell_of_kernel()
    if panels and shell is not None:
        shell.events.unregister("post_run_cell", _after_cell)


_lock = threading.Lock()
_panels: list[Panel] = []  # at most one: the kernel's


@atexit.register
def _stop() -> None:
    """At the end of the process; the browser knows that the kernel goes, and wants no words with its comms."""
    for panel in _panels:
        panel.stop()


def _after_cell(result: object) -> None:
    for panel in _panels:
        panel.look_again()


def shell_of_kernel() -> Any:
    """IPython's shell, if it is a Jupyter kernel's."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell if getattr(shell, "kernel", None) is not None else None


def _open_comm() -> Comm:
    from comm import create_comm

    opened: Comm = create_comm(target_name=TARGET)
    return opened
