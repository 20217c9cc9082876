"""handoff_lab and its peers on the same work, in one run: ``python benchmarks/run.py --help``."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from choices import names_among, peers_among
from engines.registry import ENGINES, OURS, PEERS
from figures import FIGURES, START_UP
from processes import ChildError, Places, adopt_orphans, byte_code_folder, private_folder, run_child
from report import Outcome, as_json, as_text


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    adopt_orphans()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that `finally` ends the children
    outcomes = {name: Outcome() for name in (OURS, *options.peers)}
    for name, outcome in outcomes.items():
        if not ENGINES[name].installed:
            outcome.note = "not installed"
    try:
        with byte_code_folder() as byte_code:
            _take_turns(outcomes, options, byte_code)
    finally:  # after an interrupt: what there is
        _report(outcomes, options)
    return int(any(outcome.note.startswith("failed") for outcome in outcomes.values()))


def _take_turns(outcomes: Mapping[str, Outcome], options: argparse.Namespace, byte_code: Path) -> None:
    """Round by round, so that a slow minute of the machine meets every engine."""
    present = [name for name in outcomes if ENGINES[name].installed]
    if START_UP in options.only and not options.quick:
        for name in present:
            with private_folder() as folder:  # compiles what the engine imports; a failure comes again
                _measure(name, Outcome(), [START_UP], True, Places(Path(folder), byte_code))
    for round_ in range(1, options.repeat + 1):
        for name in present:
            if outcomes[name].note == "measured":
                # The folder is there before anyone is told of the round, so an end from then on removes it.
                with private_folder() as folder:
                    print(f"round {round_} of {options.repeat}: {ENGINES[name].title}", file=sys.stderr, flush=True)
                    _measure(name, outcomes[name], options.only, options.quick, Places(Path(folder), byte_code))


def _report(outcomes: Mapping[str, Outcome], options: argparse.Namespace) -> None:
    if options.quick:
        print("Small sizes: they show that it works, not how fast.\n")
    print(as_text(outcomes, options.only))
    if options.json is not None:
        settings = {"repeat": options.repeat, "quick": options.quick}
        options.json.write_text(json.dumps(as_json(outcomes, settings), indent=2) + "\n", encoding="utf-8")


def _measure(name: str, outcome: Outcome, figures: Sequence[str], quick: bool, places: Places) -> None:
    """Take one sample of each figure, in a fresh process."""
    output = places.private / "figures"
    command = ["child.py", name, ",".join(figures), str(output), *(["--quick"] if quick else [])]
    try:
        run_child(command, places)
    except ChildError as error:
        outcome.note = f"failed: {error}"
    rows = output.read_text(encoding="utf-8").splitlines() if output.exists() else []
    for figure, value in map(json.loads, rows):
        outcome.samples.setdefault(figure, []).append(value)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure handoff_lab and its peers on the same work, in one run.")
    parser.add_argument(
        "--peers", type=peers_among(PEERS), default=PEERS, metavar="all|none|NAME,...", help=", ".join(PEERS)
    )
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="samples, of which the median is shown")
    parser.add_argument(
        "--only", type=names_among(FIGURES), default=list(FIGURES), metavar="FIGURE,...", help=", ".join(FIGURES)
    )
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that it works, not how fast")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write medians, samples, ratios and machine there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
