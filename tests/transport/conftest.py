"""A loop that runs until something is so."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from handoff_lab.transport.loop import Loop


class Pump:
    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self.loop = Loop(on_error=self.errors.append)
        self._tick()

    def until(self, condition: Callable[[], object], seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            if self.errors:
                raise self.errors[0]
            assert time.monotonic() < end, "it did not happen in time"
            self.loop.run_once()

    def run_for(self, seconds: float) -> None:
        """For what must not happen."""
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() >= end)

    def _tick(self) -> None:
        self.loop.call_later(0.05, self._tick)


@pytest.fixture
def pump() -> Iterator[Pump]:
    pump = Pump()
    yield pump
    pump.loop.close()
    assert not pump.errors
