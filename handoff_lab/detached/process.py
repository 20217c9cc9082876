"""The processes of a detached coordinator: the coordinator itself, and a small one that starts it again when it dies.

Neither belongs to the notebook: not to its session, nor among its children.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from handoff_lab._errors import BackendError, HandoffError
from handoff_lab.detached.place import Place
from handoff_lab.node.lifeline import adopt_orphans, reap

ENDED, TAKEN = 0, 3  # exit codes of a coordinator that is not to be started again
START_S = 60.0
_TAIL = 2000  # characters of its log that an error shows
_LIVED_S = 5.0  # a coordinator that lived so long was not at fault from the start
_TRIES = 3
_PAUSE_S = 1.0  # before another try, when the one before failed at once
_SIGNALS = {signal.SIGTERM, signal.SIGCHLD}

Serve = Callable[[Place, Callable[[], None]], int]


def launch(place: Place) -> None:
    """Start a coordinator and wait until it listens; where there is one, nothing happens.

    Raises
    ------
    BackendError
        It could not be started; the message says why.
    """
    if not place.exists:
        raise BackendError(f"the detached cluster {place.name!r} was closed")
    path = os.pathsep.join(str(path) or str(Path.cwd()) for path in sys.path)
    place.append(place.log_file.name, b"")  # which makes it, for this user alone
    with open(place.log_file, "ab") as log:
        done = subprocess.run(
            [sys.executable, "-m", "handoff_lab.detached", str(place.path)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,
            check=False,
        )
    if done.returncode:
        written = place.log_file.read_text(errors="replace").strip()[-_TAIL:] if place.log_file.is_file() else ""
        raise BackendError(f"the detached coordinator could not be started: {written or 'it wrote nothing'}")


def main(place: Place, serve: Serve) -> int:
    """Leave a supervisor behind, and return when the coordinator listens, or will not."""
    read, write = os.pipe()
    if os.fork() == 0:
        os.close(read)
        os._exit(supervise(place, serve, write))
    os.close(write)
    ready = select.select([read], [], [], START_S)[0] and os.read(read, 1)
    return 0 if ready else 1


def supervise(place: Place, serve: Serve, ready: int) -> int:
    """Run a coordinator, and run it again when it is killed."""
    adopt_orphans()  # nodes that a killed coordinator started are reaped here
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # whoever started this may have it ignored
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # they wait until they are asked for
    failures = 0
    while True:
        started = time.monotonic()
        child = os.fork()
        if child == 0:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            os._exit(_serve(place, serve, ready))
        if ready >= 0:
            os.close(ready)
        code, is_told_to_end = _wait_for(child)
        if code in (ENDED, TAKEN) or is_told_to_end or (ready >= 0 and code > 0) or not place.exists:
            return code
        ready = -1
        failures = 0 if time.monotonic() - started > _LIVED_S else failures + 1
        if failures == _TRIES:
            return 1
        if failures > 1:
            time.sleep(_PAUSE_S)


def _serve(place: Place, serve: Serve, ready: int) -> int:
    def tell() -> None:
        if ready >= 0:
            os.write(ready, b"\0")
            os.close(ready)

    try:
        return serve(place, tell)
    except HandoffError as error:  # what it says is enough for the user, who sees it
        sys.stderr.write(f"{error}\n")
    except BaseException:
        traceback.print_exc()
    return 1


def _wait_for(child: int) -> tuple[int, bool]:
    """Reap whatever ends, until it is ``child``: its exit code, and whether a SIGTERM came, which is for the child."""
    is_told = False
    while True:
        if signal.sigwait(_SIGNALS) == signal.SIGTERM:
            is_told = True
            os.kill(child, signal.SIGTERM)
            continue
        codes = reap()
        if child in codes:
            return codes[child], is_told
