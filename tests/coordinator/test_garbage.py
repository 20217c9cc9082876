"""The garbage collector is as it was after a pause, whoever paused it before."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Iterator

import pytest

from handoff_lab.coordinator import garbage
from handoff_lab.coordinator.garbage import collection_paused
from handoff_lab.coordinator.request import Request
from handoff_lab.graph import Function


@pytest.fixture(params=[True, False], ids=["on", "off"])
def was_on(request: pytest.FixtureRequest) -> Iterator[bool]:
    (gc.enable if request.param else gc.disable)()
    yield request.param
    gc.enable()


def test_a_pause_within_a_pause_leaves_it_as_it_was(was_on: bool) -> None:
    with collection_paused():
        with collection_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled() is was_on


def test_an_error_ends_the_pause(was_on: bool) -> None:
    with pytest.raises(TypeError, match="a DAG is needed"):
        Request.make(Function("f", len), None)  # type: ignore[arg-type]
    assert gc.isenabled() is was_on


class Knot:
    """Garbage that only a collection finds."""

    def __init__(self) -> None:
        self.self = self


def test_many_new_objects_are_old_after_a_pause_and_cycles_among_them_are_still_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gc.collect()
    monkeypatch.setattr(garbage, "_due", float("inf"))
    with collection_paused():
        kept = [[number] for number in range(30_000)]
        knot = weakref.ref(Knot())
    assert gc.get_count()[0] < len(kept)
    gc.collect(1)
    assert knot() is not None
    monkeypatch.setattr(garbage, "_due", 0.0)
    with collection_paused():
        kept += [[number] for number in range(30_000)]
    assert knot() is None
    assert garbage._due > time.monotonic()
