"""Joins this machine to a cluster as a node.

The join file comes from cluster.join_file, on the machine of the cluster. Where no file can be copied, an invitation is
pasted: the text that cluster.invite() returns, good for one node and ten minutes. Other users of this machine can see
a command line, and could join first: --invite - reads the text from standard input instead.

Without options the node has what its machine has. It ends with its cluster, or with Ctrl-C.
"""

from __future__ import annotations

import argparse

from handoff_lab._errors import HandoffError
from handoff_lab.node.options import add_arguments, options_from


def add_options(parser: argparse.ArgumentParser) -> None:
    """Say what it takes: the same as ``python -m handoff_lab.node``."""
    add_arguments(parser)


def execute(options: argparse.Namespace) -> int:
    """Be the node until it is let go."""
    from handoff_lab.node.__main__ import serve

    try:
        node = options_from(options)
    except ValueError as error:
        raise HandoffError(str(error)) from None
    serve(node)
    return 0
