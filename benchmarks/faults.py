"""handoff_lab and its peers under the same faults, in one run: ``python benchmarks/faults.py --help``."""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from choices import names_among, peers_among
from engines.registry import ENGINES, OURS
from processes import ChildError, Places, adopt_orphans, byte_code_folder, private_folder, run_child
from report import machine, table
from scenarios import SCENARIOS
from scene import Finding
from victims.registry import VICTIMS

PEERS = [name for name in VICTIMS if name != OURS]
CLOSING_S = 60.0  # that starting and closing an engine may take, beside the scenario

Findings = Mapping[str, Mapping[str, list[Finding]]]  # of each engine and scenario, one for each round


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    adopt_orphans()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    present = [name for name in (OURS, *options.peers) if ENGINES[name].installed]
    for name in {*options.peers}.difference(present):
        print(f"{ENGINES[name].title}: not installed", file=sys.stderr)
    findings: dict[str, dict[str, list[Finding]]] = {name: {one: [] for one in options.only} for name in present}
    try:
        with byte_code_folder() as byte_code:
            for name in present:  # compiles what the engine imports; a failure comes again
                _take(name, "retries", options.patience, byte_code)
            for round_ in range(1, options.repeat + 1):
                for name in present:
                    print(f"round {round_} of {options.repeat}: {ENGINES[name].title}", file=sys.stderr, flush=True)
                    for scenario, found in findings[name].items():
                        found.append(_take(name, scenario, options.patience, byte_code))
    finally:  # after an interrupt: what there is
        print(_as_text(findings, options.only))
        if options.json is not None:
            content = _as_json(findings, {"repeat": options.repeat, "patience_s": options.patience})
            options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return int(any(finding.words == "failed" for of in findings.values() for all_ in of.values() for finding in all_))


def _take(engine: str, scenario: str, patience_s: float, byte_code: Path) -> Finding:
    """One scenario in a fresh process. What comes of closing an engine afterwards is no part of it."""
    with private_folder() as folder:
        here, output = Path(folder) / "marks", Path(folder) / "finding"
        here.mkdir()
        command = ["fault.py", engine, scenario, str(here), str(output), str(patience_s)]
        failure = ""
        try:
            run_child(command, Places(Path(folder), byte_code), 2 * patience_s + CLOSING_S)
        except ChildError as error:
            failure = str(error)
        if output.exists():
            return Finding(**json.loads(output.read_text(encoding="utf-8")))
        return Finding("failed", told=failure)


def _as_text(findings: Findings, scenarios: Sequence[str]) -> str:
    head = ["", *(f"{ENGINES[name].title} {ENGINES[name].version}" for name in findings)]
    rows = [[SCENARIOS[one][0], *(_cell(of[one]) for of in findings.values())] for one in scenarios]
    return "\n".join(table([head, *rows]))


def _cell(findings: Sequence[Finding]) -> str:
    """What was seen most often, with the medians of its figures, and how often if not always."""
    if not findings:
        return "–"
    words, times = Counter(finding.words for finding in findings).most_common(1)[0]
    alike = [finding.figures for finding in findings if finding.words == words]
    medians = {name: _shown(name, statistics.median(figures[name] for figures in alike)) for name in alike[0]}
    often = "" if times == len(findings) else f" ({times} of {len(findings)})"
    return words.format(**medians) + often


def _shown(name: str, value: float) -> str:
    """More than hundredths of a second is more than three rounds on a busy machine can say."""
    if not name.endswith("_s"):
        return f"{value:g}"
    return "< 0.01 s" if value < 0.01 else f"{value:.2f} s" if value < 10 else f"{value:.0f} s"


def _as_json(findings: Findings, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "machine": machine(),
        "settings": dict(settings),
        "versions": {name: ENGINES[name].version for name in findings},
        "findings": {
            name: {
                scenario: [{"words": f.words, "figures": f.figures, "told": f.told} for f in found]
                for scenario, found in of.items()
            }
            for name, of in findings.items()
        },
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Put handoff_lab and its peers to the same faults.")
    parser.add_argument(
        "--peers", type=peers_among(PEERS), default=PEERS, metavar="all|none|NAME,...", help=", ".join(PEERS)
    )
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="rounds; medians are shown")
    parser.add_argument(
        "--only", type=names_among(SCENARIOS), default=list(SCENARIOS), metavar="NAME,...", help=", ".join(SCENARIOS)
    )
    parser.add_argument("--patience", type=float, default=30.0, metavar="S", help="what takes longer hangs")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write every finding there, with what was told")
    return parser


if __name__ == "__main__":
    sys.exit(main())
