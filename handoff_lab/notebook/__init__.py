"""The face in a notebook: the magics, the graph that belongs to cells, what they show."""

from handoff_lab.notebook.extension import load, unload

__all__ = ["load", "unload"]
