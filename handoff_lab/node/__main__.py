"""``python -m handoff_lab.node``: this process becomes a node's agent."""

from __future__ import annotations

import logging
import sys

from handoff_lab._errors import HandoffError
from handoff_lab.node.options import NodeOptions, parse_options


def main() -> int:
    """Be a node until the cluster ends, or a signal does."""
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s")
    try:
        serve(parse_options())
    except HandoffError as error:
        print(f"handoff_lab node: {error}", file=sys.stderr)
        return 1
    return 0


def serve(options: NodeOptions) -> None:
    """Be a node. The process must have no threads yet.

    Raises
    ------
    AuthenticationError, VersionMismatchError, BackendError
        It could not join.
    """
    from handoff_lab.node.zygote import Zygote

    zygote = Zygote.fork()
    from handoff_lab.node.agent import Agent  # starts to load zmq, which the slots need not have

    Agent(options, zygote).run()


if __name__ == "__main__":
    sys.exit(main())
