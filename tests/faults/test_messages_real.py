"""Real kernel nodes whose messages are dropped, doubled, late and out of order, to and from each other too."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

import handoff_lab as hl
from handoff_lab.backends.kernels import hub
from handoff_lab.testing.faults import Faults, faulty_sockets
from handoff_lab.testing.random_dags import random_dag, serial_results
from handoff_lab.transport.sockets import Heartbeat

pytestmark = pytest.mark.real

NAMES = ("alpha", "beta", "gamma")


@contextmanager
def faulty_node(join_file: Path, name: str, seed: int, met: set[str]) -> Iterator[None]:
    """A node that adds to ``met``, at its end, which kinds of messages met faults."""
    words = [str(seed), "--join", str(join_file), "--name", name, "--cpu", "2", "--memory", "1GB"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    start = [sys.executable, "-m", "handoff_lab.testing.faulty_node", *words]
    process = subprocess.Popen(start, env=environment, stdout=subprocess.PIPE)
    try:
        yield
        met |= set(json.loads(process.communicate(timeout=60)[0]))  # it ends, because the cluster is closed
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def cluster() -> Iterator[hl.Cluster]:
    faults = Faults(7)
    met: set[str] = set()
    with ExitStack() as stack:
        stack.enter_context(faulty_sockets(faults))
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(hub, "Heartbeat", lambda: Heartbeat(every_s=0.4, timeout_s=60.0))  # however busy the machine
        cluster = hl.Cluster({})
        for seed, name in enumerate(NAMES):
            stack.enter_context(faulty_node(cluster.join_file, name, seed, met))
        stack.enter_context(cluster)
        coordinator = cluster._coordinator
        coordinator.wait_until(lambda: len(coordinator.scheduler.nodes) == len(NAMES))
        yield cluster
    assert {"events", "question", "answer", "acknowledgement"} <= met
    assert {"submit", "load", "acknowledgement"} <= {kind for kind, _ in faults.counts}
    assert {fate for _, fate in faults.counts} == {"dropped", "doubled", "late"}


@pytest.mark.parametrize("seed", [1, 2])
def test_results_are_those_of_a_serial_run(cluster: hl.Cluster, seed: int) -> None:
    dag = random_dag(random.Random(seed), 150, pins=NAMES)
    run = cluster.execute(
        dag, targets=[id for id, f in dag.functions.items() if f.type == "regular"], allocation_strategy="load_balanced"
    )
    assert dict(run.results) == serial_results(dag)
    assert set(run.attempts.values()) == {1}
    assert run.recomputed == 0
    assert set(cluster.nodes) == set(NAMES)
