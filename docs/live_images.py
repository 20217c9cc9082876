"""Makes the pictures of the live view from real runs of notebook 05 in JupyterLab: ``python docs/live_images.py``.

They need what the browser tests need: Playwright, Chromium, and the front end built by ``make frontend``.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # for the browser tests' helpers

from tests.browser.lab import Lab, NotebookPage, chromium  # noqa: E402
from tests.browser.server import jupyter_server  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import FloatRect, Locator

IMAGES = ROOT / "docs" / "images"
FRAME_S = 0.3
SIZE = (820, 680)  # of the animation
COLOURS = 128


def main() -> None:
    """A short film of a run that fails and is mended; a run half-way; the panel and the dashboard beside a notebook."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, jupyter_server(Path(folder)) as server, chromium() as browser:

        def lab(name: str, width: int, height: int, scale: float) -> Lab:
            context = browser.new_context(viewport={"width": width, "height": height}, device_scale_factor=scale)
            return Lab(context.new_page(), server, name, IMAGES)

        film(lab("film", 1120, 1300, 1))
        half_way(lab("half-way", 1220, 1100, 1.5))
        dashboard(lab("dashboard", 1640, 940, 1.25))


def prepared(lab: Lab) -> NotebookPage:
    """Notebook 05, ready to run the pipeline."""
    notebook = lab.open("05-live")
    lab.command("application:toggle-left-area")
    for cell in notebook.saved().cells:
        if cell.id == "run":
            return notebook
        if cell.cell_type == "code":
            notebook.run(cell.id)
    raise LookupError("notebook 05 has no cell 'run'")


def film(lab: Lab) -> None:
    notebook = prepared(lab)
    notebook.run("run")
    view = notebook.view("run")
    notebook.cell("run").evaluate("cell => cell.scrollIntoView()")  # there is room below for what is longer
    shots = Shots(view.app)
    shots.until(lambda: view.app.get_attribute("data-run-status") == "failed")
    shots.rest(0.8)
    view.function("summary").click()
    view.details("sentence")
    shots.rest(2.4)
    notebook.run("mend")
    notebook.cell("run").evaluate("cell => cell.scrollIntoView()")
    view.function("summary").filter(has_text="stale").wait_for()
    shots.rest(1.2)
    view.button("run-stale").click()
    shots.until(lambda: view.app.get_attribute("data-run-status") == "done")
    view.details("It gets warmer by")
    shots.rest(2.4)
    shots.save(IMAGES / "live-run.gif")


def half_way(lab: Lab) -> None:
    notebook = prepared(lab)
    notebook.run("run")
    view = notebook.view("run")
    view.wait_functions(clean="done", spread="running")
    lab.screenshot("live-widget", view.app)


def dashboard(lab: Lab) -> None:
    notebook = prepared(lab)
    lab.command("handoff-lab:show-panel")
    lab.command("handoff-lab:open-dashboard")
    notebook.run("run")
    lab.page.locator('.hl-dashboard [data-function="clean"][data-status="done"]').first.wait_for()
    lab.page.locator('.hl-dashboard [data-function="spread"][data-status="running"]').first.wait_for()
    lab.screenshot("panel-dashboard")


class Shots:
    """Pictures of a part of the page, one after the other, and how long each is to be seen."""

    def __init__(self, part: Locator) -> None:
        self._part = part
        self._frames: list[tuple[Image.Image, float]] = []

    def until(self, over: Callable[[], bool]) -> None:
        """Take pictures as things change."""
        while not over():
            begin = time.monotonic()
            self.rest(0)
            time.sleep(max(0.0, FRAME_S - (time.monotonic() - begin)))
            picture, _ = self._frames[-1]
            self._frames[-1] = (picture, time.monotonic() - begin)

    def rest(self, seconds: float) -> None:
        """One picture that stays for a while."""
        place = self._part.bounding_box()
        assert place is not None
        height = place["width"] * SIZE[1] / SIZE[0]
        clip: FloatRect = {"x": place["x"], "y": place["y"], "width": place["width"], "height": height}
        picture = Image.open(io.BytesIO(self._part.page.screenshot(clip=clip))).convert("RGB")
        self._frames.append((picture.resize(SIZE, Image.Resampling.LANCZOS), seconds))

    def save(self, path: Path) -> None:
        """As an animation; all frames have the same colours, or they would flicker."""
        some = [picture for picture, _ in self._frames[:: max(1, len(self._frames) // 6)]]
        sheet = Image.new("RGB", (SIZE[0], SIZE[1] * len(some)))
        for row, picture in enumerate(some):
            sheet.paste(picture, (0, row * SIZE[1]))
        palette = sheet.quantize(COLOURS)
        frames = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture, _ in self._frames]
        durations = [round(1000 * seconds) for _, seconds in self._frames]
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=True)


if __name__ == "__main__":
    main()
