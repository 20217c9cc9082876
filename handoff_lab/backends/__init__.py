"""What carries attempts to nodes: this process, Jupyter kernels, or both together."""
