"""No orphans: a process that ends with its parent whatever either is doing, and the end of everything below a process.

Linux only: ``F_SETSIG``, ``PR_SET_CHILD_SUBREAPER`` and ``/proc`` do the work.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import signal
from collections import defaultdict
from collections.abc import Collection, Iterator
from typing import ClassVar

_F_SETSIG = 10  # not in fcntl before Python 3.13
_PR_SET_CHILD_SUBREAPER = 36


class Lifeline:
    """A pipe that nothing is ever written to; children die when its write end closes.

    The parent keeps the object. A child gets the number ``read_fd`` (by fork or ``pass_fds``) and calls ``arm``. No one
    but the parent holds the write end: forked children let go of it, whoever forks them.
    """

    _held: ClassVar[set[Lifeline]] = set()

    def __init__(self) -> None:
        self.read_fd, self._write_fd = os.pipe2(os.O_CLOEXEC)
        self._held.add(self)

    def cut(self) -> None:
        """In the parent: end all children."""
        self._held.discard(self)
        os.close(self._write_fd)
        os.close(self.read_fd)

    @classmethod
    def let_go(cls) -> None:
        """In a child that was just forked: only the parent's end counts."""
        for lifeline in cls._held:
            os.close(lifeline._write_fd)
        cls._held.clear()


os.register_at_fork(after_in_child=Lifeline.let_go)


def arm(read_fd: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Let the kernel send a signal to this process when the other end of the pipe closes.

    SIGKILL does not wait for the interpreter: a process that holds the GIL in C code dies as well. SIGCONT is for those
    who end by themselves: were they stopped, they would not notice.
    """
    # Signals belong to the open file, which all forked children share: each needs one of its own.
    own = os.open(f"/proc/self/fd/{read_fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.fcntl(own, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(own, _F_SETSIG, number)
    fcntl.fcntl(own, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
    if select.select([own], [], [], 0)[0]:  # the parent was gone already: no signal will come
        os.kill(os.getpid(), number)


def adopt_orphans() -> None:
    """Become the parent of all descendants whose own parent ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


def reap() -> dict[int, int]:
    """Exit codes of all children that have ended, by pid; of those that a signal ended its number, negative."""
    codes: dict[int, int] = {}
    with contextlib.suppress(ChildProcessError):  # there is none left
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            codes[ended[0]] = os.waitstatus_to_exitcode(ended[1])
    return codes


def has_ended(pidfd: int, within_s: float = 0.0) -> bool:
    """Whether a process has ended, or does so meanwhile, though its parent may not have heard of it yet."""
    poller = select.poll()  # there may be more files open than ``select`` can tell apart
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(within_s * 1000))


def end_descendants(keep: Collection[int] = ()) -> None:
    """Kill all that descends from this process, except the children ``keep`` and what is below them, and reap it.

    This process must have called ``adopt_orphans``: what loses its parent on the way comes here and is killed next.
    """
    while doomed := list(descendants(os.getpid(), keep)):
        for pid in doomed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in doomed:
            with contextlib.suppress(ChildProcessError):  # not a child of ours, or not yet
                os.waitpid(pid, 0)


def descendants(root: int, keep: Collection[int] = ()) -> Iterator[int]:
    """Pids of all that descends from ``root``, without the children ``keep`` and what is below them."""
    children = defaultdict(list)
    for pid, parent in _processes():
        children[parent].append(pid)
    waiting = [pid for pid in children[root] if pid not in keep]
    while waiting:
        pid = waiting.pop()
        yield pid
        waiting += children[pid]


def _processes() -> Iterator[tuple[int, int]]:
    """Pid and parent's pid of every process that can be seen."""
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with contextlib.suppress(OSError), open(f"{entry.path}/stat", "rb") as file:
                # The name of the program, in parentheses, may hold anything: count from its end.
                yield int(entry.name), int(file.read().rpartition(b")")[2].split()[1])
