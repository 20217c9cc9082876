"""Nodes that are the workers of a Dask cluster."""

from handoff_lab.backends.dask.backend import DaskBackend

__all__ = ["DaskBackend"]
