"""The folder that the demo leaves behind: an HTML page and its pictures."""

from __future__ import annotations

from pathlib import Path

from handoff_lab import visualization
from handoff_lab.examples.images import png
from handoff_lab.run import Run


def write_report(run: Run, folder: Path) -> list[Path]:
    """Write everything; what was written, the page first."""
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "index.html"
    visualization.report(run, page)
    return [page, *_graphs(run, folder), *_charts(run, folder), *_results(run, folder)]


def _charts(run: Run, folder: Path) -> list[Path]:
    figures = {"gantt.png": visualization.gantt(run), "utilization.png": visualization.utilization(run)}
    for name, figure in figures.items():
        figure.savefig(folder / name, dpi=150, bbox_inches="tight")
    return [folder / name for name in figures]


def _results(run: Run, folder: Path) -> list[Path]:
    collage, quality = folder / "collage.png", folder / "quality.txt"
    collage.write_bytes(png(run.results["collage"]))
    quality.write_text(run.results["quality_report"] + "\n", encoding="utf-8")
    return [collage, quality]


def _graphs(run: Run, folder: Path) -> list[Path]:
    pictures = {"graph.svg": visualization.dag(run.dag), "execution.svg": visualization.execution_graph(run)}
    for name, picture in pictures.items():
        (folder / name).write_text(picture.svg(), encoding="utf-8")
    return [folder / name for name in pictures]
