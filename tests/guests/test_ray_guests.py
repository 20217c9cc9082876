"""Nodes on Ray's hosts: they come, take the whole place, give it back, and end with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import handoff_lab as hl
from handoff_lab.guests.places import lender_of
from handoff_lab.testing.hosts import Host, why_no_hosts

WANTED = "HANDOFF_TEST_RAY"  # starting Ray keeps a small machine busy for half a minute
PATIENCE_S = 180.0


def why_no_ray() -> str | None:
    return why_no_hosts() if os.environ.get(WANTED) else f"only where {WANTED}=1 is set: starting Ray takes long"


@pytest.fixture
def short_path() -> Iterator[Path]:
    """Where names of sockets may lie, which cannot be long."""
    with tempfile.TemporaryDirectory(prefix="ray-") as path:
        yield Path(path)


@pytest.mark.real
@pytest.mark.skipif(why_no_ray() is not None, reason=str(why_no_ray()))
def test_the_story_of_a_node_on_ray(short_path: Path) -> None:
    words = [sys.executable, str(Path(__file__).with_name("ray_story.py")), str(short_path)]
    environment = {
        "HOME": str(short_path),  # or it leaves a secret there
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path]),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_raylet_start_wait_time_s": "120",
    }
    with Host() as host:
        told = subprocess.run(
            host.command(words),
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
    assert told.returncode == 0, told.stderr
    story = json.loads(told.stdout.splitlines()[-1])
    assert story.pop("memory") > 100
    assert story == {
        "name": "ray-127.0.0.1",
        "capabilities": {"cpu": 2, "fpga": 3, "memory": 0},
        "again": [],
        "status": "done",
        "waits": True,
        "given back": "free",
        "ended": True,
    }


def fake_ray(monkeypatch: pytest.MonkeyPatch, hosts: list[dict[str, Any]] | None) -> None:
    fake = SimpleNamespace(is_initialized=lambda: hosts is not None, nodes=lambda: hosts)
    monkeypatch.setitem(sys.modules, "ray", fake)  # to import the real one takes seconds


def test_hosts_that_can_hold_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    host = {"Alive": True, "NodeName": "10.0.0.1", "NodeID": "ab", "Resources": {"CPU": 4.0}}
    fake_ray(monkeypatch, [host, {**host, "Alive": False}, {**host, "Resources": {"GPU": 1.0}}])
    (place,) = lender_of("ray").places()
    assert (place.name, place.address) == ("ray-10.0.0.1", "ray ab")
    assert lender_of("ray").capabilities([place], 1.0) == {"ray-10.0.0.1": {"cpu": 4}}


def test_a_process_that_is_not_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_ray(monkeypatch, None)
    with pytest.raises(hl.BackendError, match=r"not connected to Ray; call ray.init\(address=...\) first"):
        lender_of("ray")


def test_ray_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(hl.BackendError, match=r'ray is not installed for .*; pip install "handoff_lab\[ray\]"'):
        lender_of("ray")
