"""Checks this machine for what handoff_lab needs, and says how to mend what is missing.

The exit code is 0 when nothing needed is missing, else 1. A warning is about what makes things nicer or faster.
"""

from __future__ import annotations

import argparse

from handoff_lab.cli.checks import CHECKS, Finding, State

_MARKS = {State.GOOD: "ok  ", State.WARNING: "warn", State.BAD: "BAD "}


def add_options(parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def execute(options: argparse.Namespace) -> int:
    """Make all checks, print each finding as it comes."""
    worst = State.GOOD
    for check in CHECKS:
        for finding in check():
            print(tell(finding))
            worst = max(worst, finding.state)
    print("handoff_lab can not work here before that is mended" if worst is State.BAD else "handoff_lab can work here")
    return int(worst is State.BAD)


def tell(finding: Finding) -> str:
    """A line on what was found, and one on what to do about it."""
    line = f"{_MARKS[finding.state]}  {finding.what}: {finding.detail}"
    return f"{line}\n      → {finding.mend}" if finding.mend else line
