"""Says which versions are at work."""

from __future__ import annotations

import argparse
import platform
from importlib.metadata import version

from handoff_lab._version import __version__

PACKAGES = ("cloudpickle", "ipykernel", "ipython", "jupyter-client", "jupyterlab", "msgpack", "pyzmq")


def add_options(parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def execute(options: argparse.Namespace) -> int:
    """Print them."""
    print(f"handoff_lab {__version__}")
    print(f"Python {platform.python_version()} on {platform.platform()}")
    for package in PACKAGES:
        print(f"{package} {version(package)}{_library(package)}")
    return 0


def _library(package: str) -> str:
    if package != "pyzmq":
        return ""
    import zmq

    return f" (libzmq {zmq.zmq_version()})"
