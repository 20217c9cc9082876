"""An output that is shown once more when what it shows has come to its end: saved notebooks tell the truth."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from threading import Lock
from typing import Any, Final, TypeAlias

from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display, update_display

# Says that the HTML beside a widget's view stands for it: JupyterLab's extension shows that when the kernel is gone.
LIVE_VIEW: Final = "application/vnd.handoff-lab.view+json"

Bundle: TypeAlias = tuple[dict[str, Any], dict[str, Any]]


class ShownOutput:
    """Where a bundle is shown, if it is.

    Parameters
    ----------
    make
        Makes the bundle as it is now: data and metadata by MIME type.
    finish
        Called when a cell has run: waits until a run that is over was told to its end. What is shown of it after its
        last cell, a program that executes notebooks would not see.
    """

    def __init__(self, make: Callable[[], Bundle], finish: Callable[[], object]) -> None:
        self._make = make
        self._finish = finish
        self._id = f"handoff-{secrets.token_hex(8)}"
        self._lock = Lock()
        self._last: Bundle | None = None
        self._shell: InteractiveShell | None = None  # whose cells are waited with

    def show(self) -> None:
        """Show the bundle in the output of the running cell."""
        with self._lock:
            self._last = data, metadata = self._make()
            display(data, raw=True, metadata=metadata, display_id=self._id)
            if self._shell is None and InteractiveShell.initialized():
                self._shell = InteractiveShell.instance()
                self._shell.events.register("post_run_cell", self._cell_ran)

    def update(self) -> None:
        """Show the bundle as it is now wherever it is shown; a terminal would only print it once more."""
        with self._lock:
            if self._shell is None or not hasattr(self._shell, "kernel"):
                return
            bundle = self._make()
            if bundle != self._last:
                self._last = data, metadata = bundle
                update_display(data, raw=True, metadata=metadata, display_id=self._id)

    def close(self) -> None:
        """Leave it as it is."""
        shell, self._shell = self._shell, None
        if shell is not None:
            shell.events.unregister("post_run_cell", self._cell_ran)

    def _cell_ran(self, result: object) -> None:
        self._finish()
