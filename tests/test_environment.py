"""The environments that pip and conda make are the same."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
CONDA_NAMES = {
    "graphviz": "python-graphviz",
    "jupyter-client": "jupyter_client",
    "matplotlib": "matplotlib-base",
    "msgpack": "msgpack-python",
}


def test_conda_installs_what_pip_does() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {CONDA_NAMES.get(r.name, r.name): str(r.specifier) for r in map(Requirement, project["dependencies"])}
    wanted["python"] = project["requires-python"]
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    assert dict(re.findall(r"^  - ([\w-]+)(>=\S+)", text, re.MULTILINE)) == wanted
