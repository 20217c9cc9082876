"""What is learnt of functions, and how much of it is kept."""

from __future__ import annotations

import pytest

from handoff_lab.node import durations
from handoff_lab.node.durations import Durations


def test_one_long_run_does_not_make_a_brief_function_long() -> None:
    learnt = Durations()
    learnt.add("f", 0.0001)
    learnt.add("f", 0.002)
    assert learnt.brief("f")
    learnt.add("f", 0.05)
    assert not learnt.brief("f")


def test_it_does_not_grow_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durations, "_REMEMBERED", 3)
    learnt = Durations()
    for name in "abcd":
        learnt.add(name, 0.0001)
    assert [name for name in "abcd" if learnt.known(name)] == ["d"]
    assert learnt.brief("a")  # as those that lately ran first
