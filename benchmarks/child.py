"""One engine, measured once, in a process of its own: ``child.py ENGINE FIGURES OUTPUT [--quick]``.

Writes a JSON line ``[figure, value]`` as each figure is taken, so that a crash loses no more than the rest.
"""

from __future__ import annotations

import json
import sys

from engines.registry import ENGINES
from figures import QUICK, Sizes, measure


def main(name: str, figures: str, output: str, *flags: str) -> None:
    engine = ENGINES[name].make()
    with open(output, "w", encoding="utf-8") as file:
        try:
            for row in measure(engine, figures.split(","), QUICK if "--quick" in flags else Sizes()):
                print(json.dumps(row), file=file, flush=True)
        finally:
            engine.close()


if __name__ == "__main__":  # engines that spawn import this module again
    main(*sys.argv[1:])
