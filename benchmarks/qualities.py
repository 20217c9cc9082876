"""What has no peer to compare with, as plain figures and ratios: ``python benchmarks/qualities.py --help``."""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from processes import adopt_orphans, ask, byte_code_folder
from report import machine, number, table

FIGURES = {
    "agents-ready": "s from Cluster(nodes=2) to its return; the package is imported already",
    "first-result": "s from Cluster(nodes=2) to the first function's result",
    "shells-ready": "s from Cluster(nodes=2) until both kernels answered a cell",
    "busy-notebook": "times as long: 1 ms functions while the main thread computes in pure Python",
    "busy-kernel": "times as long: a node's 1 ms functions while a cell computes in its kernel",
    "watched": "times as long: a fan-out with run log and widget, compared with neither",
    "idle-node": "% of a core that an idle node takes",
    "idle-coordinator": "% of a core that the idle coordinator's process takes",
}


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    adopt_orphans()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    samples: dict[str, list[float]] = {name: [] for name in FIGURES}
    command = ["quality.py", "quick" if options.quick else "full"]
    with byte_code_folder() as byte_code:
        if not options.quick:
            ask(["quality.py", "quick"], byte_code)  # compiles what is imported
        for round_ in range(1, options.repeat + 1):
            print(f"round {round_} of {options.repeat}", file=sys.stderr, flush=True)
            for name, value in ask(command, byte_code).items():
                samples[name].append(value)
    medians = {name: statistics.median(values) for name, values in samples.items()}
    print(_as_text(medians))
    if options.json is not None:
        content = {"machine": machine(), "units": FIGURES, "medians": medians, "samples": samples}
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return 0


def _as_text(medians: Mapping[str, float]) -> str:
    rows = [["figure", "median"], *([name, number(value)] for name, value in medians.items())]
    return "\n".join([*table(rows), "", *(f"{name}: {unit}" for name, unit in FIGURES.items())])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure what has no peer to compare with.")
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="samples, of which the median is shown")
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that it works, not how fast")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write medians, samples and machine there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
