"""The magics: they read their line and call what does the work."""

from __future__ import annotations

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, cell_magic, line_cell_magic, magics_class, no_var_expand

from handoff_lab.notebook.arguments import CELL, COMMANDS, ON, function_options
from handoff_lab.notebook.commands import carry_out, run_on_node
from handoff_lab.notebook.session import Session, usage_errors


@magics_class
class HandoffMagics(Magics):
    """``%handoff``, ``%%handoff`` and ``%%on`` over one session."""

    def __init__(self, shell: InteractiveShell, session: Session) -> None:
        super().__init__(shell)
        self.session = session

    @no_var_expand
    @line_cell_magic
    def handoff(self, line: str, cell: str | None = None) -> None:
        """Define the functions of the notebook's graph, and run them.

        ``%%handoff [--cpu N] [--memory 2GiB] [--gpu N] [--resource NAME=AMOUNT] [--node NAME] ...`` adds the functions
        of the cell; a name with a leading underscore is a helper. ``%%handoff setup`` runs the cell here, and first in
        every slot of every node.

        ``%handoff run [ID ...] [--set NAME=VALUE] [--on NODE ...] [--allocator NAME] [--failed] [--stale] [--wait]
        [-o VAR]``
        ``%handoff start [NAME:cpu=4,gpu=1 ...]``, ``stop``, ``plan``, ``nodes``, ``graph``, ``watch``, ``status``,
        ``logs ID``, ``cancel [ID]``, ``report [FILE.html]``, ``export FILE.py``, ``import FILE.py``, ``reset``
        """
        __tracebackhide__ = True  # the user's own frames are what counts
        if cell is None:
            carry_out(self.session, line)
        else:
            self._define(line, cell)

    @no_var_expand
    @cell_magic
    def on(self, line: str, cell: str) -> None:
        """``%%on NODE`` runs the cell in the kernel of a node and shows its output here."""
        run_on_node(self.session, ON.read(line).node, cell)

    def _define(self, line: str, cell: str) -> None:
        __tracebackhide__ = True
        options = CELL.read(line)
        if options.what in COMMANDS:
            raise UsageError(f"%%handoff is for cells of functions; write %handoff {options.what} on a line of its own")
        if options.what not in (None, "setup"):
            raise UsageError(f"%%handoff takes 'setup' or options, not {options.what!r}")
        with usage_errors():
            given = function_options(options)
        if options.what is None:
            self.session.define(cell, given)
        elif given:
            raise UsageError("%%handoff setup makes no functions and takes no options")
        else:
            self.session.set_up(cell)
