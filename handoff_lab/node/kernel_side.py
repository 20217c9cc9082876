"""The node's kernel, as the agent's kernel manager starts it: a real IPython kernel, with a guard above it.

The process that is started stays as the guard: it ends what the kernel left behind, and the kernel when the agent is
gone.
Beside its own channels the kernel serves the agent as a slot does: its attempts run one at a time between cells, in
the kernel's namespace.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import sys
from pathlib import Path
from typing import Any, NoReturn

from handoff_lab.node.lifeline import Lifeline, adopt_orphans, arm, end_descendants

DESCRIPTORS = "HANDOFF_LAB_DESCRIPTORS"  # lifeline, connection, fence, log

FAREWELL_S = 0.5  # from the end of the first to the end of the last descriptor of a killed agent


def main() -> NoReturn:
    """Fork: below the kernel, above its guard."""
    agent, *slot = map(int, os.environ.pop(DESCRIPTORS).split(","))
    adopt_orphans()
    arm(agent, signal.SIGCONT)
    guard = Lifeline()
    pid = os.fork()
    if pid == 0:
        arm(guard.read_fd)
        arm(agent)
        os.close(agent)
        os.environ["JPY_PARENT_PID"] = str(os.getppid())  # the kernel's parent is the guard, not who started that
        _be_kernel(*slot)
        sys.exit(0)
    for fd in slot:
        os.close(fd)
    _guard(pid, agent)


def _guard(pid: int, agent: int) -> NoReturn:
    """Wait for the kernel's end or the agent's, and leave nothing of theirs; end as the kernel did."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # sent to the process group, meant for the kernel
    select.select([os.pidfd_open(pid), agent], [], [])
    ended, status = os.waitpid(pid, os.WNOHANG)
    # A killed agent's descriptors close one after the other: the kernel may see its connection end, and leave with 0,
    # before the lifeline ends.
    patience_s = FAREWELL_S if ended and status == 0 else 0
    abandoned = select.select([agent], [], [], patience_s)[0]
    end_descendants()
    if abandoned:
        directory = Path(sys.argv[sys.argv.index("-f") + 1]).parent
        for path in directory.glob("kernel*"):
            path.unlink(missing_ok=True)
        os._exit(0)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def _be_kernel(connection: int, fence: int, log: int) -> None:
    from ipykernel.kernelapp import IPKernelApp
    from tornado.ioloop import IOLoop

    from handoff_lab.node.codes import Codes
    from handoff_lab.node.fence import Fenced
    from handoff_lab.node.output import Capture
    from handoff_lab.node.slot import IDLE_S, Slot

    app: Any = IPKernelApp.instance()
    app.initialize(sys.argv[1:])
    sock, capture = socket.socket(fileno=connection), Capture(log)
    slot = Slot(sock, Fenced(fence), capture, Codes(app.shell.user_ns, shared=True))

    loop: Any = IOLoop.current()
    idle = loop.call_later(IDLE_S, slot.release)

    def serve(*_: object) -> None:
        nonlocal idle
        loop.remove_timeout(idle)
        capture.take()  # what was written since the last attempt is none's
        before = signal.getsignal(signal.SIGINT)
        slot.handle_sigint()
        try:
            slot.serve_once()
        except (EOFError, OSError):  # the agent closed its end, or a function closed ours
            os._exit(0)
        finally:
            capture.restore()
            signal.signal(signal.SIGINT, before)
            idle = loop.call_later(IDLE_S, slot.release)

    loop.add_handler(sock.fileno(), serve, IOLoop.READ)
    slot.hello()
    app.start()


if __name__ == "__main__":
    main()
