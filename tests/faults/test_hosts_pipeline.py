"""Four hosts with two nodes each run the image pipeline: results go from host to host, and one host is cut off."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

import handoff_lab as hl
from handoff_lab.examples.images import pipeline
from handoff_lab.telemetry.events import TRANSFER_STOP
from handoff_lab.testing.hosts import CUT, Network, why_no_hosts
from handoff_lab.testing.relay import GOOD, Line
from tests.others import soon

pytestmark = [pytest.mark.real, pytest.mark.skipif(why_no_hosts() is not None, reason=str(why_no_hosts()))]

HOSTS = ("ada", "bob", "cyd", "dan")
NODES = [f"{host}-{number}" for host in HOSTS for number in (1, 2)]
CAPABILITIES = ["--cpu", "2", "--memory", "2GB", "--gpu", "1", "--resource", "fpga=1"]
PHOTOS = 6
SIZE = (300, 200)
WEAK = Line(loss=0.005, delay_s=0.003, jitter_s=0.002, bandwidth=10e6)


class Site:
    """A cluster whose nodes are on four hosts, none of them the coordinator's."""

    def __init__(self, stack: ExitStack) -> None:
        self.network = stack.enter_context(Network(len(HOSTS), subnet="10.213.9"))
        self.cluster = stack.enter_context(hl.Cluster({}, host=self.network.here))
        self._stack = stack
        for name in NODES:
            self.start(name)
        self.wait_for(NODES)

    def start(self, name: str, *options: str) -> None:
        """Start a node on the host of which its name tells."""
        words = ["--join", str(self.cluster.join_file), "--name", name, *CAPABILITIES, *options]
        command = self.network.command(self.address(name), [sys.executable, "-m", "handoff_lab.node", *words])
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        agent = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        self._stack.callback(agent.wait)
        self._stack.callback(agent.terminate)

    def address(self, name: str) -> str:
        return self.network.addresses[HOSTS.index(name[:3])]

    def wait_for(self, names: list[str]) -> None:
        soon(lambda: sorted(self.cluster.nodes) == names, story=lambda: sorted(self.cluster.nodes))

    def draw(self, host: str, line: Line) -> None:
        """Have all ways to and from a host be so."""
        address = self.address(host)
        for other in {self.network.here, *self.network.addresses} - {address}:
            self.network.set(address, other, line)
            self.network.set(other, address, line)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(stack)


@pytest.fixture(scope="module")
def dag() -> hl.DAG:
    return pipeline(PHOTOS, SIZE)


@pytest.fixture(scope="module")
def report(dag: hl.DAG) -> Any:
    return hl.execute_local(dag).results["quality_report"]


def test_results_go_from_host_to_host(site: Site, dag: hl.DAG, report: Any) -> None:
    site.network.set_all(WEAK)
    before = site.network.nbytes
    run = site.cluster.execute(dag, allocation_strategy="load_balanced", wait_for_capacity=True)
    through = site.network.nbytes - before
    site.network.set_all(GOOD)
    assert run.results["quality_report"] == report
    assert {node[:3] for node in run.allocations.values()} == set(HOSTS)
    moved = [event for event in run.events if event.name == TRANSFER_STOP]
    between = [e for e in moved if e.metadata["source"][:3] != e.metadata["target"][:3]]
    nbytes = sum(event.measurements["nbytes"] for event in between)
    assert through < nbytes / 5, f"{through} bytes went through the coordinator, {nbytes} from host to host"


def test_a_host_that_is_cut_off_comes_back(site: Site, dag: hl.DAG, report: Any) -> None:
    run = site.cluster.submit(dag, allocation_strategy="load_balanced", wait_for_capacity=True)
    soon(lambda: run.allocations)
    lost = [name for name in run.allocations.values() if name.startswith("dan")]
    assert lost
    soon(lambda: len(run.durations) > PHOTOS)
    site.draw("dan", CUT)
    site.wait_for(NODES[:6])
    assert run.wait(120).results["quality_report"] == report
    site.draw("dan", GOOD)
    site.wait_for(NODES)
    dag = hl.DAG().add(*[hl.Function(name, os.getpid, node=name) for name in NODES])
    assert site.cluster.execute(dag).allocations == {name: name for name in NODES}


def test_a_node_behind_a_router_only_dials_out(site: Site) -> None:
    dan = site.address("dan")
    for other in {site.network.here, *site.network.addresses} - {dan}:
        site.network.set(other, dan, Line(open=False))
    site.start("dan-3", "--behind-nat")
    site.wait_for([*NODES, "dan-3"])
    dag = hl.DAG().add(
        hl.Function("made", lambda: bytes(range(256)) * 2**13, node="dan-3"),
        hl.Function("there", lambda made: made[::-1], args=["made"], node="ada-1"),
        hl.Function("back", lambda there: there[::-1], args=["there"], node="dan-3"),
        hl.Function("small", lambda: 1, node="dan-3"),
    )
    run = site.cluster.execute(dag)
    results = run.results
    assert results["back"] == results["made"] == bytes(range(256)) * 2**13
    assert results["small"] == 1
    assert run.recomputed == 0
    site.cluster.remove_node("dan-3")
    site.network.set_all(GOOD)
