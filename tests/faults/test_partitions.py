"""Hosts that reach each other badly or not at all: runs end as if nothing had been, and nothing stays claimed."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

import handoff_lab as hl
from handoff_lab.run import Run
from handoff_lab.scheduler import State
from handoff_lab.telemetry.events import FUNCTION_STOP, NODE_DOWN
from handoff_lab.testing.hosts import CUT, Network, why_no_hosts
from handoff_lab.testing.random_dags import collected, random_dag, serial_results
from handoff_lab.testing.relay import GOOD, Line
from handoff_lab.transport.sockets import LEASE_S
from tests.others import soon

pytestmark = [pytest.mark.real, pytest.mark.skipif(why_no_hosts() is not None, reason=str(why_no_hosts()))]

NAMES = ("alpha", "beta")
ATTEMPTS = 8


class Service:
    """A node on another host that is started again whenever it ends, as a service manager does it."""

    def __init__(self, network: Network, address: str, join_file: Path, name: str) -> None:
        words = ["--join", str(join_file), "--name", name, "--cpu", "2", "--memory", "1GB"]
        self._command = network.command(address, [sys.executable, "-m", "handoff_lab.node", *words])
        self._environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        self._over = threading.Event()
        self._start()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        while self._thread.is_alive():  # it may be about to start another
            self._process.terminate()
            self._thread.join(0.1)

    def _start(self) -> None:
        self._process = subprocess.Popen(self._command, env=self._environment, stderr=subprocess.DEVNULL)

    def _serve(self) -> None:
        while self._process.wait() is not None and not self._over.is_set():
            self._start()


class Site:
    """A cluster whose nodes are on hosts of their own, and one near the coordinator."""

    def __init__(self, stack: ExitStack) -> None:
        self.network = stack.enter_context(Network(len(NAMES)))
        self.cluster = stack.enter_context(hl.Cluster({"near": {"cpu": 1, "memory": 1000}}, host=self.network.here))
        for address, name in zip(self.network.addresses, NAMES, strict=True):
            stack.callback(Service(self.network, address, self.cluster.join_file, name).close)
        self.wait_for_nodes()

    def until(self, condition: Callable[[], bool]) -> None:
        self.cluster._coordinator.wait_until(condition)

    def wait_for_nodes(self) -> None:
        self.until(lambda: set(self.cluster._coordinator.scheduler.nodes) == {"near", *NAMES})

    def begin(self, seed: int, size: int = 120) -> tuple[Run, int]:
        """A run that has got somewhere, and what its result must be."""
        dag = collected(random_dag(random.Random(seed), size, pins=["near"], seconds=0.05), together=25)
        run = self.cluster.submit(dag, allocation_strategy="load_balanced")
        progress = self.cluster._coordinator.scheduler.progress(run.id)
        self.until(lambda: progress.count(State.DONE) > 15)
        return run, serial_results(dag)["total"]

    def between(self, one: str, other: str, there: Line, back: Line) -> None:
        self.network.set(one, other, there)
        self.network.set(other, one, back)

    def check(self, run: Run, expected: int) -> None:
        """The run ended well, once; then all is good again and all nodes work."""
        run.wait(120)
        assert run.results["total"] == expected
        stops = [event for event in run.events if event.name == FUNCTION_STOP]
        assert len(stops) == len(run.attempts) + run.recomputed
        assert max(run.attempts.values()) <= ATTEMPTS
        self.network.set_all(GOOD)
        self.wait_for_nodes()
        free = {name: {} for name in ("near", *NAMES)}
        soon(lambda: {name: node.used for name, node in self.cluster.nodes.items()} == free)
        for name in NAMES:
            dag = hl.DAG().add(hl.Function("where", os.getpid, node=name))
            assert self.cluster.execute(dag).allocations == {"where": name}


@pytest.fixture(scope="module")
def made() -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(stack)


@pytest.fixture
def site(made: Site) -> Iterator[Site]:
    yield made
    made.network.set_all(GOOD)


@pytest.fixture
def downs() -> Iterator[list[float]]:
    """When it was known that beta is gone."""
    times: list[float] = []
    hl.telemetry.attach("downs", NODE_DOWN, lambda event, numbers, facts, _: _note(times, numbers, facts))
    yield times
    hl.telemetry.detach("downs")


def _note(times: list[float], numbers: Mapping[str, float], facts: Mapping[str, object]) -> None:
    if facts["node"] == "beta":
        times.append(numbers["time"])


@pytest.mark.parametrize(("there", "back"), [(CUT, CUT), (CUT, GOOD), (GOOD, CUT)], ids=["both", "to it", "from it"])
def test_a_node_that_is_cut_off(site: Site, downs: list[float], there: Line, back: Line) -> None:
    run, expected = site.begin(seed=1)
    beta = site.network.addresses[1]
    for other in (site.network.here, site.network.addresses[0]):
        site.between(other, beta, there, back)
    cut = time.time()
    soon(lambda: downs)
    assert downs[0] - cut < LEASE_S + 3.0
    site.check(run, expected)


def test_nodes_that_cannot_reach_each_other(site: Site) -> None:
    run, expected = site.begin(seed=2)
    site.between(*site.network.addresses, CUT, CUT)
    site.check(run, expected)


def test_a_fifth_of_all_packets_is_lost(site: Site) -> None:
    run, expected = site.begin(seed=3)
    site.network.set_all(Line(loss=0.2))
    site.check(run, expected)


def test_packets_are_late_and_out_of_order(site: Site) -> None:
    run, expected = site.begin(seed=4, size=60)
    site.network.set_all(Line(delay_s=0.2, jitter_s=0.05))
    site.check(run, expected)


@pytest.mark.parametrize("seconds", [0.3, 0.8])
def test_a_line_that_flaps(site: Site, seconds: float) -> None:
    run, expected = site.begin(seed=5)
    for _ in range(3):
        site.between(site.network.here, site.network.addresses[1], CUT, CUT)
        time.sleep(seconds)
        site.between(site.network.here, site.network.addresses[1], GOOD, GOOD)
        time.sleep(seconds)
    site.check(run, expected)
