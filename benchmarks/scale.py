"""How cost grows with the number of functions and of nodes: ``python benchmarks/scale.py --help``.

A fan-out of 1,000 to 1,000,000 no-ops on two kernel nodes, and one over 10,000 nodes of the simulated backend: the
real scheduler in virtual time. Each size is measured in a fresh process.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processes import adopt_orphans, ask, private_folder
from report import machine, number, table

UNITS = {
    "submit_s": "s from submit to its return",
    "first_start_s": "s from submit to the first start",
    "done_s": "s from submit to the end",
    "us_per_function": "µs per function, to the end",
    "rate": "functions/s",
    "peak_mb": "MB, at most, of the coordinator's process",
}


@dataclass(frozen=True, slots=True)
class Size:
    kind: str  # of ``scaling.py``
    functions: int
    nodes: int

    @property
    def title(self) -> str:
        return f"{self.functions:,} on {self.nodes:,} {'nodes' if self.kind == 'kernels' else 'simulated nodes'}"


FULL = [
    *(Size("kernels", n, 2) for n in (1_000, 10_000, 100_000, 1_000_000)),
    *(Size("simulated", 100_000, n) for n in (100, 10_000)),
]
QUICK = [Size("kernels", 50, 2), Size("simulated", 200, 20)]


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    adopt_orphans()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    results: dict[str, dict[str, float]] = {}
    try:
        with private_folder() as byte_code:
            for size in QUICK if options.quick else FULL:
                if size.functions <= options.most:
                    print(size.title, file=sys.stderr, flush=True)
                    results[size.title] = _measure(size, Path(byte_code))
    finally:  # after an interrupt, or a size that failed: what there is
        _report(results, options.json)
    return 0


def _report(results: Mapping[str, Mapping[str, float]], output: Path | None) -> None:
    print(_as_text(results))
    if output is not None:
        content = {"machine": machine(), "units": UNITS, "sizes": results}
        output.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _measure(size: Size, byte_code: Path) -> dict[str, float]:
    found: dict[str, Any] = ask(["scaling.py", size.kind, str(size.functions), str(size.nodes)], byte_code)
    return {name: float(value) for name, value in found.items()}


def _as_text(results: Mapping[str, Mapping[str, float]]) -> str:
    rows = [["functions", *UNITS]]
    rows += [[title, *(number(values.get(name)) for name in UNITS)] for title, values in results.items()]
    return "\n".join([*table(rows), "", *(f"{name}: {unit}" for name, unit in UNITS.items())])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure how cost grows with the number of functions and of nodes.")
    parser.add_argument("--most", type=int, default=1_000_000, metavar="N", help="leave out larger sizes")
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that it works, not how fast")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write what was measured and the machine there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
