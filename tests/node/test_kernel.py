"""The node's kernel: attempts in its namespace, cells with their outputs, and its death."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from handoff_lab.messages import Cancelled, Failed, FailureKind, Finished
from handoff_lab.node.kernel import KernelProcess
from handoff_lab.transport.loop import Loop
from tests.others import soon

if TYPE_CHECKING:
    from conftest import Bench

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def kernel_bench() -> Iterator[Any]:
    """One kernel for the tests of this module, each of which leaves it usable."""
    from types import SimpleNamespace

    with tempfile.TemporaryDirectory(prefix="hl") as name:
        loop = Loop()
        kernel = KernelProcess(loop, Path(name))
        yield SimpleNamespace(loop=loop, kernel=kernel)
        kernel.close()
        loop.close()
        assert list(Path(name).iterdir()) == []


@pytest.fixture
def bench(kernel_bench: Any, bench_class: type[Bench], told: Any) -> Bench:
    """The kernel, with a listener of this test's own."""
    if not hasattr(kernel_bench, "front"):
        kernel_bench.front = Front()
        kernel_bench.kernel.start(kernel_bench.front)
        kernel_bench.bench = bench_class(kernel_bench.loop, kernel_bench.kernel, told)
    kernel_bench.front.told = kernel_bench.bench.told = told
    bench: Bench = kernel_bench.bench
    return bench


class Front:
    """Hands on to the listener of the present test."""

    told: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.told, name)


class Cell:
    """A cell that was run, and what came of it."""

    def __init__(self, bench: Bench, source: str) -> None:
        self.outputs: list[dict[str, Any]] = []
        self.replies: list[dict[str, Any]] = []
        self._bench = bench
        bench.runner.run_cell(source, self.outputs.append, self.replies.append)

    def reply(self) -> dict[str, Any]:
        self._bench.wait_for(lambda: self.replies)
        (reply,) = self.replies
        return reply

    def text(self) -> str:
        self.reply()
        return "".join(output["content"]["text"] for output in self.outputs if output["type"] == "stream")


def function(source: str, name: str = "f") -> Any:
    """A function as it comes from a notebook."""
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(source, names)
    return names[name]


def test_functions_and_cells_share_a_namespace(bench: Bench) -> None:
    Cell(bench, "model = 20").reply()
    assert (
        bench.value(bench.submit(function("def f(x):\n global made\n made = model + x\n return made"), inputs=[1]))
        == 21
    )
    assert Cell(bench, "print(made)").text() == "21\n"


def test_another_client_sees_the_same_namespace(bench: Bench) -> None:
    bench.value(bench.submit(function("def f():\n global seen\n seen = 'by a function'")))
    client = (
        "import sys\nfrom jupyter_client.blocking import BlockingKernelClient\n"
        "client = BlockingKernelClient(connection_file=sys.argv[1])\nclient.load_connection_file()\n"
        "client.start_channels()\nclient.wait_for_ready(timeout=60)\n"
        "client.execute_interactive('print(seen)', timeout=60)\nclient.stop_channels()\n"
    )
    path = bench.runner.connection_file
    ran = subprocess.run([sys.executable, "-c", client, str(path)], capture_output=True, text=True, timeout=180)
    assert ran.stdout == "by a function\n", ran.stderr


def test_its_channels_are_private_and_encrypted(bench: Bench) -> None:
    Cell(bench, "None").reply()
    path = bench.runner.connection_file
    assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    info = json.loads(path.read_text())
    assert info["transport"] == "ipc"
    assert info["curve_publickey"]


def test_a_cell_streams_its_outputs(bench: Bench) -> None:
    source = (
        "import sys\nfrom IPython.display import display, HTML\n"
        "print('out')\nprint('err', file=sys.stderr)\ndisplay(HTML('<b>x</b>'))\n6 * 7"
    )
    cell = Cell(bench, source)
    assert cell.reply()["status"] == "ok"
    by_type = {output["type"]: output["content"] for output in cell.outputs}
    assert by_type["display_data"]["data"]["text/html"] == "<b>x</b>"
    assert by_type["execute_result"]["data"]["text/plain"] == "42"
    streams = {"stdout": "", "stderr": ""}
    for output in cell.outputs:  # each may come in parts
        if output["type"] == "stream":
            streams[output["content"]["name"]] += output["content"]["text"]
    assert streams == {"stdout": "out\n", "stderr": "err\n"}


def test_a_cell_that_says_more_than_is_taken_ends_all_the_same(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("handoff_lab.node.cells.SILENCE_S", 0.2)
    Cell(bench, "None").reply()
    said = tmp_path / "said"
    cell = Cell(bench, f"import pathlib\nfor n in range(5_000):\n    display(n)\npathlib.Path({str(said)!r}).touch()")
    soon(said.exists)  # the loop stands still meanwhile
    assert cell.reply()["status"] == "ok"
    assert 0 < len(cell.outputs) < 5_000
    assert Cell(bench, "print('still here')").text() == "still here\n"


def test_an_error_in_a_cell_does_not_stop_the_next(bench: Bench) -> None:
    first, second = Cell(bench, "1 / 0"), Cell(bench, "print('still here')")
    assert first.reply()["ename"] == "ZeroDivisionError"
    assert [output["type"] for output in first.outputs] == ["error"]
    assert second.text() == "still here\n"


def test_a_cell_is_interrupted(bench: Bench) -> None:
    cell = Cell(bench, "print('begun')\nimport time\ntime.sleep(600)")
    bench.wait_for(lambda: cell.outputs)
    bench.runner.interrupt()
    assert cell.reply()["ename"] == "KeyboardInterrupt"


def test_the_log_of_a_function_is_its_own(bench: Bench) -> None:
    say = function("def f():\n import os\n print('print')\n os.system('echo child')")
    id = bench.submit(say)
    cell = Cell(bench, "print('cell')")
    end = bench.end(id)
    assert end.log == "print\nchild\n"
    assert cell.text() == "cell\n"


def test_an_attempt_is_interrupted_and_an_interrupt_of_cells_spares_it(bench: Bench) -> None:
    Cell(bench, "None").reply()
    sleep = function("def f():\n import time\n print('begun')\n time.sleep(600)")
    id = bench.submit(sleep)
    bench.wait_for(lambda: "begun" in bench.told.texts.get(id, ""))
    bench.runner.interrupt()
    sent = threading.Event()

    async def tell() -> None:
        sent.set()

    bench.runner._launcher._submit(tell(), lambda: None)  # has its turn after the interrupt
    alive_until = time.monotonic() + 0.3
    bench.wait_for(lambda: sent.is_set() and time.monotonic() > alive_until)
    assert id not in bench.told.ends
    bench.runner.cancel(id)
    assert isinstance(bench.end(id), Cancelled)
    assert Cell(bench, "print('fine')").text() == "fine\n"


def test_one_attempt_at_a_time(bench: Bench) -> None:
    nap = function("def f():\n import time\n time.sleep(0.02)")
    ends = [bench.end(id) for id in [bench.submit(nap) for _ in range(4)]]
    assert all(isinstance(end, Finished) for end in ends)
    # One that was sent along as if it were brief may be taken back, and come last.
    for before, after in pairwise(sorted(ends, key=lambda end: end.started)):  # type: ignore[arg-type, return-value]
        assert before.ended <= after.started  # type: ignore[operator]


def test_a_kernel_that_dies_fails_what_ran_and_comes_back(bench: Bench) -> None:
    Cell(bench, "gone = 1").reply()
    pid = bench.runner.pid
    end = bench.end(bench.submit(function("def f():\n import os\n os._exit(9)")))
    assert isinstance(end, Failed)
    assert end.failure.kind is FailureKind.DIED
    assert "exit code 9" in end.failure.message
    assert Cell(bench, "gone").reply()["ename"] == "NameError"
    assert bench.runner.pid not in (None, pid)
    cell = Cell(bench, "import os\nos.kill(os.getpid(), 9)")
    assert cell.reply()["ename"] == "DeadKernelError"
    assert "SIGKILL" in cell.reply()["evalue"]
    assert Cell(bench, "print('back')").text() == "back\n"


def test_what_cells_started_ends_with_the_kernel(bench: Bench, alive: Any) -> None:
    source = "import os, subprocess\nprint(subprocess.Popen(['setsid', 'sleep', '600']).pid)"
    started = int(Cell(bench, source).text())
    kernel = bench.runner.pid
    assert kernel is not None
    os.kill(kernel, signal.SIGKILL)
    bench.wait_for(lambda: not alive(started) and bench.runner.pid not in (None, kernel))
    assert Cell(bench, "print('back')").text() == "back\n"


def test_a_kernel_ends_with_its_agent(alive: Any, eventually: Any) -> None:
    agent = (
        "import sys\nfrom pathlib import Path\nfrom handoff_lab.node.kernel import KernelProcess\n"
        "from handoff_lab.transport.loop import Loop\nloop = Loop()\nkernel = KernelProcess(loop, Path(sys.argv[1]))\n"
        "class Deaf:\n    def __getattr__(self, name):\n        return lambda *anything: None\n"
        "kernel.start(Deaf())\nsource = 'import os, subprocess\\nprint(os.getpid(), os.getppid(), "
        'subprocess.Popen(["sleep", "600"]).pid)\'\n'
        "kernel.run_cell(source, lambda message: print(message['content']['text'], flush=True), print)\nloop.run()\n"
    )
    with (
        tempfile.TemporaryDirectory(prefix="hl") as private,
        subprocess.Popen([sys.executable, "-c", agent, private], stdout=subprocess.PIPE, text=True) as process,
    ):
        assert process.stdout is not None
        pids = [int(word) for word in process.stdout.readline().split()]
        assert len(pids) == 3
        process.kill()
        process.stdout.read()  # its end: everyone who held it is gone
        eventually(lambda: not any(map(alive, pids)))
        eventually(lambda: not list(Path(private).iterdir()))
