"""What all tests share: Hypothesis without a clock, Ctrl-C, and no trace in the user's own Jupyter folders."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The machine may be busy with kernels while an example runs: time says nothing about it.
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("here"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")

# With it jsonschema, and so nbformat, builds an Earley parser at import: seconds, for a format that no test uses.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]

# A shell's background job ignores it, and so would what tests start, and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def own_jupyter_folders(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Kernels started by tests write their history, settings and connection files elsewhere."""
    home: Path = tmp_path_factory.mktemp("jupyter")
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        folder = home / name.lower()
        folder.mkdir(mode=0o700)
        os.environ[name] = str(folder)


@pytest.fixture(scope="module")
def brief_collections() -> Iterator[None]:
    """For modules whose tests collect garbage again and again: what was there before is no garbage."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
