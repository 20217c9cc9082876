"""What the end of a slot's process says about the function that ran in it."""

from __future__ import annotations

import signal

from handoff_lab.messages import Attempt, Failure, FailureKind
from handoff_lab.node.slot import CONNECTION_LOST


def death_of(status: int, began: bool = True, log: str = "", in_set_up: bool = False) -> Failure:
    r"""The failure of what ran when a process ended with this exit code, or by this signal when it is negative.

    ``log`` tells why it was never ready, when it was not; ``in_set_up``, whether it was the run's set-up that ran.

    Examples
    --------
    >>> death_of(-11).message
    'its process was killed by SIGSEGV'
    >>> death_of(3).message
    'its process ended with exit code 3, as by os._exit(3)'
    >>> death_of(1, began=False, log="Traceback ...\nImportError: no\n").message
    'its process ended with exit code 1, before it was ready: ImportError: no'
    """
    message = f"its process {_how(status, began)}" + (", in the set-up of the run" if in_set_up else "")
    if not began:
        reason = log.strip().rpartition("\n")[2]
        message += f", before it was ready: {reason}" if reason else ", before it was ready"
    return Failure(FailureKind.DIED, message)


def timeout_of(attempt: Attempt, failure: Failure | None) -> Failure:
    """The failure of what ran too long; ``failure`` is what the interrupt made of it, if it answered to that."""
    traceback = failure.traceback if failure is not None else ""
    message = f"it ran longer than its timeout of {attempt.timeout_s:g} s"
    return Failure(FailureKind.TIMEOUT, message, "TimeoutError", traceback)


def _how(status: int, began: bool) -> str:
    if status == -signal.SIGKILL:
        return "was killed by SIGKILL, as when memory runs out"
    if status < 0:
        return f"was killed by {_name(-status)}"
    if status == CONNECTION_LOST:
        return "lost its connection: did it close file descriptors that are not its own?"
    return f"ended with exit code {status}" + (f", as by os._exit({status})" if began else "")


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
