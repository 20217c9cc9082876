"""How the live view behaves in a browser: ``python benchmarks/browser.py``.

JupyterLab in a headless Chromium, as in tests/browser. Per size of graph: seconds until the cell has run and until the
first picture is there, frames per second while a mouse drags the graph; and how much is sent while functions run.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the browser tests' helpers

from tests.browser.lab import Lab, chromium
from tests.browser.server import jupyter_server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, WebSocket

    from tests.browser.server import JupyterServer

SIZES = ((60, 10, 6), (1000, 20, 50), (5000, 50, 100), (50_000, 100, 500))  # functions: layers × width
PAN_S = 2.0

SETUP = """
import time
import handoff_lab as hl

def layers(count, width, code, *given):
    dag = hl.DAG(f"{count} × {width}")
    for row in range(count):
        above = [f"f_{row - 1}_{place}" for place in range(width)] if row else []
        dag.add(*(
            hl.Function(
                f"f_{row}_{i}", code, args=[above[(i + step) % width] for step in range(1 + (i % 5 < 3)) if row]
            )
            for i in range(width)
        ))
    return dag

def nap(*inputs):
    time.sleep(0.05)
"""
# Runs the notebook's active cell; resolves with ms until its end and until the first picture, by the page's clock.
_FIRST_PICTURE = """async () => {
    const begin = performance.now();
    let picture = 0;
    const look = () => {
        if (document.querySelector(".hl-app .hl-fn, .hl-app .hl-level")) picture = performance.now();
        else requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
    await jupyterapp.commands.execute("notebook:run-cell");
    const end = performance.now();
    while (!picture) await new Promise(requestAnimationFrame);
    return [end - begin, picture - begin];
}"""
_RECORD = """() => {
    window.frames_ms = [];
    let last = performance.now();
    const tick = now => { frames_ms.push(now - last); last = now; window.ticking = requestAnimationFrame(tick); };
    window.ticking = requestAnimationFrame(tick);
}"""
_STOP = "() => { cancelAnimationFrame(window.ticking); return frames_ms.slice(2); }"


@dataclass(frozen=True, slots=True)
class Picture:
    """One graph in the browser."""

    functions: int
    cell_s: float
    first_picture_s: float
    shapes: int
    fps: float
    slow_frame_ms: float  # 95 of 100 frames took less

    def row(self) -> list[str]:
        return [
            f"{self.functions:,}",
            f"{self.cell_s:.2f}",
            f"{self.first_picture_s:.2f}",
            f"{self.shapes:,}",
            "–" if self.functions > 20_000 else f"{self.fps:.0f}",
            "–" if self.functions > 20_000 else f"{self.slow_frame_ms:.0f}",
        ]


class Patches:
    """Sizes of the changes that the kernel sends to a page."""

    def __init__(self, lab: Lab) -> None:
        self.sizes: list[tuple[int, int]] = []  # bytes, functions that changed
        lab.page.on("websocket", self._opened)

    def _opened(self, socket: WebSocket) -> None:
        socket.on("framereceived", self._received)

    def _received(self, frame: bytes | str) -> None:
        if isinstance(frame, str) or b"patch" not in frame:
            return
        parts = [int.from_bytes(frame[at : at + 8], "little") for at in range(8, 64, 8)]  # where each begins
        content = json.loads(frame[parts[4] : parts[5]])
        patch = content.get("data", {}).get("content", {})
        if patch.get("type") != "patch":
            return
        changed = len(patch.get("functions", {}).get("at", ()))
        self.sizes.append((len(json.dumps(patch)), changed))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, jupyter_server(Path(folder)) as server, chromium() as browser:
        pictures = [picture(browser, server, *size) for size in SIZES]
        print_table(
            [
                "functions",
                "cell has run (s)",
                "picture is there (s)",
                "shapes",
                "fps while panning",
                "95 % of frames (ms)",
            ],
            [found.row() for found in pictures],
        )
        print()
        print_table(["while 1,000 functions run", ""], weigh(browser, server))


def open_lab(browser: Browser, server: JupyterServer, name: str) -> Lab:
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    return Lab(context.new_page(), server, name, Path(tempfile.gettempdir()))


def picture(browser: Browser, server: JupyterServer, functions: int, layers: int, width: int) -> Picture:
    """Show a graph and drag it about."""
    lab = open_lab(browser, server, f"size-{functions}")
    notebook = lab.new([SETUP, f"dag = layers({layers}, {width}, nap)", "hl.DAGWidget(dag)"])
    notebook.run(0)
    notebook.run(1)
    notebook.cell(2).locator(".jp-InputPrompt").first.click()
    cell_ms, first_ms = lab.page.evaluate(_FIRST_PICTURE)
    view = notebook.view(2)
    shapes = view.part("graph").locator(".hl-fn, .hl-level").count()
    frames = pan(view.part("graph"))
    lab.page.context.close()
    server.end_kernels(lab.name)
    slow = statistics.quantiles(frames, n=20)[-1]
    return Picture(functions, cell_ms / 1000, first_ms / 1000, shapes, 1000 / statistics.median(frames), slow)


def pan(graph: Locator) -> Sequence[float]:
    """Drag the graph with the mouse; hands back how long each frame took, in ms."""
    page, box = graph.page, graph.bounding_box()
    assert box is not None
    x, y = box["x"] + 40, box["y"] + box["height"] - 20
    page.mouse.move(x, y)
    page.mouse.down()
    page.evaluate(_RECORD)
    while page.evaluate("frames_ms.reduce((sum, ms) => sum + ms, 0)") < PAN_S * 1000:
        page.mouse.move(x + 120, y - 60, steps=15)
        page.mouse.move(x, y, steps=15)
    frames: list[float] = page.evaluate(_STOP)
    page.mouse.up()
    return frames


def weigh(browser: Browser, server: JupyterServer) -> list[list[str]]:
    """Run a graph and weigh what is sent."""
    lab = open_lab(browser, server, "live")
    patches = Patches(lab)
    start = 'cluster = hl.Cluster({"a": {"cpu": 4}, "b": {"cpu": 4}}, backend="local")'
    run = "run = cluster.submit(dag)\nrun.watch()"
    notebook = lab.new([SETUP, f"{start}\ndag = layers(20, 50, nap)", run, "run.wait().record.duration"])
    for cell in range(3):
        notebook.run(cell)
    seconds = float(notebook.run(3))
    notebook.view(2).wait("done")
    sizes: list[Any] = [size for size, _ in patches.sizes]
    per_function = [size / changed for size, changed in patches.sizes if changed >= 10]
    return [
        ["seconds", f"{seconds:.1f}"],
        ["patches a second", f"{len(sizes) / seconds:.1f}"],
        ["bytes of a patch, median", f"{statistics.median(sizes):,.0f}"],
        ["bytes of a patch, largest", f"{max(sizes):,}"],
        ["bytes a second", f"{sum(sizes) / seconds:,.0f}"],
        ["bytes for a change of 1 % (10 functions)", f"{10 * statistics.median(per_function):,.0f}"],
    ]


def print_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print("|", " | ".join(titles), "|")
    print("|", " | ".join("---:" for _ in titles), "|")
    for row in rows:
        print("|", " | ".join(row), "|")


if __name__ == "__main__":
    main()
