"""``python -m handoff_lab.node``: this process becomes a node's agent."""

from __future__ import annotations

import gc
import logging
import sys
import tempfile
from pathlib import Path

from handoff_lab._errors import HandoffError
from handoff_lab.node.lifeline import arm, end_descendants
from handoff_lab.node.options import NodeOptions, parse_options
from handoff_lab.node.zygote import Zygote
from handoff_lab.store.directory import SharedDirectory, unusable

GARBAGE = 100_000  # objects between two searches for cycles: a burst of attempts makes many objects and no cycle


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
        It could not join, or can write nothing.
    """
    directory = SharedDirectory.enter(options.directory) if options.directory else SharedDirectory.create()
    try:
        private = Path(tempfile.mkdtemp(prefix="node-", dir=directory.path))
    except OSError as error:
        directory.leave()
        raise unusable(directory.path, error) from error
    zygote = Zygote.fork(remove=[private if options.directory else directory.path])
    try:
        if options.tie is not None:
            arm(options.tie)
        from handoff_lab.node.agent import Agent  # it loads zmq, which the zygote must not have

        gc.freeze()
        gc.set_threshold(GARBAGE)
        Agent(options, zygote, private).run()
    finally:
        zygote.close()
        end_descendants()  # of the kernel, too
        directory.leave()


if __name__ == "__main__":
    sys.exit(main())
