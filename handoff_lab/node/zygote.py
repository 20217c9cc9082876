"""The process that forks a node's slots and sees to it that nothing of theirs outlives them.

It is forked from the agent before threads or sockets exist, is the parent of the slots and, as a subreaper, of whatever
their functions started and abandoned. Between it and the agent is a socket that keeps the bounds of messages:

- to the zygote: ``slot`` and variables of its environment (JSON), with the descriptors of that slot's connection,
  fence and log;
- from the zygote: ``slot, status`` when it died (as ``os.waitstatus_to_exitcode`` tells it).

The end of that socket is the end of everything below.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import shutil
import signal
import socket
import struct
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Protocol

from handoff_lab.node.lifeline import Lifeline, adopt_orphans, arm, end_descendants, reap
from handoff_lab.node.slot import run_slot

if TYPE_CHECKING:
    from handoff_lab.transport.loop import Loop

_ORDER = struct.Struct("<I")
_ORDER_LIMIT = 2**16  # bytes of an order
_DEATH = struct.Struct("<Ii")
_NOTHING: Mapping[str, str] = {}
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # the agent's to decide


class Launcher(Protocol):
    """What starts the processes of a ``SlotPool``."""

    def watch(self, loop: Loop, died: Callable[[int, int], None], lost: Callable[[str], None]) -> None:
        """Call ``died(slot, exit code)`` when one ended, ``lost(reason)`` when no more can be started. Called first."""

    def launch(self, slot: int, fds: Sequence[int]) -> None:
        """Start a process that serves ``fds``: connection, fence, log. They stay the caller's."""


class Zygote:
    """The agent's handle on its zygote; a ``Launcher``."""

    def __init__(self, pid: int, control: socket.socket, lifeline: Lifeline) -> None:
        self.pid = pid
        self._control = control
        self._lifeline = lifeline
        self._loop: Loop | None = None

    @classmethod
    def fork(cls, remove: Sequence[Path] = ()) -> Zygote:
        """Fork the zygote; call it first thing in the agent, while it has one thread and no zmq context.

        Parameters
        ----------
        remove
            Directories that the zygote deletes when everything has ended, however it ended.
        """
        adopt_orphans()  # if the zygote is killed, what was below it comes to the agent
        lifeline = Lifeline()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            ours.close()
            _Nursery(theirs, lifeline.read_fd).run(remove)
        theirs.close()
        return cls(pid, ours, lifeline)

    def watch(self, loop: Loop, died: Callable[[int, int], None], lost: Callable[[str], None]) -> None:
        """Report deaths from now on."""
        self._loop = loop
        self._control.setblocking(False)

        def read() -> None:
            while self._loop is not None:
                try:
                    data = self._control.recv(_DEATH.size)
                except BlockingIOError:
                    return
                except ConnectionResetError:
                    data = b""
                if not data:
                    self._forget()
                    lost("its zygote was killed")
                    return
                died(*_DEATH.unpack(data))

        loop.add_reader(self._control.fileno(), read)

    def launch(self, slot: int, fds: Sequence[int], environment: Mapping[str, str] = _NOTHING) -> None:
        """Fork a slot, with these variables set in its environment: a few milliseconds."""
        order = _ORDER.pack(slot) + json.dumps(dict(environment)).encode()
        with contextlib.suppress(BrokenPipeError):  # the zygote is gone: ``lost`` tells
            socket.send_fds(self._control, [order], list(fds))

    def close(self) -> None:
        """End all slots and what they started, and wait until they are gone."""
        self._forget()
        self._control.close()
        self._lifeline.cut()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def _forget(self) -> None:
        if self._loop is not None:
            self._loop.remove_reader(self._control.fileno())
            self._loop = None


class _Nursery:
    """What runs in the zygote."""

    def __init__(self, control: socket.socket, lifeline_fd: int) -> None:
        self._control = control
        self._lifeline_fd = lifeline_fd
        self._slots: dict[int, int] = {}  # by pid

    def run(self, remove: Sequence[Path]) -> NoReturn:
        """Serve until the agent is gone, then leave nothing."""
        os.setsid()
        adopt_orphans()
        arm(self._lifeline_fd, signal.SIGCONT)
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        gc.collect()
        gc.freeze()  # slots share these pages as long as nobody writes to them
        try:
            self._serve()
        finally:
            end_descendants()
            for directory in remove:
                shutil.rmtree(directory, ignore_errors=True)
            os._exit(0)

    def _serve(self) -> None:
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while True:
            readable = select.select([self._control.fileno(), wake_read], [], [])[0]
            if wake_read in readable:
                os.read(wake_read, 4096)
                self._reap()
            if self._control.fileno() in readable:
                data, fds, _, _ = socket.recv_fds(self._control, _ORDER_LIMIT, 3)
                if not data:
                    return
                self._fork(_ORDER.unpack_from(data)[0], fds, json.loads(data[_ORDER.size :]))

    def _fork(self, slot: int, fds: Sequence[int], environment: Mapping[str, str]) -> None:
        try:
            pid = os.fork()
        except OSError as error:  # too many processes: the pool tries again
            self._report(slot, error.errno or 1)
        else:
            if pid == 0:
                self._be_slot(fds, environment)
            self._slots[pid] = slot
        for fd in fds:
            os.close(fd)

    def _be_slot(self, fds: Sequence[int], environment: Mapping[str, str]) -> NoReturn:
        try:
            os.environ.update(environment)
            signal.set_wakeup_fd(-1)
            for number in (*_IGNORED, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            os.setsid()  # an interrupt or a kill of the agent's process group is none of the slot's
            adopt_orphans()  # so that what a function abandons is known to be this slot's
            arm(self._lifeline_fd)
            self._control.close()
            run_slot(*fds)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)

    def _reap(self) -> None:
        orphans = False
        for pid, status in reap().items():
            slot = self._slots.pop(pid, None)
            if slot is not None:
                orphans = True
                self._report(slot, status)
        if orphans:
            # What a dead slot had below it is ours now; whatever is not a slot is such an orphan.
            end_descendants(keep=self._slots)

    def _report(self, slot: int, status: int) -> None:
        with contextlib.suppress(BrokenPipeError):  # the agent is gone: its end of file comes next
            self._control.send(_DEATH.pack(slot, status))
