"""Lists the nodes of your clusters that run on this machine, and detached clusters.

Capabilities are those that a node was started with. In a notebook, %handoff nodes and cluster.nodes show nodes of other
machines too, and how full each is.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from handoff_lab._units import format_bytes, format_cost, format_seconds
from handoff_lab.cli.table import table
from handoff_lab.detached.places import found
from handoff_lab.node.options import NodeOptions, add_arguments, options_from


@dataclass(frozen=True, slots=True)
class _Found:
    pid: int
    options: NodeOptions
    age_s: float
    resident_bytes: int  # of the agent and all that it started


def add_options(parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def execute(options: argparse.Namespace) -> int:
    """Print a line for each."""
    from handoff_lab.node.report import capabilities_of

    rows = [
        (
            node.options.name,
            node.pid,
            format_cost(capabilities_of(node.options)),
            format_bytes(node.resident_bytes),
            format_seconds(node.age_s),
            _way_in(node.options),
        )
        for node in sorted(find_nodes(), key=lambda node: (_way_in(node.options), node.options.name))
    ]
    if rows:
        print(table(("node", "pid", "has", "uses", "for", "join file"), rows))
    else:
        print("no nodes of yours run on this machine; start some with hl.Cluster(...) or: handoff-lab node --join FILE")
    for place in found():
        state = "is detached" if place.is_served else "is detached, and its coordinator was killed"
        print(f"cluster {place.name!r} {state}: hl.attach({place.name!r}) gives it back")
    return 0


def find_nodes() -> Iterator[_Found]:
    """The agents among this user's processes, known by their command lines."""
    import psutil

    for process in psutil.process_iter(["uids", "cmdline"]):
        uids = process.info["uids"]
        words = node_words(process.info["cmdline"] or ())
        if words is None or uids is None or uids.real != os.getuid():
            continue
        try:
            parent = process.parent()
            if parent is not None and node_words(parent.cmdline()) is not None:
                continue  # a slot: a fork of its agent, with the same command line
            resident = process.memory_info().rss
            for child in process.children(recursive=True):
                with suppress(psutil.NoSuchProcess):  # it ended meanwhile
                    resident += child.memory_info().rss
            yield _Found(process.pid, _parse(words), time.time() - process.create_time(), resident)
        except (psutil.Error, ValueError):
            continue  # it ended meanwhile, or is about to: its options make no sense


def node_words(command: Sequence[str]) -> Sequence[str] | None:
    """What a command line tells a node; None when it is not a node's.

    Examples
    --------
    >>> node_words(["python", "-m", "handoff_lab.node", "--join", "F"])
    ['--join', 'F']
    >>> node_words(["python", "/usr/bin/handoff-lab", "node", "--join", "F"])
    ['--join', 'F']
    >>> node_words(["python", "-m", "http.server"])
    """
    match [Path(word).name for word in command[1:3]]:
        case ["-m", "handoff_lab.node"] | ["handoff-lab", "node"]:
            return command[3:]
    return None


def _way_in(options: NodeOptions) -> str:
    return "by invitation" if options.join_file is None else str(options.join_file)


def _parse(words: Sequence[str]) -> NodeOptions:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return options_from(parser.parse_args(words))
