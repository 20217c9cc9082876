import os
import subprocess
import sys
import time

import pytest

from handoff_lab.node.load import Meter


@pytest.mark.real
def test_children_count(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = Meter()
    meter.read()
    code = "data = b'x' * 10**8; print(flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        monkeypatch.setattr(meter, "_look_again", 0.0)
        _, memory = meter.read()
        end = time.monotonic() + 60
        percent = 0.0
        while percent < 5 and time.monotonic() < end:
            time.sleep(0.2)
            percent, _ = meter.read()
        child.kill()
    assert memory > 10**8
    assert percent >= 5


def test_own_memory_counts() -> None:
    percent, memory = Meter().read()
    assert percent == 0
    assert memory > 5 * 10**6


def test_looking_for_children_takes_a_hundredth_of_the_time_at_most() -> None:
    meter = Meter()
    began = time.monotonic()
    meter.read()
    took = time.monotonic() - began
    assert meter._look_again <= began + 102 * took
    assert os.getpid() in meter._family
