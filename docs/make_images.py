"""Makes the pictures of the README from a real run of the demo's pipeline: ``python docs/make_images.py``.

Those of the live view are made by live_images.py beside it.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from handoff_lab.cli.demo import NODES
from handoff_lab.cli.report import write_report
from handoff_lab.cluster import Cluster
from handoff_lab.examples.images import pipeline

IMAGES = Path(__file__).parent / "images"


def main() -> None:
    """A graph of few photos, which is easily taken in, and a Gantt chart of more."""
    IMAGES.mkdir(exist_ok=True)
    with Cluster(NODES, name="demo") as cluster:
        for n_images, name in ((2, "execution.svg"), (4, "gantt.png")):
            run = cluster.execute(pipeline(n_images), allocation_strategy="time_optimized")
            with tempfile.TemporaryDirectory() as folder:
                write_report(run, Path(folder))
                shutil.copy(Path(folder) / name, IMAGES / name)
            print(f"wrote {IMAGES / name}")


if __name__ == "__main__":
    main()
