"""Runs a program until standard input closes, then ends it and all that it started: ``python guard.py PROGRAM ...``.

Whoever holds the other end of standard input may be killed: the pipe closes with it.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys

import psutil

PATIENCE_S = 10
PR_SET_CHILD_SUBREAPER = 36


def main(command: list[str]) -> None:
    # Kernels leave the server's session and their nodes outlive them for a moment: orphans become our children.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGINT, signal.SIGTERM):  # those are for the tests, which close the pipe in their own time
        signal.signal(number, lambda *_: None)  # a handler, for what is ignored is inherited
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    select.select([sys.stdin, os.pidfd_open(server.pid)], [], [])
    server.terminate()
    _patiently(server)
    while family := psutil.Process().children(recursive=True):
        for process in psutil.wait_procs(family, timeout=PATIENCE_S)[1]:
            process.kill()


def _patiently(server: subprocess.Popen[bytes]) -> None:
    try:
        server.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


if __name__ == "__main__":
    main(sys.argv[1:])
