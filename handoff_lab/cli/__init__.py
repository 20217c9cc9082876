"""The command ``handoff-lab``: one module for each of its commands."""

from handoff_lab.cli.entry import main

__all__ = ["main"]
