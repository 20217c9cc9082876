"""What is shown live in a browser: models of widgets, and the protocol with their front end in ``labextension/``."""

from handoff_lab.widgets.requests import answer

__all__ = ["answer"]
