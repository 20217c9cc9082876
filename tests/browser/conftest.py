"""JupyterLab and a headless Chromium for the tests of this folder; each test has a page of its own.

Run them with ``pytest tests/browser``, all others with ``-m "not browser"``. Pictures are kept in ``artefacts/``.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Generator, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .lab import CHROMIUM, Lab, chromium
from .server import JupyterServer, jupyter_server

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

ARTEFACTS = Path(__file__).with_name("artefacts")
_REPORT = pytest.StashKey[pytest.TestReport]()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    with jupyter_server(tmp_path_factory.mktemp("lab")) as server:
        yield server


# For a module and no longer: while Playwright is on, no other test can have an event loop in this thread.
@pytest.fixture(scope="module")
def context() -> Iterator[BrowserContext]:
    if find_spec("playwright") is None:
        pytest.skip("Playwright is not installed: pip install 'handoff_lab[test]'")
    if shutil.which(CHROMIUM) is None:
        pytest.skip("Chromium is not on PATH: apt-get install chromium")
    with chromium() as browser:
        yield browser.new_context(viewport={"width": 1400, "height": 900})  # has JupyterLab in its cache after a while


@pytest.fixture
def lab(context: BrowserContext, server: JupyterServer, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """An empty JupyterLab. An error on the page or in the console, or a request to another server, fails the test."""
    name = re.sub(r"\W+", "-", request.node.name.removeprefix("test_")).strip("-")
    artefacts = ARTEFACTS / name
    shutil.rmtree(artefacts, ignore_errors=True)
    server.forget_settings()
    page = context.new_page()
    page.goto(f"{server.address}api")
    page.evaluate("localStorage.clear()")
    lab = Lab(page, server, name, artefacts)
    try:
        yield lab
        if request.node.stash[_REPORT].failed:
            lab.screenshot("failed")
    finally:
        lab.page.close()
        server.end_kernels(name)
    assert not lab.errors, "\n".join(lab.errors)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.when == "call":
        item.stash[_REPORT] = report
    return report
