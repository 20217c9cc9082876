"""Runs the DAG that a file defines.

FILE.py: the DAG that the module makes, or that its functions marked with @hl.function form, runs on nodes started for
it. FILE.ipynb: the notebook is executed from top to bottom in a kernel of its own; with IDs, --set or --allocator,
"%handoff run" follows with them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from handoff_lab._errors import HandoffError
from handoff_lab.allocation import STRATEGIES
from handoff_lab.cli import options as words


def add_options(parser: argparse.ArgumentParser) -> None:
    """Say what it takes."""
    parser.add_argument("file", type=Path, metavar="FILE", help="a Python file or a notebook")
    parser.add_argument("--target", action="append", metavar="ID", dest="targets", help="run only what this needs")
    parser.add_argument(
        "--set", action="append", default=[], type=words.setting, metavar="NAME=VALUE", dest="inputs",
        help="the value of an input: a Python literal, or else text",
    )  # fmt: skip
    parser.add_argument(
        "--nodes", nargs="+", type=words.node, metavar="NAME:cpu=2,gpu=1",
        help="nodes to start (default: one with what this machine has)",
    )  # fmt: skip
    parser.add_argument("--allocator", choices=sorted(STRATEGIES), metavar="NAME", help=", ".join(sorted(STRATEGIES)))
    parser.add_argument("--dag", metavar="NAME", help="the variable, when a Python file makes several DAGs")


def execute(options: argparse.Namespace) -> int:
    """Run the file as what it is."""
    path: Path = options.file
    if not path.is_file():
        raise HandoffError(f"there is no file {path}")
    if path.suffix == ".ipynb":
        from handoff_lab.cli.notebooks import run_notebook

        return run_notebook(path, options)
    if path.suffix == ".py":
        return _run_module(path, options)
    raise HandoffError(f"{path} is neither a Python file (.py) nor a notebook (.ipynb)")


def _run_module(path: Path, options: argparse.Namespace) -> int:
    from handoff_lab.cli.modules import find_dag, load_module
    from handoff_lab.cli.summary import closing_line, functions_table, results
    from handoff_lab.cluster import Cluster
    from handoff_lab.widgets.text_progress import follow

    module = load_module(path)
    dag = find_dag(module, options.dag)
    nodes = dict(options.nodes) if options.nodes else None
    with Cluster(nodes, by_value=[module]) as cluster:
        run = cluster.submit(
            dag, options.targets, inputs=dict(options.inputs), allocation_strategy=options.allocator
        )  # fmt: skip
        follow(run, sys.stderr)
        print(functions_table(run))
        print(closing_line(run))
        run.wait()
        print(results(run))
    return 0
