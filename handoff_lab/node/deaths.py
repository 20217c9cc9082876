"""What the end of a slot's process says about the function that ran in it."""

from __future__ import annotations

import signal

from handoff_lab.messages import Failure, FailureKind
from handoff_lab.node.slot import CONNECTION_LOST


def death_of(status: int, began: bool = True) -> Failure:
    """The failure of what ran when a process ended with this exit code, or by this signal when it is negative.

    Examples
    --------
    >>> death_of(-11).message
    'its process was killed by SIGSEGV'
    >>> death_of(3).message
    'its process ended with exit code 3, as by os._exit(3)'
    """
    return Failure(FailureKind.DIED, f"its process {_how(status)}{'' if began else ', before it was ready'}")


def _how(status: int) -> str:
    if status == -signal.SIGKILL:
        return "was killed by SIGKILL, as when memory runs out"
    if status < 0:
        return f"was killed by {_name(-status)}"
    if status == CONNECTION_LOST:
        return "lost its connection: did it close file descriptors that are not its own?"
    return f"ended with exit code {status}, as by os._exit({status})"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
