"""A JupyterLab server of its own: loopback, a free port, a random token, no trace in the user's Jupyter folders."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
GUARD = Path(__file__).with_name("guard.py")
PATIENCE_S = 120
_ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+/")
_OPTIONS = (
    "--no-browser",
    "--allow-root",
    "--ServerApp.ip=127.0.0.1",
    "--ServerApp.port=0",
    "--ServerApp.terminals_enabled=False",
    "--ServerApp.tornado_settings={'page_config_data': {'buildCheck': False}}",  # it would start npm for every page
    "--LabApp.expose_app_in_browser=True",  # the helpers find notebooks and commands through `jupyterapp`
)
_QUIET = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}}


class JupyterServer:
    """A running server; ``root`` is the folder that it shows."""

    def __init__(self, address: str, token: str, home: Path) -> None:
        self.address = address
        self.token = token
        self.root = home / "root"
        self._settings = home / "settings"

    def forget_settings(self) -> None:
        """JupyterLab is as it was installed: its theme, and what is saved."""
        for place in self._settings.iterdir():
            shutil.rmtree(place) if place.is_dir() else place.unlink()

    def notebook(self, folder: str, name: str) -> str:
        """A fresh copy of an example notebook; hands back its path below the root."""
        place = self.root / folder
        place.mkdir(exist_ok=True)
        shutil.copy(NOTEBOOKS / f"{name}.ipynb", place)
        return f"{folder}/{name}.ipynb"

    def new_notebook(self, folder: str, name: str, cells: Sequence[str]) -> str:
        """A notebook of these code cells; hands back its path below the root."""
        place = self.root / folder
        place.mkdir(exist_ok=True)
        kernel = {"kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}}
        notebook = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, cells)), metadata=kernel)
        nbformat.write(notebook, place / f"{name}.ipynb")
        return f"{folder}/{name}.ipynb"

    def sessions(self) -> list[dict[str, Any]]:
        """The notebooks that have a kernel."""
        found: list[dict[str, Any]] = self._api("GET", "sessions")
        return found

    def end_kernels(self, folder: str) -> None:
        """Shut down the kernels of the notebooks in a folder below the root."""
        for session in self.sessions():
            if session["path"].startswith(f"{folder}/"):
                self._api("DELETE", f"sessions/{session['id']}")

    def _api(self, method: str, what: str) -> Any:
        headers = {"Authorization": f"token {self.token}"}
        request = urllib.request.Request(f"{self.address}api/{what}", method=method, headers=headers)
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return json.loads(answer.read() or "null")


@contextmanager
def jupyter_server(home: Path) -> Iterator[JupyterServer]:
    """Start a server that keeps all its files below ``home``; in the end every process that it started is gone."""
    root = home / "root"
    root.mkdir()
    token = secrets.token_hex(16)
    command = [
        sys.executable,
        str(GUARD),
        sys.executable,
        "-m",
        "jupyterlab",
        *_OPTIONS,
        f"--ServerApp.root_dir={root}",
    ]
    guard = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | _own_folders(home) | {"JUPYTER_TOKEN": token},
    )
    guarded = _Guarded(guard, home / "server.log")
    try:
        yield JupyterServer(guarded.address(), token, home)
    finally:
        guarded.close()


def _own_folders(home: Path) -> dict[str, str]:
    names = ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR")
    folders = {f"JUPYTER_{name}": home / name.lower() for name in names}
    folders |= {f"JUPYTERLAB_{name}_DIR": home / name.lower() for name in ("SETTINGS", "WORKSPACES")}
    folders |= {"IPYTHONDIR": home / "ipython", "XDG_STATE_HOME": home / "state"}
    for folder in folders.values():
        folder.mkdir(mode=0o700)
    overrides = folders["JUPYTER_CONFIG_DIR"] / "labconfig" / "default_setting_overrides.json"
    overrides.parent.mkdir()
    overrides.write_text(json.dumps(_QUIET))
    return {name: str(folder) for name, folder in folders.items()}


class _Guarded:
    """The server's process; what it says goes to a file."""

    def __init__(self, guard: subprocess.Popen[str], path: Path) -> None:
        self._guard = guard
        self._path = path
        self._address = ""
        self._known = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._guard.stderr is not None
        with self._path.open("w") as file:
            for line in self._guard.stderr:
                file.write(line)
                file.flush()
                if not self._address and (match := _ADDRESS.search(line)):
                    self._address = match[0]
                    self._known.set()
        self._known.set()

    def address(self) -> str:
        """Where the server listens, once it does."""
        self._known.wait(PATIENCE_S)
        if not self._address:
            raise RuntimeError(f"JupyterLab did not start:\n{self._path.read_text()[-4000:]}")
        return self._address

    def close(self) -> None:
        """Tell the guard that it is over, and wait until it has ended all."""
        assert self._guard.stdin is not None
        assert self._guard.stderr is not None
        self._guard.stdin.close()
        self._guard.wait()
        self._thread.join()
        self._guard.stderr.close()
