"""A real IPython kernel with the extension loaded, talked to as a front end does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from jupyter_client import BlockingKernelClient, KernelManager

PATIENCE_S = 120
# %reset looks twice through all that could be garbage, and tests reset often: modules are none.
SETTLED = "import gc, anywidget, matplotlib.pyplot, handoff_lab.notebook; gc.collect(); gc.freeze()"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Outcome:
    """What a front end sees of one executed cell."""

    status: str = ""
    ename: str = ""
    evalue: str = ""
    stdout: str = ""
    stderr: str = ""
    result: str | None = None
    traceback: str = ""
    shown: list[dict[str, Any]] = field(default_factory=list)
    updates: list[dict[str, Any]] = field(default_factory=list)

    @property
    def text(self) -> str:
        """Every text shown by display, a line each."""
        return "\n".join(bundle.get("text/plain", "") for bundle in self.shown)

    @property
    def last(self) -> dict[str, Any]:
        """What stands in the last place where something was shown."""
        return [*self.shown, *self.updates][-1]


class Notebook:
    """Executes cells in one kernel; ``cell_id`` is what JupyterLab sends along."""

    def __init__(self, client: BlockingKernelClient, manager: KernelManager) -> None:
        self.client = client
        self.manager = manager

    def run(self, source: str, cell_id: str | None = None) -> Outcome:
        """Execute a cell and gather its outputs."""
        return self.finish(self.send(source, cell_id))

    def ok(self, source: str, cell_id: str | None = None) -> Outcome:
        """Execute a cell that must succeed."""
        outcome = self.run(source, cell_id)
        assert outcome.status == "ok", f"{outcome.ename}: {outcome.evalue}\n{outcome.traceback}\n{outcome.stderr}"
        return outcome

    def refused(self, source: str, cell_id: str | None = None) -> str:
        """Execute a cell that must fail with a UsageError; hands back its message."""
        outcome = self.run(source, cell_id)
        assert (outcome.status, outcome.ename) == ("error", "UsageError"), outcome
        return outcome.evalue

    def send(self, source: str, cell_id: str | None = None) -> str:
        """Ask for a cell to be executed; ``finish`` waits for it."""
        content = {
            "code": source,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": False,
        }
        metadata = {} if cell_id is None else {"cellId": cell_id}
        message = self.client.session.msg("execute_request", content, metadata=metadata)
        self.client.shell_channel.send(message)
        return str(message["header"]["msg_id"])

    def finish(self, request: str) -> Outcome:
        """Wait until a cell is done."""
        outcome = Outcome()
        while True:
            message = self.client.get_iopub_msg(timeout=PATIENCE_S)
            if message["parent_header"].get("msg_id") != request:
                continue
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                break
            _take(outcome, message["msg_type"], message["content"])
        reply = self._reply(request)
        outcome.status = reply["status"]
        outcome.ename, outcome.evalue = reply.get("ename", ""), reply.get("evalue", "")
        return outcome

    def _reply(self, request: str) -> dict[str, Any]:
        while True:
            message = self.client.get_shell_msg(timeout=PATIENCE_S)
            if message["parent_header"].get("msg_id") == request:
                content: dict[str, Any] = message["content"]
                return content

    def value(self, expression: str) -> str:
        """What ``print(expression)`` writes."""
        return self.ok(f"print({expression})").stdout.rstrip("\n")

    def complete(self, line: str) -> list[str]:
        """What Tab offers at the end of ``line``."""
        reply = self.client.complete(line, reply=True, timeout=PATIENCE_S)
        matches: list[str] = reply["content"]["matches"]
        return matches

    def wait_for_output(self, request: str, text: str) -> None:
        """Wait until a running cell has written ``text``."""
        written = ""
        while text not in written:
            message = self.client.get_iopub_msg(timeout=PATIENCE_S)
            if message["parent_header"].get("msg_id") == request and message["msg_type"] == "stream":
                written += message["content"]["text"]


def _take(outcome: Outcome, kind: str, content: dict[str, Any]) -> None:
    if kind == "stream":
        setattr(outcome, content["name"], getattr(outcome, content["name"]) + content["text"])
    elif kind == "display_data":
        outcome.shown.append(content["data"])
    elif kind == "update_display_data":
        outcome.updates.append(content["data"])
    elif kind == "execute_result":
        outcome.result = content["data"]["text/plain"]
    elif kind == "error":
        outcome.traceback = _COLOUR.sub("", "\n".join(content["traceback"]))


@pytest.fixture(scope="package")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
    manager = KernelManager(kernel_name="python3", transport_encryption="auto")
    manager.start_kernel(cwd=str(tmp_path_factory.mktemp("notebook")))
    client = manager.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=PATIENCE_S)
        notebook = Notebook(client, manager)
        notebook.ok("%colors nocolor")
        notebook.ok(SETTLED)
        yield notebook
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=False)


@pytest.fixture
def notebook(kernel: Notebook) -> Iterator[Notebook]:
    """The kernel as after a restart: the extension just loaded, no names defined."""
    kernel.ok("%reset -f")
    kernel.ok("%load_ext handoff_lab")
    yield kernel
    kernel.ok("%unload_ext handoff_lab")


@pytest.fixture
def folder(notebook: Notebook) -> Path:
    """Where the kernel runs."""
    return Path(notebook.value("__import__('os').getcwd()"))
