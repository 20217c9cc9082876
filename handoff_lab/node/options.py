"""The command line of a node. No key is on it, those are in the join file; an invitation may be, but need not."""

from __future__ import annotations

import argparse
import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from handoff_lab._errors import ResourceError
from handoff_lab._names import name_fault
from handoff_lab._units import MEMORIES, parse_bytes, parse_megabytes
from handoff_lab.resources.amounts import Resources


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """How a node is to be.

    ``capabilities`` are all that it has; without them it has what its machine has, and ``resources`` set over that.
    """

    join_file: Path | None
    name: str
    resources: Resources = field(default_factory=Resources)
    capabilities: Resources | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    host: str | None = None
    directory: Path | None = None  # where a local node's files go, shared with the one that started it
    cluster: str | None = None
    lifeline: int | None = None  # descriptor of a pipe whose other end the coordinator holds
    tie: int | None = None  # the same, of whoever lends the place: this process does not outlive that one
    behind_nat: bool = False  # others cannot connect to it
    store_limit: int | None = None  # bytes of values in memory; None: a share of the node's memory
    invite: str | None = field(default=None, repr=False)  # instead of a join file; "-": read it from standard input

    def command_line(self) -> list[str]:
        """Arguments that ``parse_options`` reads back.

        >>> NodeOptions(Path("j"), "a", Resources({"gpu": 1})).command_line()
        ['--join', 'j', '--name', 'a', '--resource', 'gpu=1.0']
        """
        words = ["--join", str(self.join_file)] if self.invite is None else ["--invite", self.invite]
        words += ["--name", self.name]
        for name, amount in self.resources.items():
            words += ["--resource", f"{name}={amount!r}"]
        if self.capabilities is not None:
            words += ["--capabilities", json.dumps(dict(self.capabilities))]
        for name, text in self.labels.items():
            words += ["--label", f"{name}={text}"]
        for flag in ("host", "directory", "cluster", "lifeline", "tie"):
            value = getattr(self, flag)
            words += [] if value is None else [f"--{flag}", str(value)]
        words += ["--behind-nat"] if self.behind_nat else []
        if self.store_limit is not None:
            words += ["--store-limit", f"{self.store_limit}B"]
        return words


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of a node, for any command that starts one."""
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument("--join", type=Path, metavar="FILE", help="the cluster's join file")
    way.add_argument("--invite", metavar="TEXT", help="what cluster.invite() returned; -: read it from standard input")
    parser.add_argument("--name", default=socket.gethostname(), help="the node's name (default: this host's)")
    parser.add_argument("--cpu", type=float, metavar="N", help="functions at the same time (default: as this machine)")
    parser.add_argument("--memory", metavar="AMOUNT", help="megabytes, or an amount such as 2GiB")
    parser.add_argument("--gpu", type=float, metavar="N", help="GPUs to offer")
    parser.add_argument("--resource", action="append", default=[], metavar="NAME=N", help="any other resource")
    parser.add_argument("--label", action="append", default=[], metavar="NAME=TEXT", help="shown with the node")
    parser.add_argument("--host", metavar="ADDRESS", help="address of this machine that other nodes can reach")
    parser.add_argument(
        "--behind-nat",
        action="store_true",
        help="others cannot connect to this machine: its results go through the cluster's",
    )
    parser.add_argument(
        "--store-limit", metavar="AMOUNT", help="of results in memory, such as 2GB; the others go to disk (to TMPDIR)"
    )
    parser.add_argument("--capabilities", metavar="JSON", help="all that the node has; nothing is probed")
    parser.add_argument("--cluster", metavar="NAME", help="shown in process lists, of no other use")
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--lifeline", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--tie", type=int, help=argparse.SUPPRESS)


def options_from(arguments: argparse.Namespace) -> NodeOptions:
    """Options from parsed arguments.

    Raises
    ------
    ValueError
        A name, an amount, a resource or a label that makes no sense.
    """
    if fault := name_fault(arguments.name, "node"):
        raise ValueError(f"{fault}: see --name")
    if arguments.behind_nat and arguments.host is not None:
        raise ValueError("others can reach a node at --host, or not at all (--behind-nat): leave one of them out")
    given: dict[str, object] = dict(map(_resource, arguments.resource))
    given |= {name: v for name in ("cpu", "memory", "gpu") if (v := getattr(arguments, name)) is not None}
    return NodeOptions(
        join_file=arguments.join,
        name=arguments.name,
        resources=Resources(given),
        capabilities=_capabilities(arguments.capabilities),
        labels=dict(map(_pair, arguments.label)),
        host=arguments.host,
        behind_nat=arguments.behind_nat,
        directory=arguments.directory,
        cluster=arguments.cluster,
        lifeline=arguments.lifeline,
        tie=arguments.tie,
        store_limit=None if arguments.store_limit is None else parse_bytes(arguments.store_limit),
        invite=arguments.invite,
    )


def parse_options(words: Sequence[str] | None = None) -> NodeOptions:
    """Options of ``python -m handoff_lab.node``; ends the process with a usage line when they make no sense."""
    parser = argparse.ArgumentParser("python -m handoff_lab.node", description="Add this machine to a cluster.")
    add_arguments(parser)
    try:
        return options_from(parser.parse_args(words))
    except ValueError as error:
        parser.error(str(error))


def _capabilities(text: str | None) -> Resources | None:
    if text is None:
        return None
    try:
        amounts = json.loads(text)
    except ValueError:
        amounts = None
    if not isinstance(amounts, dict):
        raise ResourceError("capabilities", text, 'must be a JSON object such as {"cpu": 4}')
    return Resources(amounts)


def _resource(text: str) -> tuple[str, float]:
    name, amount = _pair(text)
    return name, parse_megabytes(amount) if name in MEMORIES else float(amount)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ValueError(f"{text!r} must have the form NAME=VALUE")
    return name, value
