"""Shows how a run goes: one line that changes on a terminal, a line for each function elsewhere."""

from __future__ import annotations

import shutil
import time
from collections.abc import Hashable
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TextIO

from handoff_lab import telemetry
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
_BAR_WIDTH = 24


class _View(Protocol):
    def update(self) -> None: ...
    def close(self) -> None: ...


def follow(run: Run, screen: TextIO) -> None:
    """Show a run on ``screen`` until it is over; what made it fail is for the caller to ask."""
    news: SimpleQueue[str] = SimpleQueue()

    def handler(event: tuple[str, ...], numbers: dict[str, float], facts: dict[str, Any], config: object) -> None:
        if facts.get("run") == run.id:
            news.put(event[-1])

    telemetry.attach(handler, ("handoff",), handler)
    view: _View = _Bar(run, screen) if screen.isatty() else _Lines(run, screen)
    try:
        while run.status == "running":
            view.update()
            _next(news)
        view.update()
    finally:
        telemetry.detach(handler)
        view.close()


def _next(news: SimpleQueue[str]) -> None:
    """Wait for news, but not for long: time is shown too. Takes all that came together."""
    try:
        news.get(timeout=_REFRESH_S)
        while True:
            news.get_nowait()
    except Empty:
        pass


class _Lines:
    """A line for each function that ended, for logs and pipes."""

    def __init__(self, run: Run, screen: TextIO) -> None:
        self._run = run
        self._screen = screen
        self._shown: set[Hashable] = set()

    def update(self) -> None:
        functions = list(self._run.record.functions.values())
        width = len(str(len(functions)))
        for function in functions:
            if function.status in _OVER and function.id not in self._shown:
                self._shown.add(function.id)
                count = f"{len(self._shown):>{width}}/{len(functions)}"
                print(f"  {count}  {_OVER[function.status]:<9} {_tell(function)}", file=self._screen, flush=True)

    def close(self) -> None:
        pass


class _Bar:
    """One line: a bar, the count, the time, and what runs now."""

    def __init__(self, run: Run, screen: TextIO) -> None:
        self._run = run
        self._screen = screen
        self._began = time.monotonic()

    def update(self) -> None:
        functions = list(self._run.record.functions.values())
        over = sum(function.status in _OVER for function in functions)
        filled = _BAR_WIDTH * over // max(1, len(functions))
        running = [f"{f.id} on {f.node}" for f in functions if f.status is FunctionStatus.RUNNING]
        bar = "█" * filled + "·" * (_BAR_WIDTH - filled)
        line = f"{bar} {over}/{len(functions)}  {time.monotonic() - self._began:.1f} s  {', '.join(running)}"
        room = shutil.get_terminal_size().columns - 1
        if len(line) > room:
            line = f"{line[: room - 1]}…"
        self._screen.write(f"\r\x1b[2K{line}")
        self._screen.flush()

    def close(self) -> None:
        self._screen.write("\n")
        self._screen.flush()


def _tell(function: FunctionRecord) -> str:
    where = f" on {function.node}" if function.node else ""
    took = "" if function.duration is None else f", {format_seconds(function.duration)}"
    failed = function.status is FunctionStatus.FAILED
    why = f": {function.error.splitlines()[0]}" if failed and function.error else ""
    return f"{function.id}{where}{took}{why}"
