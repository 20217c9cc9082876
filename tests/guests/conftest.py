"""What tests of guests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import handoff_lab as hl


@pytest.fixture
def cluster() -> Iterator[hl.Cluster]:
    with hl.Cluster({}) as cluster:
        yield cluster


def place_of(node: hl.Node) -> str:
    """What the system that lends its place calls it."""
    return node.labels["guest of"].partition(" ")[2]
