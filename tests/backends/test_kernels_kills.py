"""Kill what you like: what functions started ends with it, and so does everything else that has no reason to stay."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.others import PYTHON, soon, stories

pytestmark = pytest.mark.real

# A notebook's process: functions in a slot and in the kernel start a child, one in a session of its own, and a daemon.
NOTEBOOK = """
import json, os, signal, sys
import handoff_lab as hl
from handoff_lab.node.lifeline import descendants

def start_things(by):
    import os, subprocess
    environment = {**os.environ, "STARTED_BY": by}
    subprocess.Popen(["sleep", "600"], env=environment)
    subprocess.Popen(["sleep", "600"], env=environment, start_new_session=True)
    subprocess.run(["setsid", "--fork", "sleep", "600"], env=environment, check=True)
    return os.getpid(), os.getppid()

cluster = hl.Cluster({"alpha": {"cpu": 1}})
agent = cluster.nodes["alpha"].pid
(reaper,) = descendants(os.getpid(), keep=[agent])
results = cluster.execute(hl.DAG("start").add(
    hl.Function("slot", start_things, extra_args=["slot"]),
    hl.Function("kernel", start_things, extra_args=["kernel"], runs_in="kernel"),
)).results
pids = {"notebook": os.getpid(), "agent": agent, "reaper": reaper}
pids["slot"], pids["zygote"] = results["slot"]
pids["kernel"], pids["guard"] = results["kernel"]
if sys.argv[1:]:
    pids["fork"] = os.fork()
if all(pids.values()):
    print(json.dumps(pids), flush=True)
signal.pause()
"""


class Notebook:
    """A notebook's process with a cluster, and everything below it, however far away."""

    def __init__(self, code: str, base: Path, *words: str) -> None:
        self._mark = f"HANDOFF_LAB_TEST={secrets.token_hex(8)}"
        name, _, value = self._mark.partition("=")
        path = os.pathsep.join(map(str, sys.path))
        self.process = subprocess.Popen(
            [*PYTHON, "-c", code, *words],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path, "XDG_RUNTIME_DIR": str(base), name: value},
        )
        assert self.process.stdout is not None
        self.pids: dict[str, int] = json.loads(self.process.stdout.readline())

    def living(self, mark: str = "") -> set[int]:
        """The processes that inherited the notebook's environment, and ``mark`` with it."""
        wanted = {self._mark.encode(), *filter(None, [mark.encode()])}
        found = set()
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if wanted <= set((path / "environ").read_bytes().split(b"\0")):  # a zombie has none
                    found.add(int(path.name))
        return found

    def end(self) -> None:
        self.process.kill()
        for pid in self.living():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.communicate()


@pytest.fixture
def open_notebook(base: Path) -> Iterator[Callable[..., Notebook]]:
    notebooks: list[Notebook] = []

    def start(*words: str, code: str = NOTEBOOK) -> Notebook:
        notebooks.append(Notebook(code, base, *words))
        return notebooks[-1]

    yield start
    for notebook in notebooks:
        notebook.end()


@pytest.mark.parametrize(
    ("victim", "number", "survivors"),
    [
        ("notebook", signal.SIGKILL, set()),
        ("notebook", signal.SIGTERM, set()),
        ("agent", signal.SIGKILL, {"notebook", "reaper"}),
        ("agent", signal.SIGTERM, {"notebook", "reaper"}),
        ("zygote", signal.SIGKILL, {"notebook", "reaper"}),
        ("slot", signal.SIGKILL, {"notebook", "reaper", "agent", "zygote", "kernel", "guard"}),
        ("kernel", signal.SIGKILL, {"notebook", "reaper", "agent", "zygote", "slot"}),
        ("guard", signal.SIGKILL, {"notebook", "reaper", "agent", "zygote", "slot"}),
    ],
)
def test_what_functions_started_ends_with_what_was_killed(
    open_notebook: Callable[..., Notebook], base: Path, victim: str, number: int, survivors: set[str]
) -> None:
    notebook = open_notebook()
    # A process has no environment for a moment while it becomes another program.
    soon(
        lambda: [len(notebook.living(f"STARTED_BY={by}")) for by in ("slot", "kernel")] == [3, 3], story=notebook.living
    )
    started = {by: notebook.living(f"STARTED_BY={by}") for by in ("slot", "kernel")}
    remaining = {notebook.pids[name] for name in survivors}
    remaining |= {pid for by, pids in started.items() if by in survivors for pid in pids}
    before = notebook.living()
    os.kill(notebook.pids[victim], number)
    soon(lambda: before & notebook.living() <= remaining, story=lambda: stories(before & notebook.living()))
    assert remaining <= notebook.living()
    notebook.process.kill()
    soon(lambda: not notebook.living(), story=lambda: stories(notebook.living()))
    soon(lambda: not list(base.iterdir()), story=lambda: list(base.rglob("*")))


def test_a_forked_child_of_the_notebook_keeps_nothing_alive(open_notebook: Callable[..., Notebook], base: Path) -> None:
    notebook = open_notebook("fork")
    child = notebook.pids["fork"]
    os.kill(notebook.pids["notebook"], signal.SIGKILL)
    soon(lambda: notebook.living() == {child}, story=lambda: stories(notebook.living()))
    soon(lambda: not list(base.iterdir()), story=lambda: list(base.rglob("*")))


def test_the_directory_goes_with_the_last_when_notebook_and_agent_are_killed_at_once(
    open_notebook: Callable[..., Notebook], base: Path
) -> None:
    notebook = open_notebook()
    for victim in ("notebook", "agent"):
        os.kill(notebook.pids[victim], signal.SIGKILL)
    soon(lambda: not notebook.living(), story=lambda: stories(notebook.living()))
    soon(lambda: not list(base.iterdir()), story=lambda: list(base.rglob("*")))


def test_a_cluster_without_kernels_leaves_no_directory_when_it_is_killed(
    open_notebook: Callable[..., Notebook], base: Path
) -> None:
    code = (
        "import signal, handoff_lab as hl\nhl.register_local_node({'cpu': 1})\nprint('{}', flush=True)\nsignal.pause()"
    )
    notebook = open_notebook(code=code)
    notebook.process.kill()
    soon(lambda: not notebook.living(), story=lambda: stories(notebook.living()))
    assert not list(base.iterdir())
