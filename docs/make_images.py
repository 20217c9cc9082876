"""Makes the pictures of the README from a real run of the demo's pipeline: ``python docs/make_images.py``."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from handoff_lab.cli.demo import NODES
from handoff_lab.cli.report import write_report
from handoff_lab.cluster import Cluster
from handoff_lab.examples.images import pipeline

IMAGES = Path(__file__).parent / "images"
WANTED = ("execution.svg", "gantt.png", "utilization.png", "collage.png")


def main() -> None:
    """Run the pipeline on the demo's nodes and keep the pictures that the README shows."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, Cluster(NODES, name="demo") as cluster:
        run = cluster.execute(pipeline(), allocation_strategy="time_optimized")
        for path in write_report(run, Path(folder)):
            if path.name in WANTED:
                shutil.copy(path, IMAGES / path.name)
                print(f"wrote {IMAGES / path.name}")


if __name__ == "__main__":
    main()
