"""``python -m handoff_lab.detached DIRECTORY``: starts the coordinator of a detached cluster, and returns."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path

from handoff_lab.detached.place import Place
from handoff_lab.detached.process import main


def serve(place: Place, ready: Callable[[], None]) -> int:
    """Be the coordinator. The supervisor loads none of what this takes."""
    from handoff_lab.detached.server import Server

    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s")
    return Server(place).run(ready)


if __name__ == "__main__":
    sys.exit(main(Place(Path(sys.argv[1])), serve))
