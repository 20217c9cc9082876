"""Where a scenario of faults plays: the marks of its functions, waiting for what happens, and how functions end."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import misdeeds
from misdeeds import Mark
from victims.base import Step, Work

LOOK_S = 0.005
_BEGIN_S = 60.0  # that an engine may take to begin a function that nothing hinders


@dataclass(frozen=True, slots=True)
class Finding:
    """What was seen: words with places for figures (those in seconds end in ``_s``), and what the engine told."""

    words: str
    figures: dict[str, float] = field(default_factory=dict)
    told: str = ""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a function ended, if it did."""

    done: bool
    after_s: float
    value: Any = None
    error: Exception | None = None

    @property
    def words(self) -> str:
        if not self.done:
            return f"waits for ever (over {self.after_s:.0f} s)"
        return f"{type(self.error).__name__} after {{after_s}}" if self.error else "ends after {after_s}"

    @property
    def told(self) -> str:
        return f"{type(self.error).__name__}: {self.error}" if self.error else ""

    def naming(self, **patterns: str) -> str:
        """Which of these the error names."""
        named = [what for what, pattern in patterns.items() if re.search(pattern, self.told)]
        return f"names {', '.join(named) or 'nothing'}" if self.error else ""


@dataclass(frozen=True, slots=True)
class Scene:
    """Where marks are left, and how long anybody waits for what a fault may hinder."""

    engine: str
    here: Path
    patience_s: float

    def step(self, name: str, code: Callable[..., Any], **options: Any) -> Step:
        return Step(name, code, extra=(self.here,), **options)

    def marks(self, name: str) -> list[Mark]:
        return misdeeds.marks(self.here, name)

    def begun(self, name: str, times: int = 1) -> int:
        """Wait until a function began; the process that runs it."""
        if not self.happens(lambda: len(self.marks(name)) >= times, _BEGIN_S):
            raise RuntimeError(f"{name} does not begin")
        return self.marks(name)[-1].pid

    def happens(self, condition: Callable[[], object], seconds: float | None = None) -> bool:
        end = time.monotonic() + (self.patience_s if seconds is None else seconds)
        while not condition():
            if time.monotonic() > end:
                return False
            time.sleep(LOOK_S)
        return True

    def ending(self, work: Work, name: str, since: float) -> Ending:
        done = self.happens(lambda: work.done(name), since + self.patience_s - time.monotonic())
        after_s = time.monotonic() - since
        if not done:
            return Ending(False, after_s)
        try:
            return Ending(True, after_s, work.value(name))
        except Exception as error:  # of whatever kind: it is what the engine tells
            return Ending(True, after_s, error=error)


def joined(*parts: str) -> str:
    return "; ".join(filter(None, parts))


def kill(pid: int) -> float:
    os.kill(pid, signal.SIGKILL)
    return time.monotonic()
