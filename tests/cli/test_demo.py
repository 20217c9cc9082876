"""The demo: three kernels, the whole pipeline, and the folder that it leaves."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from handoff_lab.cli import demo, main


@pytest.mark.real
def test_the_demo_shows_what_happened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = tmp_path / "report"
    assert main(["demo", "--report", str(report), "--images", "2"]) == 0
    said = capsys.readouterr().out
    rows = [line.split() for line in said.splitlines() if line.startswith(("blur_", "edges_"))]
    assert {(row[0], row[1]) for row in rows} == {
        ("blur_1", "fpga-lab"),
        ("blur_2", "fpga-lab"),
        ("edges_1", "gpu-box"),
        ("edges_2", "gpu-box"),
    }
    assert all(name in said for name in demo.NODES)
    assert "18/18" in said
    assert f"Open {(report / 'index.html').as_uri()}" in said
    names = {"index.html", "graph.svg", "execution.svg", "gantt.png", "utilization.png", "collage.png", "quality.txt"}
    assert {path.name for path in report.iterdir()} == names
    for name in ("gantt.png", "utilization.png", "collage.png"):
        with Image.open(report / name) as image:
            assert len(image.convert("RGB").getcolors(10**7) or ()) > 5, f"{name} is blank"
    for name in ("graph.svg", "execution.svg", "index.html"):
        assert "blur_1" in (report / name).read_text(encoding="utf-8")
    assert len((report / "quality.txt").read_text().splitlines()) == 1 + 2 * 4
