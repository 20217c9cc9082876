"""The agent of a node: one thread that takes commands, and owns the slots, the kernel and the values."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from handoff_lab._units import format_bytes
from handoff_lab.messages import (
    Attempt,
    AttemptId,
    BackendEvent,
    Cancelled,
    Failed,
    Finished,
    HowToEnd,
    NodeChanged,
    NodeLoad,
    Started,
)
from handoff_lab.node.control import Control
from handoff_lab.node.gpu_slots import GpuSlots
from handoff_lab.node.gpu_watch import GpuWatch
from handoff_lab.node.joining import join, way_in
from handoff_lab.node.kernel import KernelProcess
from handoff_lab.node.launchers import SharedZygote
from handoff_lab.node.lifeline import arm, end_descendants
from handoff_lab.node.load import Meter
from handoff_lab.node.options import NodeOptions
from handoff_lab.node.pool import SlotPool
from handoff_lab.node.report import gpus_of, report, store_limit_of
from handoff_lab.node.room import Room
from handoff_lab.node.tether import Tether
from handoff_lab.node.work import Work
from handoff_lab.node.zygote import Zygote
from handoff_lab.resources.devices import need_of
from handoff_lab.resources.gpus import order, sight_of
from handoff_lab.store.spilling import SpillingStore
from handoff_lab.transport.hello import Hello
from handoff_lab.transport.keys import KeyPair
from handoff_lab.transport.loop import Loop
from handoff_lab.transport.peers import Peers, read_members
from handoff_lab.transport.rows import read_amounts, read_attempts, read_id, read_keys
from handoff_lab.transport.sockets import Socket, own_address
from handoff_lab.transport.wire import FROM_NODE_LIMIT, TEXT_LIMIT
from handoff_lab.transport.zap import Admission

LOAD_S = 1.0
OUTPUT_LIMIT = FROM_NODE_LIMIT // 2  # bytes of one output of a cell, or of its reply


class Agent:
    """A node, from joining to its end."""

    def __init__(self, options: NodeOptions, zygote: Zygote, private: Path) -> None:
        self._join_file = way_in(options)
        self._lifeline = options.lifeline
        self._loop = loop = Loop()
        self._keys = KeyPair.generate()
        host = None if options.behind_nat else options.host or own_address(self._join_file.endpoint)
        self._kernel = KernelProcess(loop, private, lambda: end_descendants(keep=[zygote.pid]))
        self._info = info = report(options, str(self._kernel.connection_file))
        self._store = SpillingStore(store_limit_of(options, info.capabilities), loop.call_soon_threadsafe)
        self._peers = Peers(loop, self._keys, Admission(loop), self._store, host)
        self._peers.open_mailbox(private / "mailbox")
        self._work = Work(info.name, self._store, self._peers, self._runner, self._tell)
        self._room = Room(info.capabilities, lambda: self._store.is_full)
        self._store.on_room(self._room.tell)
        self._store.on_room(self._work.fetch_more)
        self._gpus: GpuSlots | None = None
        self._gpu_watch: GpuWatch | None = None
        self._pool = self._open_pool(zygote)
        self._runners = [runner for runner in (self._pool, self._gpus, self._kernel) if runner is not None]
        self._meter = Meter()
        self._tether = Tether(loop, self._join_file, self._keys, self._hello, self._come_back, options.lifeline)
        self._codes: set[str] = set()  # keys of what was loaded
        self._doubtful: set[AttemptId] = set()  # what was here before the present coordinator came
        self._fenced: set[AttemptId] = set()  # those of them that are being ended: nobody wants to hear of them
        self._control: Control | None = None
        self._commands: dict[str, Callable[..., None]] = {
            "peers": self._on_peers,
            "gone": self._peers.remove,
            "load": self._on_load,
            "submit": lambda rows: self._work.submit(read_attempts(rows, info.name)),
            "unload": self._on_unload,
            "cancel": self._on_cancel,
            "forget": self._on_forget,
            "free": lambda run, *columns: self._free(read_keys(run, *columns)),
            "capabilities": self._on_capabilities,
            "cell": self._on_cell,
            "interrupt_cell": lambda number: self._kernel.interrupt(),
            "lease": self._on_lease,
            "keep": self._on_keep,
            "stop": loop.stop,
        }

    def run(self) -> None:
        """Join, work until told to stop or left alone, and leave nothing behind."""
        try:
            self._watch_ends()
            self._connect(join(self._loop, self._join_file, self._keys, self._hello(), self._lifeline))
            self._kernel.start(self._gpus or self._work, self._room)
            self._loop.call_later(LOAD_S, self._measure)
            self._loop.run()
        finally:
            self._close()

    def _open_pool(self, zygote: Zygote) -> SlotPool:
        """The slots; of a node that hands out GPUs, those for functions that claim none."""
        loop, info = self._loop, self._info
        gpus = gpus_of(info.capabilities)
        if not gpus:
            return SlotPool(loop, zygote, self._work, info.slots, self._on_zygote_lost, self._room, self._work)
        os.environ.update(order())  # for the kernel
        shared = SharedZygote(loop, zygote, self._on_zygote_lost)
        self._gpus = GpuSlots(
            loop, shared, self._work, self._kernel, self._room, gpus, info.capabilities["gpu"], info.slots
        )
        self._gpu_watch = GpuWatch(LOAD_S)
        blind = shared.launcher(sight_of(()))
        return SlotPool(loop, blind, self._work, info.slots, self._on_zygote_lost, self._room, self._work)

    # -- its coordinator -------------------------------------------------------

    def _hello(self) -> Hello:
        return Hello(self._info, self._keys.public, self._peers.endpoint)

    def _connect(self, socket: Socket) -> None:
        self._control = Control(self._loop, socket, self._obey, self._work.is_urgent, self._on_lost, self._endures)

    def _endures(self) -> bool:
        """Whether a coordinator that is not there has not ended: the lifeline would tell."""
        return self._lifeline is not None and self._tether.memory is None

    def _on_lost(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
            if self._tether.memory is None:
                self._forsake()
            self._tether.lost()

    def _forsake(self) -> None:
        """Nobody wants what is here any more: this node has been given up."""
        self._end(set(self._work.attempts))
        self._free(self._store.keys())
        self._peers.remove_all()
        self._on_unload(list(self._codes))

    def _come_back(self, socket: Socket) -> None:
        """Say what is here; what is not to be kept goes, however late the answer comes."""
        self._connect(socket)
        if (memory := self._tether.memory) is not None:
            self._doubtful = {*self._work.attempts, *memory.finished}
            for rows in memory.messages(self._work.running):
                self._send("held", *rows)

    def _on_lease(self, lease_ms: int) -> None:
        self._tether.extend(lease_ms / 1000)
        if self._lifeline is not None:
            self._loop.remove_reader(self._lifeline)

    def _on_keep(self, rows: list[Any]) -> None:
        dropped = self._doubtful.difference(map(read_id, rows))
        self._doubtful = set()
        attempts = dropped.intersection(self._work.attempts)
        self._end(attempts)
        self._free(list(dropped - attempts))

    def _end(self, attempts: set[AttemptId]) -> None:
        """End attempts that are nobody's."""
        self._fenced |= attempts
        for id in attempts:
            self._work.cancel(id, "interrupt")

    # -- how it ends -----------------------------------------------------------

    def _watch_ends(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        if self._lifeline is not None:  # readable means that the starter is gone: nothing is ever written to it
            arm(self._lifeline, signal.SIGCONT)
            self._loop.add_reader(self._lifeline, self._loop.stop)

    def _on_signal(self, number: int, frame: object) -> None:
        if self._control is None:
            sys.exit(128 + number)  # it is still joining: the loop does not run yet
        reason = f"it was told to end by {signal.Signals(number).name}"
        self._loop.call_soon_threadsafe(lambda: self._leave(reason))

    def _on_zygote_lost(self, reason: str) -> None:
        end_descendants()  # before anything else: there is nobody any more who would do it if this process were killed
        self._leave(reason)

    def _leave(self, reason: str) -> None:
        if self._control is not None:
            self._control.leave(reason)
        else:
            self._loop.stop()

    def _close(self) -> None:
        for runner in reversed(self._runners):
            runner.close()
        if self._gpu_watch is not None:
            self._gpu_watch.close()
        self._peers.close()
        self._store.close()
        if self._control is not None:
            self._control.close()
        self._loop.close()

    # -- commands --------------------------------------------------------------

    def _obey(self, kind: str, fields: list[Any]) -> None:
        self._commands[kind](*fields)

    def _on_peers(self, rows: list[Any]) -> None:
        for member in read_members(rows):
            self._peers.add(member)

    def _on_load(self, codes: dict[str, bytes]) -> None:
        self._codes.update(codes)
        for runner in self._runners:
            runner.load(codes)

    def _on_unload(self, keys: list[str]) -> None:
        self._codes.difference_update(keys)
        for runner in self._runners:
            runner.unload(keys)

    def _on_cancel(self, rows: list[Any], how: HowToEnd) -> None:
        for row in rows:
            self._work.cancel(read_id(row), how)

    def _on_capabilities(self, amounts: dict[str, Any], slots: int) -> None:
        capabilities = read_amounts(amounts)
        self._room.resize(capabilities)
        self._pool.resize(slots)
        if self._gpus is not None:
            self._gpus.resize(capabilities.get("gpu", 0), slots)
        self._info = replace(self._info, capabilities=capabilities, slots=slots)
        self._tell(NodeChanged(self._info.name, capabilities, slots))

    def _free(self, keys: list[AttemptId]) -> None:
        self._work.free(keys)
        if self._tether.memory is not None:
            self._tether.memory.free(keys)

    def _on_forget(self, run: str) -> None:
        self._work.forget(run)
        if self._tether.memory is not None:
            self._tether.memory.forget(run)

    def _on_cell(self, number: int, source: str) -> None:
        self._kernel.run_cell(
            source,
            lambda message: self._send("cell_output", number, _output(message)),
            lambda reply: self._send("cell_done", number, _reply(reply)),
        )

    # -- what it tells -----------------------------------------------------------

    def _runner(self, attempt: Attempt) -> SlotPool | KernelProcess | GpuSlots:
        if self._gpus is not None and need_of(attempt.cost):
            return self._gpus
        return self._kernel if attempt.runs_in == "kernel" else self._pool

    def _tell(self, event: BackendEvent) -> None:
        if self._tether.memory is not None:
            self._tether.memory.note(event)
        if self._fenced and isinstance(event, Started | Finished | Failed | Cancelled) and event.id in self._fenced:
            if not isinstance(event, Started):
                self._fenced.discard(event.id)
                self._free([event.id])
            return
        if self._control is not None:
            self._control.tell(event)

    def _send(self, kind: str, *fields: Any) -> None:
        if self._control is not None:
            self._control.send(kind, *fields)

    def _measure(self) -> None:
        percent, memory = self._meter.read()
        gpus = self._gpu_watch.loads(self._gpus.functions) if self._gpus and self._gpu_watch else ()
        self._tell(NodeLoad(self._info.name, percent, memory, gpus))
        self._loop.call_later(LOAD_S, self._measure)


def _output(message: dict[str, Any]) -> bytes:
    data = _json(message)
    if len(data) <= OUTPUT_LIMIT:
        return data
    text = (
        f"an output of {format_bytes(len(data))} was left out: more than {format_bytes(OUTPUT_LIMIT)} are not shown\n"
    )
    return _json({"type": "stream", "content": {"name": "stderr", "text": text}, "metadata": {}})


def _reply(content: dict[str, Any]) -> bytes:
    data = _json(content)
    if len(data) <= OUTPUT_LIMIT:
        return data
    texts: dict[str, Any] = {
        name: str(content[name])[:TEXT_LIMIT] for name in ("status", "ename", "evalue") if name in content
    }
    texts["traceback"] = ["\n".join(content.get("traceback", ()))[-TEXT_LIMIT:]]
    return _json(texts)


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, default=str).encode()
