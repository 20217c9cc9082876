"""Cells run in the node's kernel: Jupyter messages out of and into the agent's loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import zmq

if TYPE_CHECKING:
    from handoff_lab.transport.loop import Loop, Timer

OnMessage: TypeAlias = Callable[[dict[str, Any]], None]
OnDone: TypeAlias = Callable[[dict[str, Any]], None]

SHOWN = {"stream", "display_data", "update_display_data", "execute_result", "error", "clear_output"}
KNOCK_S = 0.1  # between questions to a kernel that comes up
SILENCE_S = 5.0  # after the reply to a cell, until no more outputs of it are waited for


@dataclass(slots=True)
class _Cell:
    on_message: OnMessage
    on_done: OnDone
    reply: dict[str, Any] | None = None
    idle: bool = False
    heard: float = 0.0  # when the reply, or the latest of its outputs, came


def dead_kernel(reason: str) -> dict[str, Any]:
    """The reply to a cell whose kernel died."""
    return {"status": "error", "ename": "DeadKernelError", "evalue": reason, "traceback": []}


class Cells:
    """A client of the kernel behind ``connection_file``; cells wait until it answers."""

    def __init__(self, loop: Loop, connection_file: Path, on_ready: Callable[[], None]) -> None:
        from jupyter_client.client import KernelClient

        self._loop = loop
        self._client: Any = KernelClient(connection_file=str(connection_file), context=loop.context)
        self._client.load_connection_file()
        self._session: Any = self._client.session
        self._shell: zmq.Socket[bytes] = self._client.connect_shell()
        self._iopub: zmq.Socket[bytes] = self._client.connect_iopub()
        self._on_ready = on_ready
        self._cells: dict[str, _Cell] = {}  # by the id of the request
        self._waiting: list[tuple[str, _Cell]] = []
        self._heard: set[str] = set()  # channels that the kernel was heard on
        self._knocking: Timer | None = None
        loop.add_reader(self._shell, lambda: self._receive_all(self._shell, self._on_shell))
        loop.add_reader(self._iopub, lambda: self._receive_all(self._iopub, self._on_iopub))
        self._knock()

    @property
    def ready(self) -> bool:
        """Whether the kernel answers on both channels."""
        return self._knocking is None

    def run(self, source: str, on_message: OnMessage, on_done: OnDone) -> None:
        """Run a cell after those that were given before."""
        cell = _Cell(on_message, on_done)
        if self.ready:
            self._execute(source, cell)
        else:
            self._waiting.append((source, cell))

    def kernel_died(self, reason: str) -> None:
        """End all cells, those that waited for this kernel too, and wait for the next kernel."""
        cells = [*self._cells.values(), *(cell for _, cell in self._waiting)]
        self._cells.clear()
        self._waiting.clear()
        for cell in cells:
            cell.on_done(dead_kernel(reason))
        if self.ready:
            self._heard.clear()
            self._knock()

    def close(self) -> None:
        """Close the channels."""
        if self._knocking is not None:
            self._knocking.cancel()
        for channel in (self._shell, self._iopub):
            self._loop.remove_reader(channel)
            channel.close(linger=0)

    def _execute(self, source: str, cell: _Cell) -> None:
        content = {
            "code": source,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": False,
        }
        message = self._session.send(self._shell, "execute_request", content)
        self._cells[message["header"]["msg_id"]] = cell

    def _knock(self) -> None:
        """Ask again and again until an answer comes on both channels: a subscription takes effect late."""
        self._session.send(self._shell, "kernel_info_request", {})
        self._knocking = self._loop.call_later(KNOCK_S, self._knock)

    def _hear(self, channel: str) -> None:
        self._heard.add(channel)
        if self._knocking is not None and len(self._heard) == 2:
            self._knocking.cancel()
            self._knocking = None
            waiting, self._waiting = self._waiting, []
            for source, cell in waiting:
                self._execute(source, cell)
            self._on_ready()

    def _receive_all(self, channel: zmq.Socket[bytes], take: Callable[[dict[str, Any]], None]) -> None:
        while not channel.closed:
            message = self._session.recv(channel, zmq.NOBLOCK)[1]
            if message is None:
                return
            take(message)

    def _on_shell(self, message: dict[str, Any]) -> None:
        self._hear("shell")
        cell = self._cells.get(message["parent_header"].get("msg_id"))
        if cell is not None and message["msg_type"] == "execute_reply":
            cell.reply = message["content"]
            cell.heard = time.monotonic()
            self._finish(message, cell)
            self._await_silence(message, cell)

    def _on_iopub(self, message: dict[str, Any]) -> None:
        if message["msg_type"] != "iopub_welcome":
            self._hear("iopub")
        cell = self._cells.get(message["parent_header"].get("msg_id"))
        if cell is None:
            return
        cell.heard = time.monotonic()
        kind, content = message["msg_type"], message["content"]
        if kind in SHOWN:
            cell.on_message({"type": kind, "content": content, "metadata": message["metadata"]})
        elif kind == "status" and content["execution_state"] == "idle":
            cell.idle = True
            self._finish(message, cell)

    def _finish(self, message: dict[str, Any], cell: _Cell) -> None:
        """Outputs and reply come over different channels: a cell is done when both are."""
        if cell.reply is not None and cell.idle:
            del self._cells[message["parent_header"]["msg_id"]]
            cell.on_done(cell.reply)

    def _await_silence(self, message: dict[str, Any], cell: _Cell) -> None:
        """A kernel that says more than is taken from it drops some, that a cell is idle too: then silence tells."""
        if self._cells.get(message["parent_header"]["msg_id"]) is not cell:
            return  # it is done
        left = cell.heard + SILENCE_S - time.monotonic()
        if left > 0:
            self._loop.call_later(left, lambda: self._await_silence(message, cell))
        else:
            cell.idle = True
            self._finish(message, cell)
