"""Nodes that are Jupyter kernels with an agent beside them, here or on other machines, over ZeroMQ."""

from handoff_lab.backends.kernels.backend import KernelBackend

__all__ = ["KernelBackend"]
