"""JupyterLab in a page of the browser, as a person uses it: notebooks, cells, themes, pictures."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import nbformat

from .view import View

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Error, Locator, Page, Request

    from .server import JupyterServer

PATIENCE_S = 90  # a busy machine draws slowly
CHROMIUM = "chromium"
_THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}

_PANEL = "path => [...jupyterapp.shell.widgets('main')].find(w => w.context?.path === path)"
_READY = f"""path => {{
    const panel = window.jupyterapp && ({_PANEL})(path);
    const kernel = panel?.context.isReady && panel.sessionContext.session?.kernel;
    return kernel?.status === "idle" && kernel.connectionStatus === "connected";
}}"""
# Cells that come into sight get another height, which moves those after them: once is not enough.
_IN_SIGHT = """cell => {
    const [part, whole] = [cell, cell.closest(".jp-WindowedPanel-outer")].map(e => e.getBoundingClientRect());
    const seen = Math.min(part.bottom, whole.bottom) - Math.max(part.top, whole.top);
    const drawn = cell.firstElementChild.checkVisibility({contentVisibilityAuto: true});
    const there = drawn && seen > Math.min(part.height, whole.height) - 2;
    cell.frames = there ? (cell.frames ?? 0) + 1 : 0;
    if (!there) cell.scrollIntoView({block: "nearest"});
    return cell.frames > 3;
}"""
_AREA = f"({_PANEL})(path).content.widgets[index].outputArea"
_BEFORE = f"([path, index]) => {{ const area = {_AREA}; area.before = area.future; }}"
_STARTED = f"([path, index]) => {{ const area = {_AREA}; return area.future !== area.before; }}"
_LATE = "new Promise((_, fail) => setTimeout(() => fail(new Error(`it took longer than ${patience} ms`)), patience))"
_ENDED = f"""([path, index, patience]) => Promise.race([
    {_AREA}.future.done.then(reply => reply.content.status), {_LATE}
])"""
_COMMAND = f"""([id, args, patience]) => Promise.race([
    jupyterapp.commands.execute(id, args).then(value => value === true), {_LATE}
])"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=shutil.which(CHROMIUM), args=arguments)
        yield browser
        browser.close()


class Lab:
    """One page with JupyterLab. ``name`` is its folder on the server; ``errors`` is what went wrong in the page."""

    def __init__(self, page: Page, server: JupyterServer, name: str, artefacts: Path) -> None:
        self.page = page
        self.server = server
        self.name = name
        self.artefacts = artefacts
        self.errors: list[str] = []
        page.set_default_timeout(PATIENCE_S * 1000)
        page.on("pageerror", self._page_error)
        page.on("console", self._console)
        page.on("request", self._request)

    def open(self, example: str) -> NotebookPage:
        """Open a fresh copy of an example notebook, such as ``01-first-dag``."""
        return self.open_path(self.server.notebook(self.name, example))

    def new(self, cells: Sequence[str], name: str = "new") -> NotebookPage:
        """Open a new notebook of these code cells."""
        return self.open_path(self.server.new_notebook(self.name, name, cells))

    def open_path(self, path: str) -> NotebookPage:
        """Open a notebook that is on the server, in an otherwise empty JupyterLab."""
        where = f"lab/workspaces/{quote(self.name)}/tree/{quote(path)}"
        self.page.goto(f"{self.server.address}{where}?reset&token={self.server.token}")
        return NotebookPage(self, path)

    def command(self, id: str, **args: Any) -> bool:
        """Have JupyterLab execute one of its commands, and wait for its end; true if that is what it hands back."""
        true: bool = self.page.evaluate(_COMMAND, [id, args, PATIENCE_S * 1000])
        return true

    def reload(self) -> None:
        """Load the page again; JupyterLab opens what was open."""
        self.page.reload()

    def leave(self) -> None:
        """Go to an empty page; kernels stay."""
        self.page.goto("about:blank")

    def theme(self, theme: str) -> None:
        """Switch to ``light`` or ``dark``."""
        self.command("apputils:change-theme", theme=_THEMES[theme])
        self.page.locator(f'body[data-jp-theme-name="{_THEMES[theme]}"]').wait_for(state="attached")

    def screenshot(self, name: str, target: Locator | None = None) -> Path:
        """Keep a picture of the page, or of a part of it, among the artefacts."""
        path = self.artefacts / f"{name}.png"
        (target or self.page).screenshot(path=path, animations="disabled")
        return path

    def _page_error(self, error: Error) -> None:
        self.errors.append(f"{error.name}: {error.message}\n{error.stack}")

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(f"{message.text} ({message.location['url']})")

    def _request(self, request: Request) -> None:
        if not request.url.startswith((self.server.address, "data:", "blob:")):
            self.errors.append(f"the page asked for {request.url}")


class NotebookPage:
    """A notebook that is open in the page. A cell goes by its place among all cells, or by its id."""

    def __init__(self, lab: Lab, path: str) -> None:
        self.lab = lab
        self.page = lab.page
        self.path = path
        self._ids = [cell.id for cell in self.saved().cells]
        self.ready()

    def saved(self) -> nbformat.NotebookNode:
        """The notebook as its file is now."""
        notebook: nbformat.NotebookNode = nbformat.read(self.lab.server.root / self.path, as_version=4)
        return notebook

    def ready(self) -> None:
        """Wait until the notebook is shown and its kernel is idle."""
        self.page.wait_for_function(_READY, arg=self.path)
        self.cell(len(self._ids) - 1).wait_for(state="attached")

    @property
    def panel(self) -> Locator:
        return self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")

    def _index(self, cell: int | str) -> int:
        return self._ids.index(cell) if isinstance(cell, str) else cell

    def cell(self, cell: int | str) -> Locator:
        return self.panel.locator(".jp-Notebook .jp-Cell").nth(self._index(cell))

    def outputs(self, cell: int | str) -> Locator:
        """The outputs of a cell, one by one."""
        return self.cell(cell).locator(".jp-OutputArea-output")

    def text(self, cell: int | str) -> str:
        """What a cell's outputs say."""
        self.show(cell)
        return "\n".join(self.outputs(cell).all_inner_texts()).strip()

    def show(self, cell: int | str) -> Locator:
        """Scroll to a cell: JupyterLab renders only what is in sight."""
        place = self.cell(cell)
        self.page.wait_for_function(_IN_SIGHT, arg=place.element_handle())
        return place

    def start(self, cell: int | str) -> None:
        """Run a cell as with Ctrl+Enter, and wait no longer than until it is on its way."""
        with self.starting(cell):
            self.cell(cell).locator(".jp-InputPrompt").first.click()
            self.page.keyboard.press("Control+Enter")

    @contextmanager
    def starting(self, cell: int | str) -> Iterator[None]:
        """Wait until a cell is on its way, which is run meanwhile."""
        where = [self.path, self._index(cell)]
        self.page.evaluate(_BEFORE, where)
        yield
        self.page.wait_for_function(_STARTED, arg=where)

    def finish(self, cell: int | str, *, fails: bool = False) -> str:
        """Wait for the end of a cell that was started; it must succeed, or fail. Hands back what its outputs say."""
        status = self.page.evaluate(_ENDED, [self.path, self._index(cell), PATIENCE_S * 1000])
        text = self.text(cell)
        assert status == ("error" if fails else "ok"), f"{status}: {text}"
        return text

    def run(self, cell: int | str, *, fails: bool = False) -> str:
        """Run a cell to its end."""
        self.start(cell)
        return self.finish(cell, fails=fails)

    def edit(self, cell: int | str, source: str) -> None:
        """Write other source into a cell."""
        self.show(cell).locator(".cm-content").click()
        self.page.keyboard.press("Control+A")
        self.page.keyboard.insert_text(source)

    def view(self, cell: int | str) -> View:
        """The live view that a cell shows."""
        self.show(cell)
        return View(self.outputs(cell))

    def run_all(self) -> None:
        """Run all cells; all must succeed."""
        assert self.lab.command("notebook:run-all-cells"), self.panel.inner_text()

    def save(self) -> nbformat.NotebookNode:
        """Save the notebook; hands back what the file holds then."""
        self.lab.command("docmanager:save")
        return self.saved()
