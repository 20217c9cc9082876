"""One scenario on one engine, in a process of its own: ``fault.py ENGINE SCENARIO FOLDER OUTPUT SECONDS``.

``fault.py ENGINE client FOLDER`` is the client that a scenario kills.
"""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from processes import adopt_orphans
from scenarios import SCENARIOS, be_client
from scene import Scene
from victims.registry import make


def main(engine: str, name: str, here: str, output: str = "", patience_s: str = "0") -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and all they start
    victim, scene = make(engine), Scene(engine, Path(here), float(patience_s))
    try:
        if name == "client":
            be_client(victim, scene)
        else:
            adopt_orphans()
            _, take = SCENARIOS[name]
            Path(output).write_text(json.dumps(asdict(take(victim, scene))), encoding="utf-8")
    finally:
        victim.close()


if __name__ == "__main__":  # engines that spawn import this module again
    main(*sys.argv[1:])
