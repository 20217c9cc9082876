"""Reads the command line, calls the command, and turns what goes wrong into a line and an exit code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Protocol

from handoff_lab._errors import HandoffError
from handoff_lab.cli import demo, doctor, node, nodes, run, version

FAILED, INTERRUPTED = 2, 130


class Command(Protocol):
    """What a module of a command offers; the first line of its docstring is its help."""

    __doc__: str | None

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Say what the command takes."""

    def execute(self, options: argparse.Namespace) -> int:
        """Do it; returns the exit code."""


COMMANDS: dict[str, Command] = {
    "demo": demo,
    "run": run,
    "node": node,
    "nodes": nodes,
    "doctor": doctor,
    "version": version,
}


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser("handoff-lab", description="Runs DAGs of functions over Jupyter kernels.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        summary, _, more = (command.__doc__ or "").strip().partition("\n")
        formatter = argparse.RawDescriptionHelpFormatter
        sub = commands.add_parser(name, help=summary, description=f"{summary}\n{more}", formatter_class=formatter)
        command.add_options(sub)
        sub.set_defaults(execute=command.execute)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit code."""
    options = make_parser().parse_args(argv)
    try:
        code: int = options.execute(options)
    except HandoffError as error:
        print(f"handoff-lab: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("handoff-lab: interrupted", file=sys.stderr)
        return INTERRUPTED
    return code
