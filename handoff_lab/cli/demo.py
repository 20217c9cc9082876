"""Runs a pipeline over photos on three kernels and shows what happened.

The nodes differ in what they have: edges are found where there is a GPU, photos are blurred where there is an FPGA
(both only counted; the work is done by the processor). Pictures and an HTML page are written to a folder.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

NODES = {
    "studio": {"cpu": 2, "memory": 4000},
    "gpu-box": {"cpu": 1, "memory": 2000, "gpu": 1},
    "fpga-lab": {"cpu": 1, "memory": 1000, "fpga": 1},
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Say what it takes."""
    parser.add_argument(
        "--report", type=Path, default=Path("demo-report"), metavar="DIR", help="where pictures go (demo-report)"
    )
    parser.add_argument("--images", type=int, default=4, metavar="N", help="how many photos (4)")


def execute(options: argparse.Namespace) -> int:
    """Start the nodes, run, print, write."""
    from handoff_lab._units import format_cost
    from handoff_lab.cli.report import write_report
    from handoff_lab.cli.summary import closing_line, functions_table, nodes_table
    from handoff_lab.cluster import Cluster
    from handoff_lab.examples.images import pipeline
    from handoff_lab.widgets.text_progress import follow

    dag = pipeline(options.images)
    print("Starting three nodes, each a Jupyter kernel:")
    for name, capabilities in NODES.items():
        print(f"  {name:<9} {format_cost(capabilities)}")
    with Cluster(NODES, name="demo") as cluster:
        print(f"Running {len(dag.functions)} functions:", flush=True)
        run = cluster.submit(dag, allocation_strategy="time_optimized")
        follow(run, sys.stdout)
        run.wait()
        print(f"\n{functions_table(run)}\n\n{nodes_table(run)}\n\n{closing_line(run)}")
        pages = write_report(run, options.report)
    print(f"\nWrote {', '.join(page.name for page in pages)}")
    print(f"Open {pages[0].resolve().as_uri()}")
    return 0
