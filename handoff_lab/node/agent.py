"""The agent of a node: one thread that takes the coordinator's commands, and owns the slots, the kernel and the values."""

from __future__ import annotations

import json
import logging
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq

from handoff_lab.messages import Attempt, BackendEvent, NodeChanged, NodeLoad
from handoff_lab.node.joining import join
from handoff_lab.node.kernel import KernelProcess
from handoff_lab.node.load import Meter
from handoff_lab.node.options import NodeOptions
from handoff_lab.node.outbox import Outbox
from handoff_lab.node.pool import SlotPool
from handoff_lab.node.report import report
from handoff_lab.node.work import Work
from handoff_lab.node.zygote import Zygote
from handoff_lab.store.directory import SharedDirectory
from handoff_lab.store.memory import MemoryStore
from handoff_lab.transport.hello import Hello
from handoff_lab.transport.keys import JoinFile, KeyPair
from handoff_lab.transport.loop import Loop
from handoff_lab.transport.peers import Member, Peers
from handoff_lab.transport.rows import read_amounts, read_attempts, read_id
from handoff_lab.transport.sockets import Socket, Watch, own_address
from handoff_lab.transport.wire import TO_NODE, WireError, pack, unpack
from handoff_lab.transport.zap import Admission

log = logging.getLogger(__name__)

LOAD_S = 1.0
GOODBYE_MS = 200  # for the last message of a node that ends by itself
_LOST = zmq.EVENT_DISCONNECTED | zmq.EVENT_CONNECT_RETRIED | zmq.EVENT_HANDSHAKE_FAILED_AUTH


class Agent:
    """A node, from joining to its end."""

    def __init__(self, options: NodeOptions, zygote: Zygote) -> None:
        file = JoinFile.read(options.join_file)
        self._directory = SharedDirectory.enter(options.directory) if options.directory else SharedDirectory.create()
        private = Path(tempfile.mkdtemp(dir=self._directory.path))
        self._loop = loop = Loop()
        keys = KeyPair.generate()
        self._store = MemoryStore()
        host = options.host or own_address(file.endpoint)
        self._peers = Peers(loop, keys, Admission(loop), self._store, host)
        self._kernel = KernelProcess(loop, private)
        info = report(options, str(self._kernel.connection_file))
        self._name = info.name
        self._zygote = zygote
        self._work = Work(info.name, self._store, self._peers, self._runner, self._tell)
        self._pool = SlotPool(loop, zygote, slots=info.slots, listener=self._work)
        self._meter = Meter()
        self._hello = Hello(info, keys.public, self._peers.endpoint)
        self._join_file, self._keys = file, keys
        self._lifeline = options.lifeline
        self._socket: Socket
        self._outbox: Outbox
        self._commands: dict[str, Callable[..., None]] = {
            "peers": self._on_peers,
            "gone": self._peers.remove,
            "load": self._on_load,
            "submit": self._on_submit,
            "cancel": lambda row, how: self._work.cancel(read_id(row), how),
            "free": lambda rows: self._store.free(map(read_id, rows)),
            "capabilities": self._on_capabilities,
            "cell": self._on_cell,
            "interrupt_cell": lambda number: self._kernel.interrupt(),
            "stop": self._loop.stop,
        }

    def run(self) -> None:
        """Join, work until told to stop or left alone, and leave nothing behind."""
        try:
            self._watch_ends()
            self._join()
            self._kernel.start()
            self._loop.call_later(LOAD_S, self._measure)
            self._loop.run()
        finally:
            self._close()

    def _join(self) -> None:
        self._socket = join(self._loop, self._join_file, self._keys, self._hello)
        self._outbox = Outbox(self._loop, self._socket.send, lambda: self._work.is_idle)
        self._watch = Watch(self._loop, self._socket, _LOST, lambda event, value: self._loop.stop())
        self._loop.add_reader(self._socket, self._obey_all)
        self._loop.call_soon(self._obey_all)  # what came before the loop looked

    # -- how it ends -----------------------------------------------------------

    def _watch_ends(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        if self._lifeline is not None:  # readable means that the starter is gone: nothing is ever written to it
            self._loop.add_reader(self._lifeline, self._loop.stop)

    def _on_signal(self, number: int, frame: object) -> None:
        reason = f"it was told to end by {signal.Signals(number).name}"
        self._loop.call_soon_threadsafe(lambda: self._leave(reason))

    def _leave(self, reason: str) -> None:
        self._outbox.flush()
        self._socket.linger = GOODBYE_MS
        self._socket.send(pack("leaving", reason))
        self._loop.stop()

    def _close(self) -> None:
        self._kernel.close()
        self._pool.close()
        self._zygote.close()
        self._peers.close()
        if hasattr(self, "_socket"):
            self._watch.close()
            self._loop.remove_reader(self._socket)
            self._socket.close()
        self._loop.close()
        self._directory.leave()

    # -- commands --------------------------------------------------------------

    def _obey_all(self) -> None:
        while not self._socket.closed:
            try:
                data = self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                kind, fields = unpack(data, TO_NODE)
                self._commands[kind](*fields)
            except (WireError, KeyError) as error:
                log.error("a command of the coordinator was not understood: %s", error)

    def _on_peers(self, rows: list[Any]) -> None:
        for name, key, endpoint in rows:
            self._peers.add(Member(name, key, endpoint))

    def _on_load(self, codes: dict[str, bytes]) -> None:
        self._pool.load(codes)
        self._kernel.load(codes)

    def _on_submit(self, rows: list[Any]) -> None:
        self._work.submit(read_attempts(rows, self._name))

    def _on_capabilities(self, amounts: dict[str, Any], slots: int) -> None:
        self._pool.resize(slots)
        self._tell(NodeChanged(self._name, read_amounts(amounts), slots))

    def _on_cell(self, number: int, source: str) -> None:
        self._kernel.run_cell(
            source,
            lambda message: self._socket.send(pack("cell_output", number, _json(message))),
            lambda reply: self._socket.send(pack("cell_done", number, _json(reply))),
        )

    # -- what it tells -----------------------------------------------------------

    def _runner(self, attempt: Attempt) -> SlotPool | KernelProcess:
        return self._kernel if attempt.runs_in == "kernel" else self._pool

    def _tell(self, event: BackendEvent) -> None:
        self._outbox.add(event)

    def _measure(self) -> None:
        percent, memory = self._meter.read()
        self._tell(NodeLoad(self._name, percent, memory))
        self._loop.call_later(LOAD_S, self._measure)


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, default=str).encode()
