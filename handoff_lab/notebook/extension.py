"""Puts the magics into a shell, and takes them out again."""

from __future__ import annotations

from IPython.core.interactiveshell import InteractiveShell

from handoff_lab.notebook.completion import Completion
from handoff_lab.notebook.magics import HandoffMagics
from handoff_lab.notebook.session import Session
from handoff_lab.widgets import panel


def load(shell: InteractiveShell) -> None:
    """Give the shell ``%handoff``, ``%%handoff``, ``%%on`` and the notebook's graph under the name ``dag``."""
    session = Session(shell)
    shell.register_magics(HandoffMagics(shell, session))
    shell.events.register("pre_run_cell", session.begin_cell)
    shell.events.register("post_run_cell", session.end_cell)
    if shell.Completer is not None:
        shell.Completer.custom_matchers.append(Completion(session).match)
    shell.push({"dag": session.dag}, interactive=False)
    panel.offer(session=session)


def unload(shell: InteractiveShell) -> None:
    """Take away what ``load`` gave, and stop the notebook's cluster."""
    magics = shell.magics_manager.registry.pop(HandoffMagics.__name__)
    session: Session = magics.session
    shell.events.unregister("pre_run_cell", session.begin_cell)
    shell.events.unregister("post_run_cell", session.end_cell)
    if shell.Completer is not None:
        shell.Completer.custom_matchers[:] = [
            matcher
            for matcher in shell.Completer.custom_matchers
            if not isinstance(getattr(matcher, "__self__", None), Completion)
        ]
    for kind, names in HandoffMagics.magics.items():
        for name in names:
            del shell.magics_manager.magics[kind][name]
    shell.drop_by_id({"dag": session.dag})
    panel.withdraw()
    session.close()
