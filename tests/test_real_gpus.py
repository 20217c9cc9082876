"""Where there is a GPU: CUDA programs as functions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from handoff_lab.resources.gpus import find_gpus

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "gpu.py"


@pytest.mark.real
def test_functions_on_gpus_see_and_share_what_they_claim() -> None:
    if not find_gpus():
        pytest.skip("NVML finds no GPU here")
    done = subprocess.run([sys.executable, str(BENCHMARK)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "A slot with a CUDA context is used again" in done.stdout
