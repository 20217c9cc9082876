"""What ends nodes, how soon that is known, and that nothing is left."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgpack
import numpy as np
import pytest

from handoff_lab.backends.kernels import local
from handoff_lab.messages import HERE, Failed, Failure, FailureKind, NodeLost, ResultLost, Source, Started
from handoff_lab.transport.rows import event_row
from handoff_lab.transport.sockets import LEASE_S
from tests.backends.conftest import Rig
from tests.others import PYTHON, gone, soon

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("base")]


def test_close_leaves_nothing(make_rig: Callable[..., Rig], base: Path) -> None:
    rig = make_rig(alpha={"cpu": 1}, beta={"cpu": 1})
    processes = rig.processes()
    assert len(processes) >= 4
    rig.backend.close()
    soon(gone(processes))
    soon(lambda: not list(base.iterdir()))


@pytest.mark.parametrize(
    ("number", "reason", "patience_s"),
    [
        (signal.SIGKILL, "its agent was killed by SIGKILL", 0.0),
        (signal.SIGSTOP, "still there (it answered nothing for 2 s), so the cluster killed it", LEASE_S),
    ],
)
def test_a_lost_agent_is_noticed_within_a_second_and_takes_all_with_it(
    make_rig: Callable[..., Rig], number: int, reason: str, patience_s: float
) -> None:
    def lose_alpha() -> float:
        """Seconds until that was known."""
        rig = make_rig(alpha={"cpu": 1}, beta={"cpu": 1})
        running = rig.submit(lambda: time.sleep(600))
        rig.until(lambda: rig.of(Started))
        agent = rig.backend.nodes()["alpha"].pid
        others = rig.backend.nodes()["beta"].pid
        processes = {pid for pid in rig.processes() if pid != others}
        began = time.monotonic()
        os.kill(agent, number)
        rig.until(lambda: rig.lost)
        seconds = time.monotonic() - began
        assert reason in rig.lost["alpha"].reason
        assert not rig.lost["alpha"].expected
        assert set(rig.backend.nodes()) == {"beta"}
        assert running not in rig.ends  # the loss of its node says it all
        assert rig.run(lambda: 1, "beta") == 1
        below_beta = rig.processes()
        soon(gone(processes - below_beta))
        return seconds

    # A busy machine may take a second to do anything: the best of a few.
    assert any(lose_alpha() < patience_s + 1.0 for _ in range(6))


def test_an_agent_that_stands_still_for_a_moment_is_not_lost(make_rig: Callable[..., Rig]) -> None:
    stood_s = LEASE_S
    while stood_s > 0.6 * LEASE_S:  # a busy machine may have it stand still for longer than was meant
        rig = make_rig(alpha={"cpu": 1})
        agent = rig.backend.nodes()["alpha"].pid
        begun = time.monotonic()
        os.kill(agent, signal.SIGSTOP)
        rig.until(lambda since=begun: time.monotonic() >= since + LEASE_S / 2)  # type: ignore[misc]
        os.kill(agent, signal.SIGCONT)
        stood_s = time.monotonic() - begun
    assert rig.run(lambda: 1) == 1
    assert rig.backend.nodes()["alpha"].pid == agent
    assert not rig.lost


def test_small_results_outlive_their_node_and_large_ones_do_not(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(alpha={"cpu": 1}, beta={"cpu": 1})
    small, large = rig.submit(lambda: "small"), rig.submit(lambda: np.arange(10_000))
    rig.end(small), rig.end(large)
    os.kill(rig.backend.nodes()["alpha"].pid, signal.SIGKILL)
    rig.until(lambda: rig.lost)
    assert rig.value(small, "alpha") == "small"
    lost = rig.get(large, "alpha")
    assert isinstance(lost, Failure)
    assert "node 'alpha' is gone" in lost.message
    assert rig.run(lambda x: x, "beta", [Source(small, "alpha")]) == "small"
    end = rig.end(rig.submit(len, "beta", [Source(large, "alpha")]))
    assert isinstance(end, Failed)
    assert end.failure.kind == FailureKind.INPUT


def test_a_result_is_lost_with_its_node_not_before_it(make_rig: Callable[..., Rig]) -> None:
    """Else it would be made again on a node that is dead, and that attempt would count."""
    rig = make_rig(alpha={"cpu": 1}, beta={"cpu": 1})
    made = rig.submit(lambda: np.arange(10_000), "alpha")
    rig.end(made)
    agent = rig.backend._agents._entries["alpha"].agent
    os.kill(agent.pid, signal.SIGKILL)
    soon(lambda: agent.is_ending)
    rig.backend._take("beta", msgpack.unpackb(msgpack.packb([event_row(ResultLost(made, "alpha"))])))
    told = [event for event in rig.events if isinstance(event, NodeLost | ResultLost)]
    assert [type(event) for event in told] == [NodeLost, ResultLost]
    assert "killed by SIGKILL" in told[0].reason


def test_who_waits_for_a_value_of_a_lost_node_is_told(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(alpha={"cpu": 1}, beta={"cpu": 1})
    never = rig.attempt(lambda: 1, "alpha")
    waiting = rig.submit(lambda x: x, "beta", [Source(never.id, "alpha")])
    got: list[object] = []
    rig.backend.get(never.id, "alpha", got.append)
    rig.run(lambda: None, "beta")
    os.kill(rig.backend.nodes()["alpha"].pid, signal.SIGKILL)
    assert isinstance(rig.end(waiting), Failed)
    rig.until(lambda: got)
    assert isinstance(got[0], Failure)


def test_a_node_that_dies_can_be_started_again(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(alpha={"cpu": 1})
    os.kill(rig.backend.nodes()["alpha"].pid, signal.SIGKILL)
    rig.until(lambda: rig.lost)
    rig.backend.add_node("alpha", {"cpu": 1}, {"again": "yes"})
    rig.until(rig.backend.nodes)
    assert rig.backend.nodes()["alpha"].labels == {"again": "yes"}
    assert rig.run(lambda: 1) == 1


def test_a_removed_node_ends(make_rig: Callable[..., Rig], base: Path) -> None:
    rig = make_rig(alpha={"cpu": 1})
    processes = rig.processes()
    rig.backend.remove_node("alpha")
    rig.until(lambda: rig.lost)
    assert rig.lost["alpha"].expected
    soon(gone(processes))
    soon(lambda: not list(base.glob("*/node-*")))


def test_an_agent_that_cannot_join_says_why(make_rig: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch) -> None:
    start = local.NodeOptions

    def astray(join_file: Path, *args: object, **options: object) -> local.NodeOptions:
        return start(join_file.with_name("astray.json"), *args, **options)

    monkeypatch.setattr(local, "NodeOptions", astray)
    rig = make_rig(alpha={"cpu": 1})
    reason = rig.lost["alpha"].reason
    assert "its agent ended with code 1" in reason
    assert "astray.json cannot be read: No such file or directory" in reason


def test_a_replacement_that_cannot_join_is_followed_by_another(
    make_rig: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = make_rig(alpha={"cpu": 1})
    monkeypatch.setattr(local, "JOIN_S", 0.001)
    os.kill(rig.backend.nodes()["alpha"].pid, signal.SIGSTOP)
    rig.until(lambda: [event for event in rig.of(NodeLost) if "did not join within" in event.reason])
    monkeypatch.undo()
    assert not rig.backend.nodes()
    rig.until(rig.backend.nodes)
    assert rig.run(lambda: 1) == 1


def test_a_node_that_is_to_start_again_can_be_started_at_once(
    make_rig: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = make_rig(alpha={"cpu": 1})
    monkeypatch.setattr(local, "AGAIN_S", 60.0)
    monkeypatch.setattr(local, "JOIN_S", 0.001)
    os.kill(rig.backend.nodes()["alpha"].pid, signal.SIGSTOP)
    rig.until(lambda: [event for event in rig.of(NodeLost) if "did not join within" in event.reason])
    monkeypatch.undo()
    rig.backend.add_node("alpha", {"cpu": 1}, {"by": "hand"})
    rig.until(rig.backend.nodes)
    assert rig.backend.nodes()["alpha"].labels == {"by": "hand"}


def test_an_agent_that_never_joins_is_given_up(make_rig: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "JOIN_S", 0.001)
    rig = make_rig(alpha={"cpu": 1})
    assert "it did not join within 0.001 s" in rig.lost["alpha"].reason


SCRIPT = """
import os, sys
from handoff_lab.backends.kernels import KernelBackend
from handoff_lab.node.lifeline import descendants
from handoff_lab.transport.loop import Loop

loop, there = Loop(), []
backend = KernelBackend({"alpha": {"cpu": 1}, "beta": {"cpu": 1}}, name="test")
backend.open(loop, there.extend)
while len(backend.nodes()) < 2:
    loop.run_once()
print(*descendants(os.getpid()), flush=True)
loop.run()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_end_of_the_coordinators_process_is_the_end_of_everything(base: Path, number: int) -> None:
    path = os.pathsep.join(sys.path)
    process = subprocess.Popen(
        [*PYTHON, "-c", SCRIPT], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert process.stdout is not None
    processes = set(map(int, process.stdout.readline().split()))
    assert len(processes) >= 4
    assert len(list(base.iterdir())) == 1
    process.send_signal(number)
    process.communicate()
    soon(gone(processes))
    soon(lambda: not list(base.iterdir()))


def test_what_a_function_started_ends_with_its_node(make_rig: Callable[..., Rig]) -> None:
    def start() -> int:
        import subprocess

        return subprocess.Popen(["sleep", "600"], start_new_session=True).pid

    rig = make_rig(alpha={"cpu": 1})
    pid = rig.run(start)
    rig.backend.close()
    soon(gone({pid}))


def test_an_idle_node_is_idle(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(alpha={"cpu": 1})
    replies: list[object] = []
    rig.backend.run_cell("alpha", "1", print, replies.append)  # so that the kernel has started
    rig.until(lambda: replies)
    agent = rig.backend.nodes()["alpha"].pid

    def ticks() -> int:
        fields = Path(f"/proc/{agent}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    def share() -> float:
        """Of a core, in three seconds."""
        begun, before = time.monotonic(), ticks()
        rig.until(lambda: time.monotonic() >= begun + 3)
        return (ticks() - before) / os.sysconf("SC_CLK_TCK") / (time.monotonic() - begun)

    assert any(share() < 0.02 for _ in range(3))  # a busy machine makes everything dearer
    assert HERE not in rig.backend.nodes()
