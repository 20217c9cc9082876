"""Shows how a run goes where there is no browser: a line that changes on a terminal, lines elsewhere."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Hashable, Sequence
from contextlib import suppress
from typing import Protocol, TextIO

from handoff_lab._errors import HandoffError
from handoff_lab._units import format_seconds
from handoff_lab.run import Run
from handoff_lab.telemetry.record import FunctionRecord, FunctionStatus

_OVER = {
    FunctionStatus.DONE: "done",
    FunctionStatus.CACHED: "cached",
    FunctionStatus.FAILED: "FAILED",
    FunctionStatus.SKIPPED: "skipped",
    FunctionStatus.CANCELLED: "cancelled",
}
_REFRESH_S = 0.1
_SHARE = 0.05  # of the time that may go into the show
_BAR_WIDTH = 24
_MOST_LINES = 200  # functions that get a line each
_SHARES = 20  # lines for the functions of a larger run, besides those that failed


class _View(Protocol):
    def update(self) -> None: ...
    def close(self) -> None: ...


def follow(run: Run, screen: TextIO) -> None:
    """Show a run on ``screen`` until it is over; what made it fail is for the caller to ask.

    An interrupt ends the show and is passed on; the run goes on.
    """
    view: _View = _Bar(run, screen) if screen.isatty() else _Lines(run, screen)
    try:
        while run.status == "running":
            begin = time.monotonic()
            view.update()
            spent = time.monotonic() - begin
            with suppress(HandoffError):
                run.wait(max(_REFRESH_S, spent / _SHARE))
        view.update()
    finally:
        view.close()


def progress_line(functions: Sequence[FunctionRecord], elapsed_s: float) -> str:
    """The state of a run in one line: bar, count, time that went by and that is left, rate, failures, what runs.

    >>> progress_line([FunctionRecord("a", FunctionStatus.DONE), FunctionRecord("b", FunctionStatus.WAITING)], 4.0)
    '████████████············ 1/2 [0:04<0:04, 0.25/s]'
    """
    total = len(functions)
    over = sum(function.status in _OVER for function in functions)
    failed = sum(function.status is FunctionStatus.FAILED for function in functions)
    running = [f"{f.id} on {f.node}" for f in functions if f.status is FunctionStatus.RUNNING]
    done = over - sum(function.status is FunctionStatus.CACHED for function in functions)
    rate = done / elapsed_s if elapsed_s > 0 else 0.0
    left = _clock((total - over) / rate) if rate and total else "?"
    filled = _BAR_WIDTH * over // max(1, total)
    bar = "█" * filled + "·" * (_BAR_WIDTH - filled)
    parts = [f"{bar} {over}/{total} [{_clock(elapsed_s)}<{left}, {f'{rate:.3g}' if rate else '?'}/s]"]
    parts += [f"{failed} failed"] if failed else []
    parts += [", ".join(running)] if running else []
    return "  ".join(parts)


def _clock(seconds: float) -> str:
    """As people read a clock: ``0:04``, ``1:02:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _Lines:
    """For logs and pipes: a line for each function that ended, or for each twentieth part of many and each failure."""

    def __init__(self, run: Run, screen: TextIO) -> None:
        self._run = run
        self._screen = screen
        self._shown: set[Hashable] = set()
        self._shares = 0

    def update(self) -> None:
        functions = list(self._run.record.functions.values())
        many = len(functions) > _MOST_LINES
        width = len(str(len(functions)))
        over = [f for f in functions if f.status in _OVER and f.id not in self._shown]
        for function in sorted(over, key=lambda f: f.ended or math.inf):
            self._shown.add(function.id)
            if not many or function.status is FunctionStatus.FAILED:
                count = f"{len(self._shown):>{width}}/{len(functions)}"
                self._write(f"  {count}  {_OVER[function.status]:<9} {_tell(function)}")
        shares = _SHARES * len(self._shown) // max(1, len(functions))
        if many and shares > self._shares:
            self._shares = shares
            self._write(f"  {progress_line(functions, _elapsed_s(self._run))}")

    def close(self) -> None:
        pass

    def _write(self, line: str) -> None:
        self._screen.write(f"{line}\n")
        self._screen.flush()


class _Bar:
    """One line that changes."""

    def __init__(self, run: Run, screen: TextIO) -> None:
        self._run = run
        self._screen = screen

    def update(self) -> None:
        line = progress_line(list(self._run.record.functions.values()), _elapsed_s(self._run))
        room = shutil.get_terminal_size().columns - 1
        if len(line) > room:
            line = f"{line[: room - 1]}…"
        self._screen.write(f"\r\x1b[2K{line}")
        self._screen.flush()

    def close(self) -> None:
        self._screen.write("\n")
        self._screen.flush()


def _elapsed_s(run: Run) -> float:
    """Seconds since the run started, until its end."""
    record = run.record
    if record.started is None:
        return 0.0
    return (time.time() if record.ended is None else record.ended) - record.started


def _tell(function: FunctionRecord) -> str:
    where = f" on {function.node}" if function.node else ""
    took = "" if function.duration is None else f", {format_seconds(function.duration)}"
    failed = function.status is FunctionStatus.FAILED
    why = f": {function.error.splitlines()[0]}" if failed and function.error else ""
    return f"{function.id}{where}{took}{why}"
