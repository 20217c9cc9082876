"""Graphs that several tests of allocation use."""

from __future__ import annotations

import pytest

from handoff_lab.graph import Argument, Function
from handoff_lab.resources import Resources

# Topcuoglu, Hariri and Wu (2002), figure 2 and table 1.
_SECONDS = {
    1: (14, 16, 9), 2: (13, 19, 18), 3: (11, 13, 19), 4: (13, 8, 17), 5: (12, 13, 10),
    6: (13, 16, 9), 7: (7, 15, 11), 8: (5, 11, 14), 9: (18, 12, 20), 10: (21, 7, 16),
}  # fmt: skip
_BYTES = {
    (1, 2): 18, (1, 3): 12, (1, 4): 9, (1, 5): 11, (1, 6): 14, (2, 8): 19, (2, 9): 16, (3, 7): 23,
    (4, 8): 27, (4, 9): 23, (5, 9): 13, (6, 8): 15, (7, 10): 17, (8, 10): 11, (9, 10): 13,
}  # fmt: skip


@pytest.fixture
def paper_functions() -> list[Function]:
    """The ten functions of the HEFT paper, in topological order."""
    return [
        Function(
            id,
            max,
            [Argument(source, nbytes=nbytes) for (source, target), nbytes in _BYTES.items() if target == id],
            duration=dict(zip(("p1", "p2", "p3"), seconds, strict=True)),
        )
        for id, seconds in _SECONDS.items()
    ]


@pytest.fixture
def paper_nodes() -> dict[str, Resources]:
    """The three processors of the HEFT paper."""
    return {name: Resources({"cpu": 1}) for name in ("p1", "p2", "p3")}
