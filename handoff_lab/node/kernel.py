"""The node's IPython kernel, started through jupyter_client: attempts with ``runs_in="kernel"``, and cells.

jupyter_client lives in a thread with an asyncio loop, so that importing and starting it holds nothing up. Its channels
are Unix sockets in the node's private directory, under CURVE where the kernel supports it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handoff_lab.messages import Attempt, AttemptId, HowToEnd
from handoff_lab.node.cells import Cells, OnDone, OnMessage, dead_kernel
from handoff_lab.node.channel import close_fds
from handoff_lab.node.deaths import death_of
from handoff_lab.node.kernel_side import DESCRIPTORS
from handoff_lab.node.lifeline import Lifeline, has_ended
from handoff_lab.node.listener import Listener
from handoff_lab.node.output import read_log
from handoff_lab.node.pool import SlotPool
from handoff_lab.node.room import Room
from handoff_lab.store.payload import Frames
from handoff_lab.store.segments import Buffer

if TYPE_CHECKING:
    from handoff_lab.transport.loop import Loop

log = logging.getLogger(__name__)

SHUTDOWN_S = 10.0  # jupyter_client gives up after 5
GUARD_S = 1.0  # for the guard to end what the kernel started


class KernelProcess:
    """The kernel, from ``start`` to ``close``; it is started again when it dies.

    Parameters
    ----------
    directory
        A directory of mode 0700 for the connection file and the channels. Its path must be short enough for the name
        of a Unix socket: at most 93 bytes.
    end_orphans
        Called when the kernel has ended, for what it left to this process because its guard was killed too.
    """

    def __init__(self, loop: Loop, directory: Path, end_orphans: Callable[[], None] = lambda: None) -> None:
        self.connection_file = directory / "kernel.json"
        self._loop = loop
        self._end_orphans = end_orphans
        self._launcher = _KernelLauncher(loop, self.connection_file, self._on_up, self._on_down)
        self._pool: SlotPool | None = None
        self._codes: dict[str, Buffer] = {}
        self._cells: Cells | None = None
        self._early: list[tuple[str, OnMessage, OnDone]] = []  # cells that came before there was a process

    @property
    def pid(self) -> int | None:
        """The kernel's process, when it is up."""
        return next(iter(self._pool.pids), None) if self._pool is not None else None

    @property
    def ready(self) -> bool:
        """Whether the kernel answers."""
        return self._cells is not None and self._cells.ready

    def start(self, listener: Listener, room: Room | None = None) -> None:
        """Begin to start it, about a second; whatever is asked before that waits. For ``room`` see ``SlotPool``."""
        self._pool = SlotPool(self._loop, self._launcher, listener, 1, log.error, room)
        self._pool.load(self._codes)

    def load(self, codes: Mapping[str, Buffer]) -> None:
        """Keep pickled code for attempts that name it."""
        self._codes.update(codes)
        if self._pool is not None:
            self._pool.load(codes)

    def unload(self, keys: Sequence[str]) -> None:
        """Forget code that is not needed any more."""
        for key in keys:
            self._codes.pop(key, None)
        if self._pool is not None:
            self._pool.unload(keys)

    def run(self, attempt: Attempt, inputs: Sequence[Frames]) -> None:
        """Run an attempt in the kernel's namespace, after those that were given before; see ``SlotPool.run``."""
        assert self._pool is not None, "the kernel was not started"
        self._pool.run(attempt, inputs)

    def cancel(self, id: AttemptId, how: HowToEnd = "interrupt") -> None:
        """End an attempt; killing one that runs costs the kernel its namespace."""
        if self._pool is not None:
            self._pool.cancel(id, how)

    def run_cell(self, source: str, on_message: OnMessage, on_done: OnDone) -> None:
        """Run a cell as a notebook would.

        Parameters
        ----------
        on_message
            Gets each output as ``{"type", "content", "metadata"}``, of the types in ``cells.SHOWN``.
        on_done
            Gets the content of the reply: ``{"status": "ok" | "error" | "aborted", ...}``.
        """
        if self._cells is None:
            self._early.append((source, on_message, on_done))
        else:
            self._cells.run(source, on_message, on_done)

    def interrupt(self) -> None:
        """Interrupt the cell that runs; an attempt is not touched."""
        self._launcher.interrupt()

    def close(self) -> None:
        """End the kernel and what it started."""
        if self._pool is not None:
            self._pool.close()
        if self._cells is not None:
            self._cells.close()
        self._launcher.close()

    def _on_up(self) -> None:
        if self._cells is None:
            self._cells = Cells(self._loop, self.connection_file, lambda: log.debug("the kernel is ready"))
            for source, on_message, on_done in self._early:
                self._cells.run(source, on_message, on_done)
            self._early.clear()

    def _on_down(self, status: int, log: str) -> None:
        self._end_orphans()
        reason = death_of(status, self.ready, log).message.replace("its process", "the kernel")
        if self._cells is not None:
            self._cells.kernel_died(reason)
        early, self._early = self._early, []
        for _, _, on_done in early:
            on_done(dead_kernel(reason))


class _KernelLauncher:
    """A ``Launcher`` whose one slot is the kernel."""

    def __init__(
        self, loop: Loop, connection_file: Path, on_up: Callable[[], None], on_down: Callable[[int, str], None]
    ) -> None:
        self._loop = loop
        self._connection_file = connection_file
        self._on_up = on_up
        self._on_down = on_down
        self._died: Callable[[int, int], None]
        self._lifeline = Lifeline()
        self._manager: Any = None
        self._handle: int | None = None  # pidfd of the guard
        self._log = -1  # what the kernel wrote before it was up, or while an attempt ran
        self._closed = False
        self._turn = asyncio.Lock()  # the manager does not bear two things at once
        self._asyncio = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._asyncio.run_forever, name="handoff-lab kernel", daemon=True)

    def watch(self, loop: Loop, died: Callable[[int, int], None], lost: Callable[[str], None]) -> None:
        """Report deaths from now on; another kernel can always be started."""
        self._died = died
        self._thread.start()

    def launch(self, slot: int, fds: Sequence[int]) -> None:
        """Start the kernel with these descriptors."""
        own: list[int] = []
        try:
            own.extend(os.dup(fd) for fd in (self._lifeline.read_fd, *fds, fds[-1]))
        except OSError:
            close_fds(own)
            raise
        self._forget_log()
        self._log = own.pop()
        self._submit(self._start(slot, own), lambda: self._down(slot, 1))

    def interrupt(self) -> None:
        """Send SIGINT to the kernel's process group."""
        if self._manager is not None and not self._closed:
            self._submit(self._interrupt(), lambda: None)

    def close(self) -> None:
        """End the kernel through its guard, and what jupyter_client keeps of it."""
        self._closed = True
        self._lifeline.cut()
        if self._handle is not None:  # jupyter_client would kill the guard while it ends what the kernel started
            has_ended(self._handle, GUARD_S)
        self._unwatch()
        self._forget_log()
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._shut_down(), self._asyncio).result(SHUTDOWN_S)
            self._asyncio.call_soon_threadsafe(self._asyncio.stop)
            self._thread.join()
        self._asyncio.close()

    # -- in the thread ---------------------------------------------------------

    def _submit(self, work: Coroutine[Any, Any, None], on_failure: Callable[[], None]) -> None:
        async def in_turn() -> None:
            try:
                async with self._turn:
                    await work
            except Exception:
                log.exception("the kernel manager failed")
                self._loop.call_soon_threadsafe(on_failure)

        asyncio.run_coroutine_threadsafe(in_turn(), self._asyncio)

    async def _start(self, slot: int, fds: Sequence[int]) -> None:
        environment = {**os.environ, DESCRIPTORS: ",".join(map(str, fds))}
        try:
            if self._closed:
                return
            if self._manager is None:
                self._manager = _new_manager(self._connection_file)
                await self._manager.start_kernel(pass_fds=fds, env=environment, stderr=fds[-1])
            else:
                await self._manager.restart_kernel(now=True, pass_fds=fds, env=environment, stderr=fds[-1])
        except Exception as error:
            os.write(fds[-1], f"{type(error).__name__}: {error}".encode())
            raise
        finally:
            close_fds(fds)
        pid = self._manager.provisioner.pid
        self._loop.call_soon_threadsafe(lambda: self._started(slot, pid))

    async def _interrupt(self) -> None:
        await self._manager.interrupt_kernel()

    async def _shut_down(self) -> None:
        async with self._turn:
            if self._manager is not None:
                await self._manager.shutdown_kernel(now=True)

    # -- in the agent's loop -----------------------------------------------------

    def _started(self, slot: int, pid: int) -> None:
        if self._closed:
            return
        self._handle = os.pidfd_open(pid)
        self._loop.add_reader(self._handle, lambda: self._ended(slot, pid))
        self._on_up()

    def _ended(self, slot: int, pid: int) -> None:
        self._unwatch()
        result = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # the manager reaps it
        assert result is not None
        status = result.si_status if result.si_code == os.CLD_EXITED else -result.si_status
        self._down(slot, status)

    def _down(self, slot: int, status: int) -> None:
        self._on_down(status, read_log(self._log))
        self._died(slot, status)

    def _forget_log(self) -> None:
        if self._log >= 0:
            os.close(self._log)
            self._log = -1

    def _unwatch(self) -> None:
        if self._handle is not None:
            self._loop.remove_reader(self._handle)
            os.close(self._handle)
            self._handle = None


def _ipython_dir() -> Path:
    """IPython's own folder; to ask IPython for it would load the whole of that."""
    return Path(os.environ.get("IPYTHONDIR") or "~/.ipython").expanduser()


def _new_manager(connection_file: Path) -> Any:
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from jupyter_core.paths import jupyter_path

    class OurSpecs(KernelSpecManager):
        """Jupyter's own specification of the Python kernel, with our module in front of the kernel."""

        def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
            spec = super().get_kernel_spec(kernel_name)
            module = "handoff_lab.node.kernel_side"
            spec.argv = [sys.executable, "-m", module, "--HistoryManager.enabled=False", "-f", "{connection_file}"]
            return spec

    return AsyncKernelManager(
        kernel_name="python3",
        kernel_spec_manager=OurSpecs(kernel_dirs=[*jupyter_path("kernels"), str(_ipython_dir() / "kernels")]),
        connection_file=str(connection_file),
        transport="ipc",
        transport_encryption="auto",
    )
