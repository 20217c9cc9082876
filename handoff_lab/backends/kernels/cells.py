"""Cells that run in the nodes' kernels, and who waits for their output."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from handoff_lab.transport.wire import WireError, pack

Content: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Cell:
    node: str
    on_message: Callable[[Content], None]
    on_done: Callable[[Content], None]


class Cells:
    """The cells that run now, on any node, by number."""

    def __init__(self, send: Callable[[str, bytes], None]) -> None:
        self._send = send
        self._cells: dict[int, _Cell] = {}
        self._numbers = itertools.count()

    def run(
        self, node: str, source: str, on_message: Callable[[Content], None], on_done: Callable[[Content], None]
    ) -> None:
        """Run a cell; ``on_done`` takes the content of the kernel's reply, or says that the node was lost."""
        number = next(self._numbers)
        message = pack("cell", number, source)  # first: it may be no Unicode
        self._cells[number] = _Cell(node, on_message, on_done)
        self._send(node, message)

    def interrupt(self, node: str) -> None:
        """Interrupt what runs in a node's kernel."""
        for number, cell in self._cells.items():
            if cell.node == node:
                self._send(node, pack("interrupt_cell", number))

    def received(self, node: str, kind: str, number: int, data: bytes) -> None:
        """Hand on what a kernel said."""
        cell = self._cells.get(number)
        if cell is None or cell.node != node:
            return
        content = _parse(data)
        if kind == "cell_output":
            cell.on_message(content)
        else:
            del self._cells[number]
            cell.on_done(content)

    def lost(self, node: str, reason: str) -> None:
        """A node is gone: its cells fail."""
        for number, cell in list(self._cells.items()):
            if cell.node == node:
                self._fail(number, "NodeLostError", f"node {node!r} was lost: {reason}")

    def close(self) -> None:
        """All cells that still run fail."""
        for number in list(self._cells):
            self._fail(number, "BackendError", "the cluster was closed before the cell was done")

    def _fail(self, number: int, ename: str, evalue: str) -> None:
        self._cells.pop(number).on_done({"status": "error", "ename": ename, "evalue": evalue, "traceback": [evalue]})


def _parse(data: bytes) -> Content:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        raise WireError("no JSON") from None
    if not isinstance(content, dict):
        raise WireError("no Jupyter message")
    return content
