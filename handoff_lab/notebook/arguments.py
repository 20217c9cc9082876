"""The words of the magics: one parser per command. The completion reads them too."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from typing import Any, Literal

from IPython.core.error import UsageError
from IPython.core.magic_arguments import MagicArgumentParser

from handoff_lab._units import parse_amounts, parse_megabytes, parse_number
from handoff_lab.graph.closest import closest

Kind = Literal["", "function", "node", "allocator", "input"]
POSITIONAL = ""


class Parser(MagicArgumentParser):
    """Reads the line of one command; whatever it cannot read is a UsageError."""

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog, description=description)  # type: ignore[no-untyped-call]
        self.allow_abbrev = False  # MagicArgumentParser does not pass it on
        self.formatter_class = argparse.HelpFormatter
        self.options: dict[str, tuple[Kind, str | int | None]] = {}

    def takes(self, *names: str, completes: Kind = "", **settings: Any) -> Parser:
        """Add an option, or a positional one; ``completes`` says what its values are."""
        self.add_argument(*names, **settings)
        nargs = 0 if settings.get("action") == "store_true" else settings.get("nargs")
        for name in names:
            self.options[name if name.startswith("-") else POSITIONAL] = (completes, nargs)
        return self

    def read(self, line: str) -> argparse.Namespace:
        """The options that ``line`` gives."""
        try:
            words = shlex.split(line)
        except ValueError as error:
            raise UsageError(f"{self.prog}: {error} in {line.strip()!r}") from None
        options, rest = self.parse_known_args(words)
        if rest:
            meant = closest(rest[0], [name for name in self.options if name])
            self.error(f"it takes no {rest[0]!r}" + (f"; did you mean {meant[0]!r}?" if meant else ""))
        return options

    def error(self, message: str) -> None:  # type: ignore[override]
        raise UsageError(f"{self.prog}: {message}\n{self.format_usage().rstrip()}")

    def expected(self, words: Sequence[str]) -> Kind:
        """What the next word after ``words`` is."""
        for count, word in enumerate(reversed(words)):
            if word in self.options and word:
                kind, nargs = self.options[word]
                if nargs == "+" or (nargs is None and count == 0):
                    return kind
                break
        return self.options.get(POSITIONAL, ("", None))[0]


def number(text: str) -> float:
    """A number as people write one."""
    try:
        return parse_number(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, zero or more")
    return int(text)


def memory(text: str) -> float:
    try:
        return parse_megabytes(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def amount(text: str) -> tuple[str, float]:
    """``NAME=AMOUNT`` of a resource."""
    return next(iter(amounts(text).items()))


def amounts(text: str) -> dict[str, float]:
    """``cpu=4,gpu=1``: amounts of resources."""
    try:
        return parse_amounts(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def node(text: str) -> tuple[str, dict[str, float]]:
    """``NAME:cpu=4,gpu=1``: a node and what it has."""
    name, colon, rest = text.partition(":")
    if not (name and colon and rest):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME:cpu=4,gpu=1")
    return name, amounts(rest)


def setting(text: str) -> tuple[str, str]:
    """``NAME=VALUE`` of an input."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def identifier(text: str) -> str:
    if not text.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of a variable")
    return text


CELL = (
    Parser("%%handoff", "Add the functions of this cell to the notebook's graph; the options are theirs by default.")
    .takes("what", nargs="?", help="'setup': run the cell here, and first in every slot of every node")
    .takes("--cpu", type=number, metavar="N", help="processors that each function holds while it runs")
    .takes("--memory", type=memory, metavar="AMOUNT", help="a number of MB, or 500MB, 2GiB")
    .takes("--gpu", type=number, metavar="N")
    .takes("--resource", type=amount, action="append", default=[], metavar="NAME=AMOUNT", help="any other resource")
    .takes("--node", completes="node", metavar="NAME", help="run on this node only")
    .takes("--inline", action="store_true", help="evaluate inside each function that uses it")
    .takes("--max-retries", type=whole, metavar="N", help="tries after the first")
    .takes("--retry-delay", type=number, metavar="SECONDS")
    .takes("--timeout", type=number, metavar="SECONDS", help="for one try")
    .takes("--runs-in", choices=["process", "kernel"], help="a slot of the node, or the namespace of its kernel")
    .takes("--cache", action="store_true", help="for keeping results from run to run; does not work yet")
    .takes("--duration", type=number, metavar="SECONDS", help="what to plan with")
    .takes("--group", metavar="NAME", help="show the functions together under this name")
)
ON = Parser("%%on", "Run the cell in the kernel of a node and show its output here.").takes(
    "node", completes="node", metavar="NODE"
)


def function_options(options: argparse.Namespace) -> dict[str, Any]:
    """The options of `Function` that the flags of a cell give."""
    cost = {name: getattr(options, name) for name in ("cpu", "memory", "gpu")} | dict(options.resource)
    cost = {name: value for name, value in cost.items() if value is not None}
    given = {
        "cost": cost or None,
        "type": "inline" if options.inline else None,
        "cache": options.cache or None,
        **{name: getattr(options, name) for name in _PLAIN},
    }
    return {name: value for name, value in given.items() if value is not None}


_PLAIN = ("node", "max_retries", "retry_delay", "timeout", "runs_in", "duration", "group")


def _command(name: str, description: str) -> Parser:
    parser = COMMANDS[name] = Parser(f"%handoff {name}", description)
    return parser


COMMANDS: dict[str, Parser] = {}
(
    _command("run", "Run the graph, or what the named functions need; does not wait unless told to.")
    .takes("ids", nargs="*", completes="function", metavar="ID")
    .takes("--set", type=setting, action="append", default=[], completes="input", metavar="NAME=VALUE", dest="inputs",
           help="the value of an input: an expression of this notebook, or else text")
    .takes("--on", nargs="+", completes="node", metavar="NODE", dest="nodes", help="use these nodes only")
    .takes("--allocator", completes="allocator", metavar="NAME", help="a strategy, or a variable of this notebook")
    .takes("--failed", action="store_true", help="take over what the last run finished, and try the rest again")
    .takes("--stale", action="store_true", help="take over what is still right, and run what was edited since")
    .takes("--wait", action="store_true", help="until it is over")
    .takes("-o", type=identifier, metavar="VAR", dest="variable", help="a variable for the Run")
)  # fmt: skip
_command("start", "Start the notebook's cluster: the named nodes, or one with all that this machine has.").takes(
    "nodes", nargs="*", type=node, metavar="NAME:cpu=4,gpu=1"
)
_command("stop", "Stop the notebook's cluster.")
(
    _command("plan", "Predict a run on the cluster's nodes, or on nodes that are only described.")
    .takes("nodes", nargs="*", type=node, metavar="NAME:cpu=4,gpu=1")
    .takes("--allocator", completes="allocator", metavar="NAME", help="a strategy, or a variable of this notebook")
)
_command("nodes", "The nodes of the cluster and how full they are.")
_command("graph", "A picture of the graph; what is out of date since the last run is named below it.")
_command("watch", "The state of the last run as it is now.")
_command("status", "One line on the graph, the cluster and the last run.")
_command("logs", "What a function wrote in the last run.").takes("id", completes="function", metavar="ID")
_command("cancel", "Cancel the last run, or one function of it and what needs it.").takes(
    "id", nargs="?", completes="function", metavar="ID"
)
_command("report", "Write an HTML page on the last run.").takes(
    "path", nargs="?", default="handoff-report.html", metavar="FILE.html"
)
_command("export", "Write the graph as a Python module that runs it.").takes("path", metavar="FILE.py")
_command("import", "Add the marked functions of a Python file to the graph.").takes("path", metavar="FILE.py")
_command("reset", "Forget every function and setup cell; the cluster stays.")


def split_command(line: str) -> tuple[str, str]:
    """The command's name and the rest of its line."""
    name, _, rest = line.strip().partition(" ")
    if name in COMMANDS:
        return name, rest
    if not name:
        raise UsageError(f"say what to do: %handoff {'|'.join(COMMANDS)}")
    meant = closest(name, COMMANDS)
    hint = f"did you mean {meant[0]}?" if meant else f"there are {', '.join(COMMANDS)}"
    raise UsageError(f"there is no %handoff {name}; {hint}")
