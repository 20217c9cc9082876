"""Nothing outlives its node: not slots, not what functions started, whoever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Bench

pytestmark = pytest.mark.real

# Prints the pids of agent, zygote and slots, then of what the functions in both slots started.
AGENT = """
import sys
from pathlib import Path
from handoff_lab.node.zygote import Zygote

private = Path(sys.argv[1])
zygote = Zygote.fork(remove=[private])

import cloudpickle
from handoff_lab.messages import Attempt, AttemptId, Constant, Recipe
from handoff_lab.node.lifeline import end_descendants
from handoff_lab.node.pool import SlotPool
from handoff_lab.transport.loop import Loop

class Deaf:
    def __getattr__(self, name):
        return lambda *anything: None

def start_things(directory, name):
    import os, signal, subprocess, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    popen = subprocess.Popen(["sleep", "600"])
    daemon = f"echo $$ > {directory}/{name}-daemon; exec sleep 600"
    subprocess.run(["setsid", "--fork", "sh", "-c", daemon], check=True)
    child = os.fork()
    if child == 0:
        time.sleep(600)
    with open(f"{directory}/{name}", "w") as file:
        file.write(f"{os.getpid()} {popen.pid} {child}")
    while True:  # busy, and deaf to what is polite
        try:
            while True:
                pass
        except BaseException:
            pass

loop = Loop()
def lost(reason):
    pool.close()
    end_descendants()
    loop.stop()
pool = SlotPool(loop, zygote, Deaf(), 2, lost)
pool.load({"f": cloudpickle.dumps(start_things)})
for number, name in enumerate(("one", "two")):
    recipe = Recipe((Constant(sys.argv[2]), Constant(name)))
    pool.run(Attempt(AttemptId("r", number, 1), "n", name, ("f",), recipe=recipe), [])
Path(sys.argv[2], "zygote").write_text(str(zygote.pid))
loop.run()
"""


@pytest.fixture
def agent(tmp_path: Path, eventually: Any) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, list[int]], Path]]:
    private, notes = tmp_path / "private", tmp_path / "notes"
    private.mkdir()
    notes.mkdir()
    names = ["one", "two", "one-daemon", "two-daemon", "zygote"]
    with subprocess.Popen([sys.executable, "-c", AGENT, str(private), str(notes)]) as process:
        try:
            eventually(lambda: all((notes / name).exists() and (notes / name).read_text() for name in names))
            pids = {name: [int(word) for word in (notes / name).read_text().split()] for name in names}
            yield process, pids, private
        finally:
            process.kill()


@pytest.mark.parametrize("victim", ["agent", "zygote"])
def test_sigkill_leaves_nothing(
    agent: tuple[subprocess.Popen[bytes], dict[str, list[int]], Path], victim: str, alive: Any, eventually: Any
) -> None:
    process, pids, private = agent
    everyone = [pid for group in pids.values() for pid in group]
    assert len(everyone) == 9
    assert all(map(alive, everyone))
    os.kill(process.pid if victim == "agent" else pids["zygote"][0], signal.SIGKILL)
    eventually(lambda: not any(map(alive, everyone)))
    process.wait(60)
    if victim == "agent":
        eventually(lambda: not private.exists())


def test_what_a_function_started_dies_with_its_slot_and_nothing_else_does(
    bench_of_two: Bench, tmp_path: Path, alive: Any, eventually: Any
) -> None:
    def start_and_die(path: str) -> None:
        import os
        import subprocess

        popen = subprocess.Popen(["setsid", "--fork", "sh", "-c", f"echo $$ > {path}; exec sleep 600"])
        popen.wait()
        while not (os.path.exists(path) and os.path.getsize(path)):  # noqa: PTH110, PTH202
            pass
        os._exit(1)

    def keep() -> int:
        import subprocess

        return subprocess.Popen(["sleep", "600"]).pid

    def wait_for_others() -> None:
        import time

        time.sleep(600)

    bench = bench_of_two
    kept = bench.value(bench.submit(keep))
    busy = bench.submit(wait_for_others)
    bench.wait_for(lambda: busy in bench.told.starts)
    slot_of_kept = bench.told.starts[busy].slot
    assert bench.told.ends[next(iter(bench.told.ends))].slot == slot_of_kept  # type: ignore[union-attr]
    bench.failure(bench.submit(start_and_die, inputs=[str(tmp_path / "pid")]))
    daemon = int((tmp_path / "pid").read_text())
    eventually(lambda: not alive(daemon))
    assert alive(kept)
    bench.runner.cancel(busy, "kill")
    bench.end(busy)
    eventually(lambda: not alive(kept))
